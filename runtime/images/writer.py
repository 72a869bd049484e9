"""Write results: the same kind of image as their source, complete or not at all."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image

from ..errors import ImageError
from ..files import write_whole
from .formats import Format, writable
from .source import Pixels, SourceImage, WriteOptions

Size = tuple[int, int]
"""Width and height in pixels."""

_BEST: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95, "subsampling": 0},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90},
}


def check_writable(
    target: Path | str,
    source: SourceImage,
    sizes: Sequence[Size],
    options: WriteOptions | None = None,
) -> dict[str, Any]:
    """Return the metadata of a source that the format of ``target`` supports.

    ``target``: a path or a suffix. ``sizes``: of the results, one per frame. Call it before the
    networks run. Raise ImageError if the format does not support the transparency, the frames, the
    depth or the size of the results.
    """
    kind = _format(target, options or WriteOptions())
    if not source.is_opaque and not kind.alpha:
        raise ImageError(f"{target} does not support the transparency of its source; write a .png")
    longest = max(max(size) for size in sizes)
    if longest > kind.longest:
        raise ImageError(
            f"{target} must have sides of at most {kind.longest} pixels, got {longest}; write a .png"
        )
    mode = ("L" if source.is_grey else "RGB") + ("" if source.is_opaque else "A")
    sample = Image.new(mode, (16, 16))
    kept = {
        "icc_profile": source.profile,
        "dpi": source.metadata.dpi,
        "exif": source.metadata.exif,
    }
    return {
        key: value
        for key, value in kept.items()
        if value is not None and _is_supported(sample, kind.name, {key: value})
    }


def write_image(
    target: Path | BinaryIO,
    results: Sequence[Pixels],
    source: SourceImage,
    sizes: Sequence[Size],
    options: WriteOptions | None = None,
    *,
    replace: bool = True,
) -> Size:
    """Write the upscaled frames of a source; return the width and height written.

    ``results``: (4 height, 4 width, 3) for each frame, sRGB, uint8 or uint16. ``sizes``: width and
    height to write, one per frame. Create the folder if it is missing. The file is complete or absent.
    Without ``replace``, keep a file that already exists. Raise ImageError if writing fails.
    """
    options = options or WriteOptions()
    name = target if isinstance(target, Path) else options.format or ""
    info = check_writable(name, source, sizes, options)
    image = Image.fromarray(results[0])
    if image.size != tuple(sizes[0]):
        image = image.resize(sizes[0], Image.Resampling.LANCZOS)
    if source.is_grey:
        image = image.convert("L")
    alpha = source.frames[0].alpha
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha).resize(sizes[0], Image.Resampling.BICUBIC))
    try:
        data = _encode(image, _format(name, options).name, info)
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, data, replace=replace)
        else:
            target.write(data)
    except MemoryError:
        raise
    except OSError as error:
        raise ImageError(f"{target} cannot be written: {error.strerror or _line(error)}") from error
    except Exception as error:  # Pillow's encoders raise nearly anything
        raise ImageError(f"{target} cannot be written: {_line(error)}") from error
    return image.size


def _format(target: Path | str, options: WriteOptions) -> Format:
    suffix = target.suffix if isinstance(target, Path) else target
    return writable(options.format or suffix)


def _is_supported(image: Image.Image, kind: str, info: dict[str, Any]) -> bool:
    try:
        _encode(image, kind, info)
    except Exception:  # any exception means that the format does not support it
        return False
    return True


def _encode(image: Image.Image, kind: str, info: dict[str, Any]) -> memoryview:
    """Return the file's bytes. In memory, because Pillow may ignore a full disk or hang on it."""
    file = io.BytesIO()
    image.save(file, format=kind, **_BEST.get(kind, {}), **info)
    return file.getbuffer()


def _line(error: object) -> str:
    """Return a library's message as one short line."""
    return " ".join(str(error).split())[:200] or type(error).__name__
