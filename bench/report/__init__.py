"""What a benchmark run found, for people: tables, a picture, a page."""

from .files import write_report
from .text import terminal_table

__all__ = ["terminal_table", "write_report"]
