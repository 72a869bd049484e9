"""Scores the models of a training folder, one after the other, and writes the report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from ...runtime.terminal import Progress
from ..measure.provenance import provenance
from ..metrics import Pixels
from .rows import ROWS
from .scoring import REFERENCES, Results, score_variant
from .tradeoff import table, write_report
from .variant import read_variant


def compare(
    folder: Path,
    objectives: Sequence[str],
    originals: Mapping[str, Pixels],
    seed: int,
    out: Path,
    progress: Progress,
) -> str:
    """Score every objective's rows on every image and write the report; return its table.

    Raise ValueError where a model is missing, or the models differ in more than their denoisers.
    """
    hashes = _checked(folder, objectives)
    here = provenance()
    results = Results(out, here["sources"])
    rows = [row for row in ROWS if row.objective in objectives]
    for objective in objectives:
        mine = [row for row in rows if row.objective == objective]
        total = len(originals) * (len(mine) + len(REFERENCES))
        with progress.phase(f"upscaling with {objective}", total) as advance:
            variant = read_variant(folder, objective)
            score_variant(variant, mine, originals, seed, results, advance)
    results.keep((*REFERENCES, *(row.system for row in rows)), originals)
    results.write({"provenance": here, "checkpoints_sha256": hashes, "seed": seed})
    text = table(results, rows, list(originals))
    write_report(results, rows, originals, text)
    return text


def _checked(folder: Path, objectives: Sequence[str]) -> dict[str, str]:
    """Return each checkpoint's SHA-256; all must share restorer and autoencoder."""
    hashes, common = {}, {}
    for objective in objectives:
        variant = read_variant(folder, objective)
        hashes[objective], common[objective] = variant.sha256, variant.common
        first = objectives[0]
        if common[objective] != common[first]:
            raise ValueError(
                f"models must share restorer and autoencoder, those of {first} and {objective} differ; "
                "train them with one command"
            )
    return hashes
