"""Exports a DoSSR checkpoint to a bundle: ``export_bundle(checkpoint, out)``."""

from typing import TYPE_CHECKING, Any, NoReturn

from ..runtime.launch import launch
from .errors import CheckpointError, Fp16Error, VerificationError

if TYPE_CHECKING:
    from .exporter import export_bundle

__all__ = ["CheckpointError", "Fp16Error", "VerificationError", "export_bundle"]


def main() -> NoReturn:
    """Run ``dossr-export``."""
    launch("dossr-export", "dossr.export.cli", "export,cpu")


def __getattr__(name: str) -> Any:
    """Import torch only for an export, so that ``dossr-export --help`` is fast."""
    if name == "export_bundle":
        from .exporter import export_bundle

        return export_bundle
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
