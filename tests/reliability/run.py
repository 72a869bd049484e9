"""Try dossr with damaged files and killed processes: many random cases, each in a process of its own.

The cases follow from their kind and seed, so a fault is seen again with, for example,
``run.py --only images --seed 1234 --count 1``. (When a process is killed depends on the clock too.)
"""

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before NumPy: workers are forked from one thread
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import json
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import click
from workers import Kind, Report, memory_folder, run_cases

SAVED = 100
"""How many cases of one fault are saved as files; the others are in faults.json."""


@dataclass
class Result:
    """What came of all cases of one kind."""

    seconds: float = 0.0
    outcomes: Counter = field(default_factory=Counter)
    faults: Counter = field(default_factory=Counter)
    rows: list[dict] = field(default_factory=list)
    """One row per fault, in the order of the seeds."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.option("--images", type=click.IntRange(0), default=60000, help="Damaged images.")
@click.option("--manifests", type=click.IntRange(0), default=3500, help="Damaged bundles.")
@click.option("--graphs", type=click.IntRange(0), default=440, help="Damaged networks.")
@click.option("--kills", type=click.IntRange(0), default=80, help="Runs that are killed.")
@click.option("--only", type=click.Choice(["images", "manifests", "graphs", "kills"]),
              help="Run one kind only, --count cases of it.")  # fmt: skip
@click.option("--count", type=click.IntRange(1), default=1, help="Number of cases with --only.")
@click.option("--jobs", type=click.IntRange(1), default=2, help="Cases at a time.")
@click.option("--seed", type=click.IntRange(0), default=0,
              help="Seed of the first case; the next has the next number.")  # fmt: skip
@click.option("--faults", "folder", type=click.Path(path_type=Path, file_okay=False),
              default=Path("out/reliability"), help="Folder for the cases that show a fault.")  # fmt: skip
@click.option("--json", "as_json", type=click.Path(path_type=Path, dir_okay=False),
              help="File for counts and faults.")  # fmt: skip
def main(images, manifests, graphs, kills, only, count, jobs, seed, folder, as_json) -> None:
    """Try dossr with damaged images, bundles and networks, and with killed runs.

    Prints cases, outcomes and faults. Exit code: 0 no faults, 1 faults, 2 wrong use.
    """
    counts = {"images": images, "manifests": manifests, "graphs": graphs, "kills": kills}
    if only:
        counts = {only: count}
    results = {}
    for name, number in counts.items():
        if number:
            results[name] = _run_kind(name, range(seed, seed + number), jobs, folder)
    click.echo(_table(results))
    if as_json:
        document = {
            name: {"seconds": round(result.seconds, 1), "cases": result.outcomes.total(),
                   "outcomes": result.outcomes, "faults": result.faults, "rows": result.rows}
            for name, result in results.items()
        }  # fmt: skip
        as_json.write_text(json.dumps({"seed": seed, "jobs": jobs, "kinds": document}, indent=1))
    sys.exit(any(result.rows for result in results.values()))


def make_kind(name: str) -> Kind:
    """Return a kind of cases, with what all of its cases share."""
    if name == "images":
        from images import Images

        return Images()
    if name == "manifests":
        from manifests import Manifests

        return Manifests()
    if name == "graphs":
        from graphs import Graphs

        return Graphs()
    from kills import Kills

    return Kills()


def _run_kind(name: str, seeds: range, jobs: int, folder: Path) -> Result:
    result = Result()
    began = time.monotonic()
    with tempfile.TemporaryDirectory(dir=memory_folder()) as shared:
        os.environ["RELIABILITY_SHARED"] = shared
        kind = make_kind(name)
        with click.progressbar(length=len(seeds), label=name, file=sys.stderr) as bar:

            def done(report: Report) -> None:
                result.outcomes[report.outcome] += 1
                for fault, detail in report.faults:
                    result.faults[fault] += 1
                    row = {"seed": report.seed, "fault": fault, "detail": detail}
                    result.rows.append(row)
                    _save(kind, row, folder, result.faults[fault] <= SAVED)
                bar.update(1)

            run_cases(kind, seeds, jobs, done)
    result.rows.sort(key=lambda row: row["seed"])
    result.seconds = time.monotonic() - began
    return result


def _save(kind: Kind, row: dict, folder: Path, with_files: bool) -> None:
    """Add a fault to the list of its kind, and the files of its case."""
    place = folder / kind.name
    place.mkdir(parents=True, exist_ok=True)
    with (place / "faults.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")
    case = place / str(row["seed"])
    if with_files and not case.exists():
        case.mkdir()
        (case / "case.txt").write_text(kind.build(row["seed"], case) + "\n")


def _table(results: dict[str, Result]) -> str:
    lines = [f"{'kind':<10} {'cases':>7} {'faults':>7} {'seconds':>8}  outcomes"]
    for name, result in results.items():
        outcomes = ", ".join(f"{number} {what}" for what, number in result.outcomes.most_common())
        lines.append(
            f"{name:<10} {result.outcomes.total():>7} {len(result.rows):>7} "
            f"{result.seconds:>8.1f}  {outcomes}"
        )
    for name, result in results.items():
        for fault, number in result.faults.most_common():
            first = next(row["seed"] for row in result.rows if row["fault"] == fault)
            lines.append(f"  {name}: {number} x {fault} (first: --seed {first})")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
