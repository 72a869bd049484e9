"""``dossr-export --int8``: 8-bit networks for processors, beside those of a finished bundle."""

from collections.abc import Collection

from ...runtime.bundle import Target
from ...runtime.engines.device import load_onnx_device
from ...runtime.engines.precision import FP32

TARGET: Target = "openvino"
"""The target whose graphs are made 8-bit."""


def check_int8(targets: Collection[Target]) -> None:
    """Raise an error where 8-bit networks cannot be made, before an export takes its time.

    ModuleNotFoundError or EngineError for OpenVINO, ValueError for a missing target.
    """
    load_onnx_device(TARGET, precision=FP32)
    if TARGET not in targets:
        raise ValueError(
            f"int8 needs the graphs for {TARGET}, got {', '.join(targets)}; add --target {TARGET}"
        )
