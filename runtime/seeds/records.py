"""What ``dossr-run`` prints of several draws: lines, and a record for JSON."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..cli.one_image import Written


def draw_lines(done: "Written") -> Iterator[str]:
    """Yield a line for each file of an image."""
    size = f"{done.size[0]} x {done.size[1]}"
    for draw in done.draws:
        if draw.output or draw.seed == done.best:
            best = f", the best of {len(done.draws)}" if draw.seed == done.best else ""
            where = draw.output or done.job.target or "standard output"
            yield f"{where}  {size}  seed {draw.seed}{best}  {done.measure} {draw.score:.2f}"
    for what, path in done.also.items():
        scale = f"  white: {done.white} of 255 levels" if what == "spread" else ""
        yield f"{path}{scale}"
    seeds = "1 seed" if len(done.draws) == 1 else f"{len(done.draws)} seeds"
    yield f"{done.job.name}  {seeds}  {done.seconds:.1f} s"


def draws_record(done: "Written") -> dict[str, Any]:
    """Return the draws of an image for JSON, in place of its output."""
    return {
        "output": next((str(d.output) for d in done.draws if d.output == done.job.target), None),
        "measure": done.measure,
        "best_seed": done.best,
        "draws": [
            {
                "seed": draw.seed,
                "score": round(draw.score, 4),
                "output": str(draw.output) if draw.output else None,
            }
            for draw in done.draws
        ],
        **{what: str(path) for what, path in done.also.items()},
        **({"spread_white": done.white} if done.white is not None else {}),
    }
