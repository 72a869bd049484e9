"""How a build is set up and what it accepts, on a fake TensorRT.

No test here computes anything with TensorRT: that needs a GPU.
"""

import json

import numpy as np
import pytest

from dossr.runtime.bundle import read_manifest
from dossr.runtime.engines.tensorrt.cache import mismatches
from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.engines.tensorrt.progress import BuildProgress
from dossr.runtime.errors import EngineError
from dossr.runtime.hardware import Gpu

LR = np.zeros((1, 3, 16, 16), np.float32)


def test_attention_may_decompose_where_this_tensorrt_has_it(world, fresh_bundle):
    world.engine(fresh_bundle)[0].run(lr=LR)
    has_it = world.api["IAttention.decomposable"] is not None
    assert (("IAttention.decomposable=", (True,)) in world.calls) == has_it


def test_options_reach_the_builder(world, fresh_bundle):
    options = BuildOptions(
        level=5, workspace=1 << 30, is_stripped=True, is_version_compatible=True,
        is_hardware_compatible=True,
    )  # fmt: skip
    world.engine(fresh_bundle, options)[0].run(lr=LR)
    for call in (
        ("IBuilderConfig.builder_optimization_level=", (5,)),
        ("IBuilderConfig.set_memory_pool_limit", ("WORKSPACE", 1 << 30)),
        ("IBuilderConfig.set_flag", ("VERSION_COMPATIBLE",)),
        ("IBuilderConfig.set_flag", ("STRIP_PLAN",)),
        ("IBuilderConfig.set_flag", ("REFIT_IDENTICAL",)),
        ("IBuilderConfig.hardware_compatibility_level=", ("AMPERE_PLUS",)),
        ("Runtime.engine_host_code_allowed=", (True,)),
        ("OnnxParserRefitter.refit_from_file", (str(fresh_bundle / "restorer.onnx"),)),
    ):
        assert call in world.calls
    order = world.order()
    refit = order.index("Refitter.refit_cuda_engine")
    assert order.index("Runtime.deserialize_cuda_engine") < refit
    assert refit < order.index("IExecutionContext.set_device_memory")


def test_a_measured_timing_cache_is_used_and_a_foreign_one_dropped(world, fresh_bundle):
    timings = fresh_bundle / "engines" / "timing.cache"
    timings.parent.mkdir()
    timings.write_bytes(b"measured")
    world.engine(fresh_bundle)[0].run(lr=LR)
    assert [a for n, a in world.calls if n.endswith("create_timing_cache")] == [(b"measured",)]
    world.answers["set_timing_cache"] = False
    world.calls.clear()
    world.engine(fresh_bundle, BuildOptions(level=4))[0].run(lr=LR)
    tried = [a for n, a in world.calls if n.endswith("create_timing_cache")]
    assert tried == [(b"timings",), (b"",)]


def test_ctrl_c_is_not_kept_as_an_engine(world, fresh_bundle):
    def interrupted(network, config):
        raise KeyboardInterrupt

    world.answers["build_serialized_network"] = interrupted
    with pytest.raises(KeyboardInterrupt):
        world.engine(fresh_bundle)[0].run(lr=LR)
    assert {p.suffix for p in (fresh_bundle / "engines").iterdir()} == {".lock"}


def test_a_float16_engine_must_compute_in_float16(world, fresh_bundle):
    manifest = fresh_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"fp32"', '"fp16"'))
    engine, _ = world.engine(fresh_bundle)
    world.answers["get_engine_information"] = json.dumps(
        {"Layers": [{"LayerType": "conv", "Inputs": [{"DataType": "Float"}], "Outputs": []}]}
    )
    with pytest.raises(EngineError, match=r"only 0% of the layers of restorer compute in float16"):
        engine.run(lr=LR)
    assert not list((fresh_bundle / "engines").glob("*.engine"))
    del world.answers["get_engine_information"]
    world.answers["get_engine_information"] = json.dumps({"Layers": world.LAYERS})
    engine.run(lr=LR)
    assert ("IBuilderConfig.clear_flag", ("TF32",)) not in world.calls
    record = json.loads((fresh_bundle / "engines" / "restorer-1x3x16x16.json").read_text())
    assert record["notes"]["fp16_share"] == 1.0


def test_the_bundle_is_refused_where_this_tensorrt_cannot_read_it(world, fresh_bundle):
    manifest = fresh_bundle / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"opset": 18', '"opset": 23'))
    if world.module.__version__ == "10.3.0":
        with pytest.raises(EngineError, match="export the checkpoint with --opset 18"):
            world.engine(fresh_bundle)
    else:
        world.engine(fresh_bundle)


def test_the_engine_of_another_gpu_is_refused_field_by_field(world, fresh_bundle, monkeypatch):
    world.engine(fresh_bundle)[0].run(lr=LR)
    other = Gpu("Thor", "11.0", 1 << 37, True, "13.0", "580.0")
    monkeypatch.setattr(world.builds, "find_gpu", lambda: other)
    engine, _ = world.engine(fresh_bundle, BuildOptions(rebuild=False))
    with pytest.raises(EngineError, match=r"gpu: Thor here, Orin in the engine; capability: 11\.0"):
        engine.run(lr=LR)


def test_the_monitor_never_raises(world):
    def broken(share, left):
        raise ValueError("a bug in a display")

    progress = BuildProgress(broken)
    monitor = world.builds.Monitor(progress)
    monitor.phase_start("whole", None, 2)
    assert monitor.step_complete("whole", 0)
    progress.cancel()
    assert not monitor.step_complete("whole", 1)
    monitor.phase_finish("whole")


def test_the_key_is_that_of_the_stage_on_this_gpu(world, fresh_bundle):
    world.engine(fresh_bundle)[0].run(lr=LR)
    manifest = read_manifest(fresh_bundle / "manifest.json")
    key = world.builds.engine_key(
        manifest, manifest.stages["restorer"], world.builds.find_gpu(),
        {"lr": ((1, 3, 16, 16),) * 3}, BuildOptions(),
    )  # fmt: skip
    assert mismatches(fresh_bundle / "engines" / "restorer-1x3x16x16.engine", key) == []
