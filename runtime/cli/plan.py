"""``--dry-run``: what a run would read and write."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ..bundle import Manifest
from ..images.sizes import Size
from ..memory import MemoryPlan, describe, in_gigabytes
from ..progress import columns
from ..terminal import printable
from .jobs import Job, Plan
from .one_image import Failed, Loaded, Settings, Skipped, load, memory_failure, memory_of
from .overlap import read_ahead

_HEAD = ("input", "size", "frames", "output", "final size")


@dataclass(frozen=True)
class Planned:
    """An image that a run would upscale."""

    job: Job
    size: Size
    frames: int
    final: Size
    notes: tuple[str, ...]
    memory: int
    """What its arrays take, in bytes."""


Row = Planned | Failed | Skipped


def plan_rows(plan: Plan, settings: Settings, manifest: Manifest) -> list[Row]:
    """Read every source and check its result as a run with this bundle does; write nothing."""
    failed = [Failed(job, reason) for job, reason in plan.failures]
    return [
        *failed,
        *(
            _row(item, settings, manifest)
            for item in read_ahead(load(job, settings) for job in plan.jobs)
        ),
    ]


def plan_lines(plan: Plan, rows: Sequence[Row]) -> Iterator[str]:
    """Yield a table of the images, then what is passed over."""
    table = [_HEAD, *(tuple(map(printable, _cells(row))) for row in rows)]
    widths = [max(columns(cells[place]) for cells in table) for place in range(len(_HEAD))]
    for cells in table:
        yield "  ".join(
            cell + " " * (width - columns(cell)) for cell, width in zip(cells, widths, strict=True)
        ).rstrip()
    for item in plan.passed_over:
        remedy = f" ({item.remedy})" if item.remedy else ""
        yield printable(f"{item.path}  passed over: {item.what}{remedy}")


def memory_lines(memory: MemoryPlan | None, rows: Sequence[Row]) -> Iterator[str]:
    """Yield one line about tiles and memory, if the need is known."""
    if memory:
        need, free = memory.need, memory.free
        whole = need.total + _largest_image(rows)
        yield (
            f"{describe(memory.tiling)}, about {in_gigabytes(whole)} of memory: weights "
            f"{in_gigabytes(need.weights)}, networks at work {in_gigabytes(need.activations)}, largest image "
            f"{in_gigabytes(_largest_image(rows))}; "
            f"{in_gigabytes(free) if free is not None else 'an unknown amount'} free"
        )


def memory_record(memory: MemoryPlan | None, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Return tiles and memory for JSON, in bytes; None if the need is not known."""
    if memory is None:
        return None
    return {
        "tile": memory.tiling.tile,
        "batch": memory.tiling.batch,
        "weights": memory.need.weights,
        "activations": memory.need.activations,
        "largest_image": _largest_image(rows),
        "total": memory.need.total + _largest_image(rows),
        "free": memory.free,
    }


def _largest_image(rows: Sequence[Row]) -> int:
    return max((row.memory for row in rows if isinstance(row, Planned)), default=0)


def plan_records(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the images for JSON."""
    return [_record(row) for row in rows]


def _row(item: Loaded | Failed | Skipped, settings: Settings, manifest: Manifest) -> Row:
    if not isinstance(item, Loaded):
        return item
    frames, notes = item.source.frames, item.source.notes
    memory = memory_of(item, settings, manifest)
    if failed := memory_failure(item, memory):
        return failed
    return Planned(item.job, frames[0].size, len(frames), item.sizes[0], notes, memory)


def _cells(row: Row) -> tuple[str, ...]:
    if isinstance(row, Failed):
        target = _target(row.job) if row.job.target else ""
        return row.job.name, "", "", target, f"fails: {row.reason}"
    if isinstance(row, Skipped):
        return row.job.name, "", "", _target(row.job), "exists"
    return row.job.name, _spelled(row.size), str(row.frames), _target(row.job), _spelled(row.final)


def _record(row: Row) -> dict[str, Any]:
    record: dict[str, Any] = {"input": row.job.name, **_outputs(row.job)}
    if isinstance(row, Failed):
        return record | ({} if row.job.target else {"output": None}) | {"error": row.reason}
    if isinstance(row, Skipped):
        return record | {"exists": True}
    (width, height), (final_width, final_height) = row.size, row.final
    return record | {
        "source_width": width,
        "source_height": height,
        "frames": row.frames,
        "width": final_width,
        "height": final_height,
        "notes": list(row.notes),
    }


def _outputs(job: Job) -> dict[str, Any]:
    """Return the result, None where there are several, and for several seeds all files."""
    if not job.files:
        return {"output": job.target_name}
    output = job.target_name if job.target in job.files else None
    return {"output": output, "outputs": [str(path) for path in job.files]}


def _target(job: Job) -> str:
    """Return the outputs in a few words."""
    first, *others = map(str, job.outputs or ("standard output",))
    return f"{first} and {len(others)} more" if others else first


def _spelled(size: Size) -> str:
    return f"{size[0]} x {size[1]}"
