"""Lowers a canonical graph: makes it what one engine runs well.

| target        | norms                                | attention                                  | float16          |
|---------------|--------------------------------------|--------------------------------------------|------------------|
| cpu           | written out, means in two stages     | whole                                      | weights only     |
| openvino      | as cpu; in the denoiser whole        | whole                                      | weights only     |
| cuda          | ONNX Runtime's own, channels last    | whole, Q and K scaled first                | with activations |
| tensorrt      | whole                                | the same; decomposed where no kernel fits | with activations |
| tensorrt-10.3 | InstanceNormalization of the groups  | decomposed                                 | with activations |
"""

from collections.abc import Callable, Mapping

import onnx_ir as ir

from ...runtime.bundle import Precision, Target
from .decompose_attention import decompose_all_heads, decompose_large_heads
from .expand_group_norm import expand_group_norms
from .fp16 import store_fp16, to_fp16
from .image_norms import expand_image_norms
from .opset18 import to_opset18
from .ort_group_norm import use_ort_group_norm
from .scale_attention import scale_attention

Pass = Callable[[ir.Model], None]

_STORES_FP16: tuple[Target, ...] = ("cpu", "openvino")
"""They choose the precision of their arithmetic when they run."""

PASSES: Mapping[Target, tuple[Pass, ...]] = {
    "cpu": (expand_group_norms,),
    "openvino": (expand_image_norms,),
    "cuda": (use_ort_group_norm, scale_attention),
    "tensorrt": (decompose_large_heads, scale_attention),
    "tensorrt-10.3": (decompose_all_heads, to_opset18),
}


def lower(model: ir.Model, target: Target, precision: Precision) -> ir.Model:
    """Return a graph for one target; the canonical float32 graph ``model`` is unchanged.

    Both share their weights. Raise Fp16Error where a weight overflows float16.
    """
    lowered = model.clone()
    for step in PASSES[target]:
        step(lowered)
    if precision == "fp16":
        convert = store_fp16 if target in _STORES_FP16 else to_fp16
        convert(lowered)
    return lowered
