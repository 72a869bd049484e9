"""A TensorRT engine from build to run, on a fake TensorRT.

No test here computes anything with TensorRT: that needs a GPU.
"""

import json

import numpy as np
import pytest

from dossr.runtime.engines.tensorrt.options import BuildOptions
from dossr.runtime.errors import EngineError

LR = np.zeros((1, 3, 16, 16), np.float32)

# TensorRT calls of a build, and of the first run with a new size.
BUILD = [
    "Builder",
    "Builder.create_network",
    "OnnxParser",
    "OnnxParser.parse_from_file",
    "Builder.create_builder_config",
    "IBuilderConfig.builder_optimization_level=",
    "IBuilderConfig.profiling_verbosity=",
    "IBuilderConfig.clear_flag",
    "Builder.create_optimization_profile",
    "IBuilderConfig.add_optimization_profile",
    "IBuilderConfig.create_timing_cache",
    "IBuilderConfig.set_timing_cache",
    "IBuilderConfig.progress_monitor=",
    "Builder.build_serialized_network",
    "IBuilderConfig.get_timing_cache",
]
RUN = [
    "IExecutionContext.set_device_memory",
    "IExecutionContext.set_input_shape",
    "IExecutionContext.get_tensor_shape",
    "IExecutionContext.set_tensor_address",
    "IExecutionContext.set_tensor_address",
    "IExecutionContext.execute_async_v3",  # once before the graph
    "IExecutionContext.execute_async_v3",
]


def test_an_engine_is_built_on_the_first_run_and_kept(world, fresh_bundle):
    told = []
    engine, memory = world.engine(fresh_bundle, log=told.append)
    assert world.calls == []  # nothing is done before it is known for which size
    engine.run(lr=LR)
    plan = fresh_bundle / "engines" / "restorer-1x3x16x16.engine"
    assert plan.read_bytes() == b"plan"
    assert (fresh_bundle / "engines" / "timing.cache").read_bytes() == b"timings"
    assert told == [
        f"building {plan.name}: not built yet",
        "verifying restorer against ONNX Runtime on the CPU",
    ]
    order = world.order()
    build = [name for name in order if name.startswith(("Builder", "OnnxParser", "IBuilderConfig"))]
    assert build == BUILD
    assert ("IBuilderConfig.clear_flag", ("TF32",)) in world.calls  # the toy bundle is fp32
    assert ("Builder.create_network", (1,)) in world.calls  # 1 << STRONGLY_TYPED of the fake
    assert ("IOptimizationProfile.set_shape", ("lr", *[(1, 3, 16, 16)] * 3)) in world.calls
    last = len(order) - order[::-1].index("IExecutionContext.set_device_memory")
    run = order[last - 1 :]
    assert run == RUN
    assert world.calls[-1][1] == (7,)  # on the one stream
    world.calls.clear()
    engine.run(lr=LR)
    assert world.order() == ["IExecutionContext.execute_async_v3"]
    assert memory.launches == 3  # the verification's among them
    world.calls.clear()
    again, _ = world.engine(fresh_bundle)
    again.run(lr=LR)
    assert "Builder" not in world.order()


def test_results_are_the_callers_to_keep(world, fresh_bundle):
    engine, _ = world.engine(fresh_bundle)
    first = engine.run(lr=LR)["restored"]
    assert not np.shares_memory(first, engine.run(lr=LR)["restored"])
    assert first.shape == (1, 3, 64, 64)


def test_one_block_serves_all_engines_and_grows(world):
    memory = world.memory()
    scratch = world.contexts.Scratch(memory)
    scratch.reserve(100)
    before = scratch.pointer
    scratch.reserve(50)
    assert scratch.pointer == before
    scratch.reserve(1 << 22)
    assert scratch._block.nbytes == 1 << 22


def test_an_engine_binds_again_after_the_block_grew(world, fresh_bundle):
    engine, _ = world.engine(fresh_bundle)
    engine.run(lr=LR)
    engine._scratch.reserve(1 << 24)
    world.calls.clear()
    engine.run(lr=LR)
    assert world.calls[0] == (
        "IExecutionContext.set_device_memory",
        (engine._scratch.pointer, 4096),
    )


def test_sides_make_one_engine_for_many_sizes(world, fresh_bundle):
    engine, memory = world.engine(fresh_bundle, BuildOptions(sides=(16, 20, 64)))
    engine.run(lr=LR)
    shapes = ("lr", (1, 3, 16, 16), (1, 3, 32, 32), (1, 3, 64, 64))  # 20 padded to a multiple of 16
    assert ("IOptimizationProfile.set_shape", shapes) in world.calls
    plan = fresh_bundle / "engines" / "restorer-1x3x16x16-to-1x3x64x64.engine"
    assert plan.is_file()
    assert "EngineInspector.execution_context=" in world.order()
    world.calls.clear()
    engine.run(lr=np.zeros((1, 3, 48, 32), np.float32))
    assert "Builder" not in world.order()
    assert memory.launches == 0  # graphs are for fixed sizes


@pytest.mark.parametrize(
    ("answers", "said", "expected"),
    [
        ({"parse_from_file": False}, "No importer registered for op: Attention", "--opset 18"),
        ({"build_serialized_network": None}, "Could not find any implementation for node n", "memory"),
        ({"build_serialized_network": None}, "Requested amount of GPU memory: out of memory", "out of memory"),
        ({"add_optimization_profile": -1}, "", "rejects these sizes"),
        ({"deserialize_cuda_engine": None}, "Version tag does not match", "another version of TensorRT"),
        ({"create_execution_context": None}, "cudaErrorMemoryAllocation", "out of memory"),
        ({"set_input_shape": False}, "does not satisfy any optimization profiles", "size is outside"),
        ({"set_tensor_address": False}, "", "rejects the buffer of"),
        ({"execute_async_v3": False}, "Cuda failure: out of memory", "out of memory"),
        ({"get_tensor_dtype": "HALF"}, "", "do not match the manifest: lr, restored"),
        ({"get_engine_information": '{"Layers": ["name only"]}'}, "", "does not show the layers"),
        ({"get_engine_information": "{"}, "", "does not show the layers"),
    ],
)  # fmt: skip
def test_a_failure_is_one_line_that_says_what_it_means(
    world, fresh_bundle, monkeypatch, answers, said, expected
):
    world.answers.update(answers)
    make = world.plans.Log
    for module in (world.builds, world.engines):
        monkeypatch.setattr(module, "Log", lambda: _talking(make(), said))
    with pytest.raises(EngineError, match=expected) as raised:
        world.engine(fresh_bundle)[0].run(lr=LR)
    assert "\n" not in str(raised.value)


def _talking(log, said):
    log.errors += [said] if said else []
    return log


def test_an_engine_that_computes_something_else_is_not_kept(world, fresh_bundle):
    def a_little_off(stream):
        world.enlarge()
        world.at("restored", world.enlarged())[...] *= 1.01
        return True

    honest = world.answers["execute_async_v3"]
    world.answers["execute_async_v3"] = a_little_off
    with pytest.raises(
        EngineError, match=r"restorer differs from ONNX Runtime by 1\.0e-02"
    ) as raised:
        world.engine(fresh_bundle)[0].run(lr=LR)
    assert "\n" not in str(raised.value)
    assert not list((fresh_bundle / "engines").glob("*.engine"))
    world.engine(fresh_bundle, BuildOptions(is_verified=False))[0].run(lr=LR)
    world.answers["execute_async_v3"] = honest
    world.engine(fresh_bundle)[0].run(lr=LR)  # built again: nobody vouches for the one there
    record = json.loads((fresh_bundle / "engines" / "restorer-1x3x16x16.json").read_text())
    assert record["notes"]["errors"] == {"restored": 0.0}
    assert "verified=True" in record["key"]["flags"]
