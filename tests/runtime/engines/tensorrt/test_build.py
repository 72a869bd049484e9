"""Builds with TensorRT-RTX's true compiler: what reaches it, what it refuses, how it is stopped."""

from dataclasses import replace

import numpy as np
import onnx
import polygraphy.config
import pytest
import tensorrt_rtx as trt
from onnx import TensorProto, helper

from dossr.runtime.engines.tensorrt import build
from dossr.runtime.engines.tensorrt.build import BuildRequest, Monitor, build_plan
from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.engines.tensorrt.plan import LOG
from dossr.runtime.engines.tensorrt.progress import BuildProgress
from dossr.runtime.errors import EngineError

SIDE = 8
SHAPE = (1, 2, 16, SIDE)


def _save(path, nodes, element, weights=(), shape=SHAPE):
    """A network from x to y, both of one shape, any batch."""
    values = [helper.make_tensor_value_info(n, element, ["batch", *shape[1:]]) for n in "xy"]
    graph = helper.make_graph(nodes, "g", values[:1], values[1:], list(weights))
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 23)]), path)
    return path


@pytest.fixture
def product(tmp_path):
    """A network of one product, whose engine is small."""
    weight = helper.make_tensor("w", TensorProto.FLOAT, [SIDE, SIDE], np.eye(SIDE).ravel())
    node = helper.make_node("MatMul", ["x", "w"], ["y"])
    return _save(tmp_path / "product.onnx", [node], TensorProto.FLOAT, [weight])


def _attention(folder, element, shape=SHAPE):
    """Self-attention of shape (batch, heads, tokens, channels)."""
    nodes = [
        helper.make_node("Neg", ["x"], ["k"]),
        helper.make_node("Abs", ["x"], ["v"]),
        helper.make_node("Attention", ["x", "k", "v"], ["y"]),
    ]
    return _save(folder / "attention.onnx", nodes, element, shape=shape)


def _request(path, shape=SHAPE, **more):
    more = {"capabilities": ("8.9",), **more}
    return BuildRequest(path, {"x": (shape,) * 3}, BuildOptions(), "fp32", **more)


def _silent():
    return BuildProgress(lambda share, left: None)


def test_an_engine_is_built_without_a_gpu_and_its_progress_is_shown(product):
    seen = []
    data, notes = build_plan(_request(product), BuildProgress(lambda *told: seen.append(told)))
    assert memoryview(data).nbytes > 1000
    assert notes["seconds"] >= 0
    assert notes["activation_memory"] > 0
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert shares[-1] == 1.0


def test_one_engine_serves_several_gpus_and_sizes(product):
    small, large = (2, 2, 16, SIDE), (4, 2, 16, SIDE)
    request = replace(
        _request(product, capabilities=("8.6", "8.9", "12.0")), profile={"x": (SHAPE, small, large)}
    )
    assert memoryview(build_plan(request, _silent())[0]).nbytes > 1000


def test_the_gpu_is_current_in_the_thread_that_builds(product, rtx):
    memory = rtx.memory()
    build_plan(_request(product), _silent(), memory.active)
    assert memory.entered == 1


HEADS, TOKENS = 5, 1024


@pytest.mark.parametrize(
    ("element", "channels", "is_fused"),
    [
        (TensorProto.FLOAT16, 64, True),
        (TensorProto.FLOAT16, 320, False),  # no fused kernel has such heads
        (TensorProto.FLOAT, 64, False),  # nor float32
    ],
)
def test_attention_is_fused_where_a_kernel_serves_and_compiled_where_none_does(
    tmp_path, element, channels, is_fused
):
    """Without fusion the logits of all heads and tokens are stored."""
    shape = (1, HEADS, TOKENS, channels)
    request = _request(_attention(tmp_path, element, shape), shape)
    _, notes = build_plan(request, _silent())
    values = shape[1] * shape[2] * shape[3]
    size = 2 if element == TensorProto.FLOAT16 else 4
    logits = HEADS * TOKENS**2 * size
    assert (notes["activation_memory"] < 4 * values * size + logits / 2) is is_fused


@pytest.mark.parametrize(
    ("make", "more", "expected"),
    [
        (lambda folder: folder / "none.onnx", {}, "cannot build none.onnx: .*cannot be found"),
        (lambda folder: _damaged(folder), {}, "Failed to parse the ONNX model"),
        (None, {"shape": (1, 3, 16, SIDE)}, "size is outside what the engine is built for"),
        (None, {"capabilities": ("7.5",)}, r"7\.5 \(Turing\) are not served.*build for 8\.0 and newer"),
        (None, {"capabilities": ()}, "finds no GPU, or the driver is older"),
    ],
)  # fmt: skip
def test_a_refusal_is_one_line_that_says_what_it_means(
    tmp_path, product, capfd, make, more, expected
):
    path = make(tmp_path) if make else product
    with pytest.raises(EngineError, match=expected) as raised:
        build_plan(_request(path, **more), _silent())
    assert "\n" not in str(raised.value)
    assert capfd.readouterr() == ("", "")  # the compiler and Polygraphy print nothing beside it


def _damaged(folder):
    path = folder / "damaged.onnx"
    path.write_bytes(b"no network")
    return path


def test_the_last_builds_messages_are_forgotten(product, tmp_path):
    with pytest.raises(EngineError):
        build_plan(_request(tmp_path / "none.onnx"), _silent())
    build_plan(_request(product), _silent())
    assert LOG.errors == []


def test_ctrl_c_ends_a_build_at_its_next_step_and_another_can_follow(product, ctrl_c_at):
    show, seen = ctrl_c_at(2)
    with pytest.raises(KeyboardInterrupt):
        build_plan(_request(product), BuildProgress(show))
    assert max(seen) < 1.0
    assert build_plan(_request(product), _silent())[0]


@pytest.fixture
def configured(product, monkeypatch):
    """The builder's configuration for a request, as TensorRT-RTX or as TensorRT would get it."""
    from polygraphy.backend.trt import NetworkFromOnnxPath

    builder, network, _parser = NetworkFromOnnxPath(str(product), strongly_typed=True)()

    def configure(library="tensorrt-rtx", **fields):
        monkeypatch.setattr(polygraphy.config, "USE_TENSORRT_RTX", library == "tensorrt-rtx")
        request = replace(_request(product), **fields)
        config = build._config_loader(request, Monitor(_silent()))(builder, network)
        return build._finish_config(config, request)

    return configure


@pytest.mark.parametrize("library", ["tensorrt", "tensorrt-rtx"])
def test_options_reach_the_builder(configured, library):
    flags = trt.BuilderFlag
    plain = configured(library)
    assert plain.builder_optimization_level == 3
    assert not plain.get_flag(flags.TF32)
    assert plain.num_optimization_profiles == 1
    assert plain.progress_monitor is not None
    options = BuildOptions(level=5, tf32=True, is_stripped=True)
    config = configured(library, options=options, workspace=1 << 28)
    assert config.builder_optimization_level == 5
    assert config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 28
    assert all(map(config.get_flag, (flags.TF32, flags.STRIP_PLAN, flags.REFIT_IDENTICAL)))
    assert configured(library, precision="fp16").get_flag(flags.TF32)


def test_capabilities_reach_tensorrt_rtx(configured):
    config = configured(capabilities=("8.6", "12.0"))
    found = [
        config.get_compute_capability(index) for index in range(config.num_compute_capabilities)
    ]
    assert found == [trt.ComputeCapability.SM86, trt.ComputeCapability.SM120]
    current = configured(capabilities=())
    assert current.get_compute_capability(0) == trt.ComputeCapability.CURRENT


def test_tensorrts_options_reach_tensorrt(configured):
    compatible = BuildOptions(is_version_compatible=True)
    assert configured("tensorrt", options=compatible).get_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    for gpus, level in (("same-capability", "SAME_COMPUTE_CAPABILITY"), ("ampere-or-newer", "AMPERE_PLUS")):  # fmt: skip
        assert hasattr(trt.HardwareCompatibilityLevel, level)
        assert build._LEVELS[gpus] == level


@pytest.mark.filterwarnings("ignore:Use Deprecated:DeprecationWarning")  # of timing caches, in RTX
def test_a_damaged_timing_cache_is_replaced(configured, tmp_path):
    timings = tmp_path / "timing.cache"
    timings.write_bytes(b"damaged")
    assert configured("tensorrt", timings=timings).get_timing_cache() is not None


def test_the_monitor_never_raises():
    def broken(share, left):
        raise ValueError("a bug in a display")

    progress = BuildProgress(broken)
    monitor = Monitor(progress)
    monitor.phase_start("whole", None, 2)
    assert monitor.step_complete("whole", 0)
    progress.cancel()
    assert not monitor.step_complete("whole", 1)
    monitor.phase_finish("whole")


def test_the_capabilities_that_are_served_are_the_librarys():
    assert {"8.6", "8.9", "12.0"} <= set(build.served_capabilities())
    assert "9.0" not in build.served_capabilities()


@pytest.mark.parametrize(("gpus", "words"), [("same-capability", "has no same-capability"), ("this", None)])  # fmt: skip
def test_what_a_version_lacks_is_one_line(jetson, monkeypatch, gpus, words):
    class Levels:
        NONE, AMPERE_PLUS = 0, 1

    monkeypatch.setattr(trt, "HardwareCompatibilityLevel", Levels)
    if words is None:
        assert build.check_machine(BuildOptions(gpus=gpus), 0) == jetson.gpu
        return
    with pytest.raises(EngineError, match=words):
        build.check_machine(BuildOptions(gpus=gpus), 0)
