"""The exported graphs hold only what TensorRT's ONNX parser documents (operators.json)."""

import json
from functools import cache
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest
import torch
from onnx import TensorProto, helper

from dossr.export.checkpoint.config import OFFICIAL
from dossr.export.checkpoint.layout import layout
from dossr.export.checkpoint.reader import Checkpoint
from dossr.export.graph.lower import lower
from dossr.export.graph.trace import trace
from dossr.export.probe_inputs import example
from dossr.export.stages import stages
from dossr.runtime.bundle import open_bundle

TABLE = json.loads((Path(__file__).parent / "operators.json").read_text())
TYPES = {
    "float": {TensorProto.FLOAT, TensorProto.FLOAT16},
    "int": {TensorProto.INT32, TensorProto.INT64},
    "bool": {TensorProto.BOOL},
}
# Inputs that are shapes, axes or scales: read when the graph is parsed, whatever their type.
SETTINGS = {
    "Expand": (1,),
    "Pad": (1, 3),
    "ReduceMean": (1,),
    "Reshape": (1,),
    "Resize": (1, 2, 3),
    "Slice": (1, 2, 3, 4),
    "Split": (1,),
    "Squeeze": (1,),
    "Unsqueeze": (1,),
}
MUST_BE_KNOWN = {"ReduceMean": (1,), "Squeeze": (1,), "Unsqueeze": (1,)}


def _allowed(version):
    """The element types that each operator supports."""
    return {
        operator: set().union(*(TYPES[kind] for kind in kinds.split()))
        for kinds, operators in TABLE[version].items()
        for operator in operators.split()
    }


def offences(model, version):
    """Every operator, type and use that the parser of a version does not document."""
    model = onnx.shape_inference.infer_shapes(model)
    graph, allowed = model.graph, _allowed(version)
    values = [*graph.value_info, *graph.input, *graph.output]
    types = {v.name: v.type.tensor_type.elem_type for v in values}
    ranks = {v.name: len(v.type.tensor_type.shape.dim) for v in values}
    known = {w.name: w.data_type for w in graph.initializer}
    types |= known
    found = [f"function {f.name}" for f in model.functions]
    for node in graph.node:
        name = f"{node.domain}:{node.op_type}" if node.domain else node.op_type
        if name not in allowed:
            found.append(f"operator {name}")
            continue
        skipped = SETTINGS.get(name, ())
        data = [v for i, v in enumerate(node.input) if v and i not in skipped]
        for value in data if name == "Shape" else [*data, *node.output]:
            if types.get(value) not in allowed[name]:
                found.append(f"{name} with {TensorProto.DataType.Name(types.get(value, 0))}")
        found += _restrictions(name, node, ranks, known)
    return sorted(set(found))


def _restrictions(name, node, ranks, known):
    attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
    for index in MUST_BE_KNOWN.get(name, ()):
        if index < len(node.input) and node.input[index] not in known:
            yield f"{name} with computed axes"
    if name == "Attention" and (
        len(node.input) != 3 or len(node.output) != 1 or attributes.get("softcap", 0.0)
    ):
        yield "Attention with more than Q, K and V"
    if name == "Attention" and {ranks.get(value) for value in node.input} != {4}:
        yield "Attention that is not 4D"
    if name == "LayerNormalization" and len(node.output) != 1:
        yield "LayerNormalization with statistics"
    if name == "Resize" and not (
        attributes.get("mode", b"nearest") in (b"nearest", b"linear")
        and attributes.get("coordinate_transformation_mode", b"half_pixel")
        in (b"half_pixel", b"pytorch_half_pixel", b"asymmetric", b"align_corners")
        and attributes.get("nearest_mode", b"round_prefer_floor")
        in (b"floor", b"ceil", b"round_prefer_floor", b"round_prefer_ceil")
        and not attributes.get("antialias", 0)
        and attributes.get("keep_aspect_ratio_policy", b"stretch") == b"stretch"
    ):
        yield "Resize in another mode"


PARSERS = {"tensorrt": ("10.15",), "tensorrt-10.3": ("9.2", "10.15")}
"""Versions of the parser whose documents cover a target."""


@cache
def _full_size_graph(name):
    """A network of the official sizes. Its weights are one zero, never copied."""
    (stage,) = (stage for stage in stages(shares_encoder=True) if stage.name == name)
    zero = torch.zeros(())
    tensors = {name: zero.expand(shape) for name, shape in layout(OFFICIAL).items()}
    checkpoint = Checkpoint(Path(), "", OFFICIAL, False, tensors)
    prompt = torch.zeros(1, OFFICIAL.text.positions, OFFICIAL.text.width)
    return trace(stage, stage.build(checkpoint, prompt), example(stage, OFFICIAL))


def _full_size_fp16(name, target):
    """The graph for a target and its number of weights, which are left out."""
    model = lower(_full_size_graph(name), target, "fp16")
    weights = 0
    for value in model.graph.initializers.values():
        if value.const_value.size > 1024:  # more than settings: the type and the shape are enough
            weights += value.const_value.size
            value.const_value = ir.ExternalTensor(
                "none", 0, 0, value.dtype, shape=value.const_value.shape, name=value.name
            )
    return ir.to_proto(model), weights


@pytest.mark.parametrize(
    ("name", "target", "least"),
    [
        ("restorer", "tensorrt", 16),
        ("encoder", "tensorrt", 34),
        ("decoder", "tensorrt", 49),
        pytest.param("denoiser", "tensorrt", 1100, marks=pytest.mark.full),
        pytest.param("denoiser", "tensorrt-10.3", 1100, marks=pytest.mark.full),
    ],
)
def test_full_size_fp16_graphs_hold_only_what_the_parser_documents(name, target, least):
    """``least``: millions of weights, so that it is the full size that was looked at."""
    model, weights = _full_size_fp16(name, target)
    assert weights > least * 1e6
    halves = [w for w in model.graph.initializer if w.data_type == TensorProto.FLOAT16]
    assert len(halves) > 10
    for version in PARSERS[target]:
        assert offences(model, version) == []


@pytest.mark.parametrize("target", PARSERS)
def test_fp16_graphs_hold_only_what_the_parser_documents(bundles, target):
    bundle = open_bundle(bundles("separate", fp16=True))  # the goldens export them too
    assert len(bundle.manifest.stages) == 5
    for stage in bundle.manifest.stages:
        path = bundle.path(stage, target)
        model = onnx.load(path, load_external_data=False)
        for version in PARSERS[target]:
            assert offences(model, version) == [], path.name
        halves = [w for w in model.graph.initializer if w.data_type == TensorProto.FLOAT16]
        assert len(halves) > 10  # it is the fp16 graph that was looked at


def _model(operator, element, domain="", **attributes):
    node = helper.make_node(operator, ["x"], ["y"], domain=domain, **attributes)
    values = [helper.make_tensor_value_info(n, element, [1, 4]) for n in "xy"]
    graph = helper.make_graph([node], "g", values[:1], values[1:])
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets)


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        (_model("Sqrt", TensorProto.INT64), ["Sqrt with INT64"]),
        (_model("Sigmoid", TensorProto.FLOAT16), []),
        (_model("Sigmoid", TensorProto.DOUBLE), ["Sigmoid with DOUBLE"]),
        (_model("Gelu", TensorProto.FLOAT), ["operator Gelu"]),  # came after 9.2
        (_model("FusedGelu", TensorProto.FLOAT, "com.microsoft"), ["operator com.microsoft:FusedGelu"]),
        (_model("BitwiseNot", TensorProto.INT32), ["operator BitwiseNot"]),
        (_model("LayerNormalization", TensorProto.FLOAT), []),
    ],
)  # fmt: skip
def test_what_is_not_documented_is_found(model, expected):
    assert offences(model, "9.2") == expected
