"""Before and after: one HTML page with a slider for each image."""

from .page import Pair, write_compare_page

__all__ = ["Pair", "write_compare_page"]
