"""A TensorRT engine from build to run: TensorRT-RTX's true bytes, on a machine whose GPU is a fake.

No test here computes anything with TensorRT: that needs a GPU.
"""

import json

import numpy as np
import pytest
import tensorrt_rtx

from dossr.runtime.engines.tensorrt import context as contexts
from dossr.runtime.engines.tensorrt.aot import build_ahead
from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.errors import EngineError
from dossr.runtime.hardware import Gpu

LR = np.zeros((1, 3, 16, 16), np.float32)
NEW_SIZE = [
    "IExecutionContext.set_device_memory",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.get_tensor_shape",
    "IExecutionContext.set_tensor_address",
    "IExecutionContext.set_tensor_address",
    "IExecutionContext.execute_async_v3",
]


def _plan(toy, world, shape="1x3x16x16"):
    return toy.folder / "engines" / f"restorer-{shape}.{world.library}.engine"


def _record(plan):
    return json.loads(plan.with_suffix(".json").read_text())


def test_an_engine_is_built_on_the_first_run_verified_and_kept(world, toy):
    said = []
    engine, memory = world.engine(toy, log=said.append)
    assert (world.calls, world.requests) == ([], [])  # not before its size is known
    restored = engine.run(lr=LR + 0.5)["restored"]
    assert restored.shape == (1, 3, 64, 64)
    assert (restored == 0.5).all()
    plan = _plan(toy, world)
    assert [plan.read_bytes()] == world.built
    assert said == [f"building {plan.name}: not built yet"]
    assert world.order().count("Runtime.deserialize_cuda_engine") == 1
    record = _record(plan)
    assert record["verified"] == {world.gpu.name: {"restored": 0.0}}
    assert record["notes"]["fp16_share"] == 1.0
    assert record["notes"]["driver"] == world.gpu.driver
    world.calls.clear()
    engine.run(lr=LR)
    assert world.order() == ["IExecutionContext.execute_async_v3"]  # the recorded graph
    assert memory.launches == 3  # of the golden vector, and of two runs


def test_a_kept_engine_is_neither_built_nor_verified_again(world, toy):
    world.engine(toy)[0].run(lr=LR)
    world.calls.clear()
    said = []
    world.engine(toy, log=said.append)[0].run(lr=LR)
    assert len(world.requests) == 1
    assert said == []
    assert world.order().count("IExecutionContext.execute_async_v3") == 2  # before and as a graph
    assert [name for name in world.order() if name.startswith("IExecutionContext.set_input")] == [
        "IExecutionContext.set_input_shape"
    ]


def test_a_new_size_is_bound_in_order(world, toy):
    engine, _ = world.engine(toy, BuildOptions(is_verified=False))
    engine.run(lr=LR)
    order = [name for name in world.order() if name.startswith("IExecutionContext.")]
    assert order[: len(NEW_SIZE)] == NEW_SIZE
    assert world.calls[-1] == ("IExecutionContext.execute_async_v3", (7,))  # on the one stream


def test_results_are_the_callers_to_keep(world, toy):
    engine, _ = world.engine(toy)
    first = engine.run(lr=LR)["restored"]
    assert not np.shares_memory(first, engine.run(lr=LR)["restored"])


def test_one_block_serves_all_engines_and_grows(rtx):
    scratch = contexts.Scratch(rtx.memory())
    scratch.reserve(100)
    before = scratch.pointer
    scratch.reserve(50)
    assert scratch.pointer == before
    scratch.reserve(1 << 22)
    assert scratch._block.nbytes == 1 << 22


def test_an_engine_binds_again_after_the_block_grew(world, toy):
    engine, _ = world.engine(toy)
    engine.run(lr=LR)
    engine._scratch.reserve(1 << 24)
    world.calls.clear()
    engine.run(lr=LR)
    assert world.calls[0] == (
        "IExecutionContext.set_device_memory",
        (engine._scratch.pointer, 4096),
    )


def test_the_arrays_pool_gives_back_before_an_engine_is_opened_and_before_a_build(world, toy):
    engine, memory = world.engine(toy)
    engine.run(lr=LR)
    assert memory.freed == 2
    engine.run(lr=np.zeros((1, 3, 32, 16), np.float32))
    assert memory.freed == 4


def test_sides_make_one_engine_for_many_sizes(world, toy):
    engine, memory = world.engine(toy, BuildOptions(sides=(16, 20, 64)))
    engine.run(lr=LR)
    profile = {"lr": ((1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 64, 64))}  # 20 padded to 32
    assert [request.profile for request in world.requests] == [profile]
    assert _plan(toy, world, "1x3x16x16-to-1x3x64x64").is_file()
    engine.run(lr=np.zeros((1, 3, 48, 32), np.float32))
    assert len(world.requests) == 1
    assert memory.launches == 0  # graphs are for fixed sizes


def test_an_engine_of_a_range_serves_later_runs_without_that_setting(world, toy):
    world.engine(toy, BuildOptions(sides=(16, 32, 64)))[0].run(lr=LR)
    world.engine(toy)[0].run(lr=LR)
    assert len(world.requests) == 1


@pytest.mark.parametrize(
    ("name", "answer", "said", "expected"),
    [
        ("deserialize_cuda_engine", None, "Version tag does not match", "another version of TensorRT"),
        ("deserialize_cuda_engine", None, "cudaErrorMemoryAllocation", "out of memory"),
        ("create_execution_context", None, "cudaErrorMemoryAllocation", "out of memory"),
        ("set_input_shape", False, "does not satisfy any optimization profiles", "size is outside"),
        ("set_tensor_address", False, "bad address", "rejects the buffer of"),
        ("execute_async_v3", False, "Cuda failure: out of memory", "out of memory"),
        ("get_tensor_dtype", "HALF", "", "do not match the manifest: lr, restored"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_that_says_what_it_means(world, toy, name, answer, said, expected):
    world.answers[name] = world.failing(said, answer)
    with pytest.raises(EngineError, match=expected) as raised:
        world.engine(toy)[0].run(lr=LR)
    assert "\n" not in str(raised.value)


def test_an_engine_that_cannot_be_opened_is_built_again_once(world, toy):
    world.engine(toy)[0].run(lr=LR)
    usual = world.answers["deserialize_cuda_engine"]
    answers = iter(
        [world.failing("Serialization assertion magicTag == kPLAN_MAGIC_TAG failed"), usual]
    )
    world.answers["deserialize_cuda_engine"] = lambda data: next(answers)(data)
    said = []
    world.engine(toy, log=said.append)[0].run(lr=LR)
    assert len(world.requests) == 2
    assert "cannot be opened and is built again" in said[0]
    world.answers["deserialize_cuda_engine"] = world.failing("Version tag does not match")
    with pytest.raises(EngineError, match="another version of TensorRT"):
        world.engine(toy)[0].run(lr=LR)
    assert len(world.requests) == 3


@pytest.mark.parametrize(
    ("said", "rebuild"),
    [("Version tag does not match", False), ("cudaErrorMemoryAllocation", True)],
)
def test_without_rebuild_or_memory_nothing_is_built(world, toy, said, rebuild):
    world.engine(toy)[0].run(lr=LR)
    world.answers["deserialize_cuda_engine"] = world.failing(said)
    with pytest.raises(EngineError):
        world.engine(toy, BuildOptions(rebuild=rebuild))[0].run(lr=LR)
    assert len(world.requests) == 1


def test_an_engine_that_computes_something_else_is_not_kept(world, toy):
    def a_little_off(stream):
        world.enlarge()
        world.at("restored", world.enlarged())[...] *= 1.01
        return True

    honest = world.answers["execute_async_v3"]
    world.answers["execute_async_v3"] = a_little_off
    with pytest.raises(EngineError, match=r"restorer .*1\.0e-02") as raised:
        world.engine(toy)[0].run(lr=LR)
    assert "\n" not in str(raised.value)
    assert not list((toy.folder / "engines").glob("*.engine"))
    world.engine(toy, BuildOptions(is_verified=False))[0].run(lr=LR)
    assert _record(_plan(toy, world))["verified"] == {}
    world.answers["execute_async_v3"] = honest
    world.engine(toy)[0].run(lr=LR)  # verified now, without another build
    assert _record(_plan(toy, world))["verified"] == {world.gpu.name: {"restored": 0.0}}
    assert len(world.requests) == 2


def test_an_engine_of_a_size_without_golden_vectors_says_so_every_time(world, toy):
    said = []
    lr = np.zeros((1, 3, 48, 48), np.float32)
    plan = _plan(toy, world, "1x3x48x48")
    for _ in range(2):
        world.engine(toy, log=said.append)[0].run(lr=lr)
    assert said[1:] == [f"{plan.name} is not verified: no golden vectors have its sizes"] * 2
    assert _record(plan)["verified"] == {}


def test_an_engine_that_could_not_be_verified_for_want_of_memory_is_kept(world, toy):
    honest = world.answers["execute_async_v3"]
    world.answers["execute_async_v3"] = world.failing("Cuda failure: out of memory", False)
    with pytest.raises(EngineError, match="out of memory"):
        world.engine(toy)[0].run(lr=LR)
    assert _plan(toy, world).is_file()
    world.answers["execute_async_v3"] = honest
    world.engine(toy)[0].run(lr=LR)
    assert len(world.requests) == 1


def test_where_nothing_may_be_built_an_engine_of_any_level_serves(world, toy):
    world.engine(toy, BuildOptions(level=5, workspace=1 << 30))[0].run(lr=LR)
    frugal = BuildOptions(rebuild=False)
    assert world.engine(toy, frugal)[0].has_engine({"lr": LR.shape})
    world.engine(toy, frugal)[0].run(lr=LR)
    assert len(world.requests) == 1
    other = BuildOptions(rebuild=False, tf32=True)
    assert not world.engine(toy, other)[0].has_engine({"lr": LR.shape})


def test_few_float16_layers_are_noted_and_not_refused(world, toy):
    manifest = toy.folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"fp32"', '"fp16"'))
    half = type(toy)(toy.folder, type(toy.manifest)(**{**vars(toy.manifest), "precision": "fp16"}))
    world.answers["get_engine_information"] = json.dumps(
        {"Layers": [{"LayerType": "conv", "Inputs": [{"DataType": "Float"}], "Outputs": []}]}
    )
    said = []
    world.engine(half, log=said.append)[0].run(lr=LR)
    name = _plan(toy, world).name
    assert said[1:] == [f"only 0% of the layers of {name} show float16 tensors"]
    assert _record(_plan(toy, world))["notes"]["fp16_share"] == 0.0
    world.answers["get_engine_information"] = '{"Layers": ["name only"]}'
    world.engine(half, BuildOptions(level=4), log=said.append)[0].run(lr=LR)
    assert _record(_plan(toy, world))["notes"]["fp16_share"] is None


def test_a_stripped_engine_gets_its_weights_when_it_is_opened(jetson, toy):
    jetson.engine(toy, BuildOptions(is_stripped=True, is_version_compatible=True))[0].run(lr=LR)
    order = jetson.order()
    assert ("Runtime.engine_host_code_allowed=", (True,)) in jetson.calls
    onnx = toy.path("restorer", "tensorrt-10.3")
    assert ("OnnxParserRefitter.refit_from_file", (str(onnx),)) in jetson.calls
    refit = order.index("Refitter.refit_cuda_engine")
    assert order.index("Runtime.deserialize_cuda_engine") < refit
    assert refit < order.index("IExecutionContext.set_device_memory")


def test_the_engine_of_another_gpu_is_refused_field_by_field(world, toy):
    world.engine(toy)[0].run(lr=LR)
    was = world.gpu
    world.gpu = Gpu("RTX 5090", "12.0", 1 << 35, False, "13.0", "580.0")
    engine, _ = world.engine(toy, BuildOptions(rebuild=False))
    with pytest.raises(EngineError) as raised:
        engine.run(lr=LR)
    assert f"gpu: RTX 5090 here, {was.name} in the engine" in str(raised.value)
    assert f'capabilities: ["12.0"] here, ["{was.capability}"] in the engine' in str(raised.value)


def test_where_memory_is_shared_a_layer_gets_a_quarter_and_at_most_2_gib(world, toy):
    for memory, shared, least in ((1 << 32, True, 1 << 30), (1 << 36, True, 2 << 30), (1 << 36, False, None)):  # fmt: skip
        world.gpu = Gpu(f"GPU {memory} {shared}", "8.9", memory, shared, "13.0", "1")
        world.engine(toy)[0].run(lr=LR)
        assert world.requests[-1].workspace == least
    world.engine(toy, BuildOptions(workspace=7))[0].run(lr=LR)
    assert world.requests[-1].workspace == 7


def test_an_engine_built_ahead_serves_the_gpus_of_its_list(rtx, toy):
    build_ahead(toy, ["sm86", "sm89"], side=16, log=lambda line: None)
    plan = toy.folder / "engines" / "restorer-1x3x16x16.sm86-sm89.tensorrt-rtx.engine"
    rtx.built.append(plan.read_bytes())
    said = []
    rtx.engine(toy, log=said.append)[0].run(lr=LR)
    assert (rtx.requests, said) == ([], [])
    assert _record(plan)["verified"] == {"RTX 4070": {"restored": 0.0}}
    rtx.gpu = Gpu("RTX 5090", "12.0", 1 << 35, False, "13.0", "580.0")
    rtx.engine(toy, log=said.append)[0].run(lr=LR)
    assert said == ["building restorer-1x3x16x16.tensorrt-rtx.engine: not built yet"]
    assert plan.is_file()


@pytest.mark.parametrize(
    ("reason", "curable"),
    [("MALFORMED_ENGINE", True), ("VERSION_MISMATCH", True), ("OLD_CUDA_DRIVER", False)],
)
def test_tensorrt_rtx_is_asked_whether_an_engine_runs_here(rtx, toy, reason, curable):
    rtx.engine(toy)[0].run(lr=LR)
    bits = int(tensorrt_rtx.EngineInvalidityDiagnostics.__members__[reason])
    rtx.answers["get_engine_validity"] = lambda data: (tensorrt_rtx.EngineValidity.INVALID, bits)
    with pytest.raises(EngineError, match=f"cannot run the engine of restorer.*: {reason}"):
        rtx.engine(toy)[0].run(lr=LR)
    assert len(rtx.requests) == (2 if curable else 1)


def test_kernels_are_kept_beside_the_engine(rtx, toy):
    rtx.engine(toy)[0].run(lr=LR)
    kernels = _plan(toy, rtx).with_suffix(".runtime-cache")
    assert kernels.read_bytes() == b"kernels"
    rtx.calls.clear()
    before = kernels.stat().st_mtime_ns
    rtx.engine(toy)[0].run(lr=LR)
    assert ("IRuntimeCache.deserialize", (b"kernels",)) in rtx.calls
    assert kernels.stat().st_mtime_ns == before  # nothing new
    rtx.answers["deserialize"] = False  # of another driver
    rtx.answers["serialize"] = b"new kernels"
    rtx.engine(toy)[0].run(lr=LR)
    assert kernels.read_bytes() == b"new kernels"


def test_a_run_that_cannot_be_recorded_is_not(rtx, toy):
    rtx.answers["is_stream_capturable"] = False
    engine, memory = rtx.engine(toy)
    engine.run(lr=LR)
    assert memory.launches == 0


def test_a_gpu_that_tensorrt_rtx_does_not_serve_is_refused(rtx, toy):
    rtx.gpu = Gpu("H100", "9.0", 1 << 36, False, "13.0", "580.0")
    with pytest.raises(
        EngineError, match=r"8\.9, 12\.0, 12\.1, and the H100 has 9\.0; use --device"
    ):
        rtx.engine(toy)
