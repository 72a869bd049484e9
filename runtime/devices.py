"""Opening a network on a device: the one place that knows every backend."""

from pathlib import Path

from .engine import Engine

DEVICES = ("cpu",)


def load_engine(path: Path, device: str) -> Engine:
    """Open an ``.onnx`` file on a device; ``device`` must be one of DEVICES."""
    if device not in DEVICES:
        raise ValueError(f"device must be {' or '.join(DEVICES)}, got '{device}'")
    from .ort import OrtEngine

    return OrtEngine(path)
