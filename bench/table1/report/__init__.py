"""The report on results: tables, a figure, an HTML page."""

from .text import terminal_table
from .writer import write_report

__all__ = ["terminal_table", "write_report"]
