"""Graph passes that decompose attention into a product, a softmax and a product.

Before: Attention(Q, K, V). After: MatMul(Softmax(MatMul(Q * d^-1/4, (K * d^-1/4)^T)), V). Reason: no
fused kernel takes the VAE's single head of 512, and parsers before TensorRT 10.14 do not know
Attention. Where nothing is fused, the softmax stays in float32, as in diffusers.
"""

from collections.abc import Callable

import onnx_ir as ir
from onnx_ir.passes.common import ShapeInferencePass

from .fp16 import FLOAT32
from .rewrite import known, replace
from .scale_attention import head_size, input_factor, scaled

LARGEST_HEAD = 256
"""The largest head size of fused kernels in float16, by NVIDIA's documentation."""


def decompose_large_heads(model: ir.Model) -> None:
    """Decompose attention that no fused kernel takes."""
    _decompose(model, lambda size: size > LARGEST_HEAD)


def decompose_all_heads(model: ir.Model) -> None:
    """Decompose every attention."""
    _decompose(model, lambda _size: True)


def _decompose(model: ir.Model, is_chosen: Callable[[int], bool]) -> None:
    ShapeInferencePass()(model)
    for node in list(model.graph):
        if node.op_type == "Attention":
            size = head_size(node)
            if is_chosen(size):
                _replace_attention(model.graph, node, size)


def _replace_attention(graph: ir.Graph, node: ir.Node, size: int) -> None:
    factor = input_factor(node)
    query, key, value = map(known, node.inputs[:3])
    turned = ir.node("Transpose", [scaled(graph, key, node, factor)], {"perm": (0, 1, 3, 2)})
    logits = ir.node("MatMul", [scaled(graph, query, node, factor), turned.outputs[0]])
    softmax = ir.node("Softmax", [logits.outputs[0]], {"axis": -1})
    result = ir.node("MatMul", [softmax.outputs[0], value])
    if size > LARGEST_HEAD:
        softmax.meta[FLOAT32] = True
    for word, step in (("turned", turned), ("logits", logits)):
        step.outputs[0].name = word
    replace(graph, node, [turned, logits, softmax, result])
