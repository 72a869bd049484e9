"""``dossr-run``: upscale image files and folders."""

from .command import main

__all__ = ["main"]
