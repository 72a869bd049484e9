"""Many machines: Ray Data runs a bundle on a folder, a list or a bucket of images.

Needs the extra ``ray``. The only room that imports Ray and pyarrow.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .keywords import upscale_dataset
    from .upscaling import Report

__all__ = ["Report", "upscale_dataset"]

_HOMES = {"Report": "upscaling", "upscale_dataset": "keywords"}


def __getattr__(name: str) -> Any:
    """Import Ray on first access."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES[name]}", __name__), name)
