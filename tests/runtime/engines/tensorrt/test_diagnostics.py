"""What TensorRT's messages and its engine inspector mean."""

import json

import pytest

from dossr.runtime.engines.tensorrt import diagnostics


@pytest.mark.parametrize(
    ("said", "words"),
    [
        # As users reported them: NVIDIA/TensorRT issues 2916, 2072, 2041 and others.
        ("Error Code 10: Internal Error (Could not find any implementation for node Conv_119 + Add_182.)",
         "memory or workspace ran out"),
        ("Error Code 1: Serialization (Serialization assertion stdVersionRead == kSERIALIZATION_VERSION "
         "failed.Version tag does not match. Note: Current Version: 237, Serialized Engine Version: 239)",
         "another version of TensorRT"),
        ("Error Code 1: Serialization (Serialization assertion plan->header.magicTag == rt::kPLAN_MAGIC_TAG failed.)",
         "damaged"),
        ("Error Code 1: Serialization (Serialization assertion at /_src/runtime failed.)", "damaged"),
        ("Error Code 6: API Usage Error (The engine plan file is generated on an incompatible device, "
         "expecting compute 8.7 got compute 8.9, please rebuild.)", "another kind of GPU"),
        ("Error Code 2: OutOfMemory (Requested size was 8589934592 bytes.)", "out of memory"),
        ("CUDA initialization failure with error: 35", "dossr-doctor"),
        ("In node 3: UNSUPPORTED_NODE: No importer registered for op: Attention.", "tensorrt-10.3"),
        # As TensorRT-RTX 1.7.1 says it.
        ("IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([myelin_graph.h:1295: attachExceptionMsgToGraph] "
         "MyelinCheckException: decompose_composite_ops.cpp:59: CHECK(composite_op->is_decomposable()) failed. "
         "Attention operation was not supported by a dedicated kernel.", "must be float16"),
        ("IBuilder::buildSerializedNetwork: Error Code 1: Myelin ([myelin_graph.h:1295] MyelinCheckException: "
         "formats.cpp:3118: CHECK(def_tactic_desc) failed.", "compiler refuses the network"),
        ("Error Code 1: Myelin ([pass.cpp:337] Cannot compile operation 'node_linear_82' for Turing (SM75): "
         "FP32 GEMM is not supported.", "build for 8.0 and newer"),
    ],
)  # fmt: skip
def test_errors_are_translated_and_quoted(said, words):
    line = diagnostics.meaning(
        [said, "Error Code 4: Internal Error (Engine deserialization failed.)"]
    )
    assert words in line
    assert said.removeprefix("IBuilder::buildSerializedNetwork: ")[:30] in line
    assert "\n" not in line


def test_memory_explains_what_comes_of_it():
    said = ["Could not find any implementation for node a", "Cuda Runtime (out of memory)"]
    assert diagnostics.meaning(said).startswith("out of memory")


DRIVER = "Error Code 1: Cuda Runtime (cudaError 35: CUDA driver version is insufficient)"


@pytest.mark.parametrize(
    "said",
    ["Attention operation was not supported by a dedicated kernel", "MyelinCheckException: x"],
)
def test_a_missing_driver_does_not_hide_what_the_compiler_says(said):
    assert said in diagnostics.meaning([DRIVER, said])
    assert "dossr-doctor" in diagnostics.meaning([DRIVER])


@pytest.mark.parametrize(
    ("said", "outdated"),
    [
        ("Version tag does not match", True),
        ("Serialization assertion failed", True),
        ("generated on an incompatible device", True),
        ("cudaErrorMemoryAllocation", False),
        (DRIVER, False),
        ("something else", False),
    ],
)
def test_another_build_cures_a_plan_that_is_outdated(said, outdated):
    assert diagnostics.is_outdated([said]) is outdated
    assert not diagnostics.is_outdated(["out of memory", said])


def test_what_is_not_known_is_quoted():
    assert diagnostics.meaning(["a  new\nerror", "another"]) == "a new error"
    assert diagnostics.meaning([]) == "TensorRT gave no reason"
    assert len(diagnostics.meaning(["x" * 1000])) == 200


def _layers(*types, kind="conv", field="Format/Datatype"):
    return [{"LayerType": kind, "Inputs": [{field: t}], "Outputs": [{field: t}]} for t in types]


@pytest.mark.parametrize(
    ("layers", "share"),
    [
        (_layers("Half", "Half", "Float", "Half"), 0.75),
        (_layers("Row major linear FP16 format", "Row major linear FP32"), 0.5),
        (_layers("Half", "Float", field="DataType"), 0.5),
        (_layers("Float", "Float"), 0.0),
        (_layers("Half") + _layers("Float", "Half", kind="Reformat") + _layers("Int64"), 1.0),
        ([*_layers("Half"), "a name only", {"LayerType": "signal"}], 1.0),
        ([{"LayerType": "gemm", "Inputs": [{"Format/Datatype": "Float"}], "Outputs": [{"Format/Datatype": "Half"}]}], 1.0),
        ([{"LayerType": "gemm", "Inputs": [{"Format": "Row major linear (kLINEAR)", "DataType": "Half"}]}], 1.0),
    ],
)  # fmt: skip
def test_the_share_of_half_layers_is_counted(layers, share):
    assert diagnostics.fp16_share(json.dumps({"Layers": layers})) == share


@pytest.mark.parametrize("layers", [[], ["only", "names"], _layers("Int64"), _layers("N/A due to dynamic shapes")])  # fmt: skip
def test_layers_without_types_prove_nothing(layers):
    with pytest.raises(ValueError, match="shows no layer's types"):
        diagnostics.fp16_share(json.dumps({"Layers": layers}))
