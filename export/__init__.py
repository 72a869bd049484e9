"""Turns a DoSSR checkpoint into a bundle: ``export_bundle(checkpoint, out)``."""

from .config import CheckpointError
from .exporter import export_bundle
from .half import HalfError
from .verify import VerificationError

__all__ = ["CheckpointError", "HalfError", "VerificationError", "export_bundle"]
