"""Runs a bundle without torch: ``load_pipeline(bundle).upscale(image)``."""

from .bundle import BundleError
from .engine import EngineError
from .pipeline import Pipeline, load_pipeline

__all__ = ["BundleError", "EngineError", "Pipeline", "load_pipeline"]
