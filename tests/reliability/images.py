"""Damaged images: read, and what is read is written in every format and read again."""

import contextlib
import random
from functools import cache
from pathlib import Path

import mutate
import numpy as np
import seeds
import subject
from PIL import Image
from workers import Report

MAX_SIDE = 96
"""Side in pixels up to which an image that was read is written."""

MANY = 1 << 24
"""Pixels above which lack of memory is no fault."""

SOUND = ", sound"
UNREADABLE = ("TIFF F",)
"""Seeds that are refused: floats."""


class Images:
    name, limit_s, per_fork, address_space = "images", 10.0, 500, 4 << 30

    def __init__(self) -> None:
        _seeds()  # before any worker is forked

    def build(self, seed: int, folder: Path) -> str:
        """Write the damaged image of a seed; return what it was made of."""
        rng = random.Random(f"image {seed}")
        name, suffix, data = rng.choice(_seeds())
        if rng.random() < 0.05:  # the head of one file and the body of another
            other = rng.choice(_seeds())[2]
            at = rng.randrange(min(len(data), len(other)))
            data = data[:at] + other[at:]
        elif rng.random() < 0.02:
            name += SOUND
        else:
            data = mutate.mutated(rng, data, mutate.IMAGES)
        (folder / f"image{suffix}").write_bytes(data)
        return name

    def check(self, seed: int, folder: Path) -> Report:
        what = self.build(seed, folder)
        (path,), report = folder.iterdir(), Report(seed)
        try:
            image = subject.read_image(path)
        except subject.ImageError as error:
            report.outcome = "refused"
            report.check_message(error)
            if what.endswith(SOUND) and what.removesuffix(SOUND) not in UNREADABLE:
                report.fault("a sound image is refused", f"{what}: {error}")
        except MemoryError as error:
            report.outcome = "out of memory"
            if _claimed(path) <= MANY:
                report.foreign("reading", error)
        except Exception as error:
            report.foreign("reading", error)
        else:
            report.outcome = "read"
            if max(max(frame.size) for frame in image.frames) <= MAX_SIDE:
                report.outcome = "read and written"
                _write_all(report, image, folder, random.Random(seed))
        left = sorted(file.name for file in folder.iterdir() if file != path)
        if left:
            report.fault("files are left", left)
        return report


def _write_all(report: Report, image, folder: Path, rng: random.Random) -> None:
    """Write an image, enlarged as the pipeline would, in all formats; remove what is written."""
    large = [np.repeat(np.repeat(frame.pixels, 4, axis=0), 4, axis=1) for frame in image.frames]
    scale = rng.choice((1, 1, 1, 1.5, 4)) if sum(part.size for part in large) < 160**2 else 1
    sizes = [tuple(max(1, round(side * scale)) for side in frame.size) for frame in image.frames]
    options = subject.WriteOptions(
        background=rng.choice((None, None, (255, 255, 255))),
        depth=rng.choice(("auto", "auto", "8")),
        strip=rng.random() < 0.2,
        profile=rng.choice(("keep", "keep", "srgb")),
    )
    for suffix in rng.sample(subject.SUFFIXES, 5):
        path = folder / f"out{suffix}"
        try:
            subject.check_writable(path, image, sizes, options)
        except subject.ImageError as error:
            report.check_message(error)
            continue
        try:
            size = subject.write_image(path, large, image, sizes, options)
        except Exception as error:
            report.foreign(f"writing {suffix}", error)
        else:
            _read_again(report, path, size, None if options.background else image)
        path.unlink(missing_ok=True)


def _read_again(report: Report, path: Path, size: tuple[int, int], source) -> None:
    """Check that a written file is an image like its source, of the size that was told.

    ``source``: None if it was flattened.
    """
    try:
        again = subject.read_image(path)
    except Exception as error:
        report.foreign(f"reading the {path.suffix} that was written", error)
        return
    if again.frames[0].size != size:
        report.fault(f"wrong size in {path.suffix}", f"{size} told, {again.frames[0].size} read")
    if source is None:
        return
    clear = [frame.alpha.min() for frame in source.frames if frame.alpha is not None]
    if again.is_opaque and clear and min(clear) < 64 * (257 if source.depth == 16 else 1):
        report.fault(f"transparency lost in {path.suffix}", min(clear))


def _claimed(path: Path) -> int:
    """The number of pixels that a file says it has; 0 where it cannot be opened."""
    with contextlib.suppress(Exception), Image.open(path) as image:
        return image.width * image.height * getattr(image, "n_frames", 1)
    return 0


@cache
def _seeds() -> list[tuple[str, str, bytes]]:
    return seeds.all_seeds()
