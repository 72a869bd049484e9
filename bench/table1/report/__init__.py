"""What a benchmark run found, for people: tables, a figure, a page."""

from .text import terminal_table
from .writer import write_report

__all__ = ["terminal_table", "write_report"]
