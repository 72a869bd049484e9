"""Benchmarks of DoSSR and of the nine systems in the paper's Table 1."""

from typing import NoReturn

from ..runtime.launch import launch


def main() -> NoReturn:
    """Run ``dossr-bench``."""
    launch("dossr-bench", "dossr.bench.cli", "bench,cpu")
