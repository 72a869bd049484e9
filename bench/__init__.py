"""Measuring: the nine systems of the paper's Table 1, replayed and counted."""

from typing import NoReturn

from ..runtime.launch import launch


def main() -> NoReturn:
    """``dossr-bench``."""
    launch("dossr-bench", "dossr.bench.cli")
