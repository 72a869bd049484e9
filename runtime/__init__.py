"""Run a bundle without torch: ``load_pipeline(bundle).upscale(image)``."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .errors import BundleError, EngineError
    from .pipeline import Pipeline, load_pipeline

__all__ = ["BundleError", "EngineError", "Pipeline", "load_pipeline"]

_HOMES = {"BundleError": "errors", "EngineError": "errors"}


def __getattr__(name: str) -> Any:
    """Import NumPy and the pipeline on first access, so that commands start quickly."""
    if name not in __all__:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    from importlib import import_module

    return getattr(import_module(f".{_HOMES.get(name, 'pipeline')}", __name__), name)
