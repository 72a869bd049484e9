"""Predictions as tables and as a picture."""

from .figure import draw, png
from .markdown import devices_table, page, tables

__all__ = ["devices_table", "draw", "page", "png", "tables"]
