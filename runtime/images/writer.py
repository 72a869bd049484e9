"""Write results: the same kind of image as their source, complete or not at all."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image

from ..errors import ImageError, one_line, reason
from ..files import write_whole
from ..tensors import Array
from .alpha import enlarge, flatten
from .codecs.encode import Finished, encode, supported
from .formats import Format, writable
from .metadata import fitted
from .profiles import Profile, open_profile, srgb
from .source import Frame, Metadata, Pixels, SourceImage, WriteOptions

Size = tuple[int, int]
"""Width and height in pixels."""

_ROWS = 256  # computed at a time
_LUMA = np.array([0.299, 0.587, 0.114], np.float32)


def check_writable(
    target: Path | str,
    source: SourceImage,
    sizes: Sequence[Size],
    options: WriteOptions | None = None,
) -> Format:
    """Check, before the networks run, that a result can be written, and return its format.

    ``target``: a path, or a suffix such as .png. ``sizes``: of the results, one per frame. Raise
    ImageError, with the way out, if the format lacks what the source has: transparency, frames,
    16 bits where they are asked for, a quality, or sides of that length.
    """
    options = options or WriteOptions()
    kind = _format(target, options)
    if not source.is_opaque and not kind.alpha and options.background is None:
        raise ImageError(
            f"{target} does not support the transparency of its source; pass --background white, "
            "or write a .png"
        )
    if options.depth == "16" and not kind.deep:
        raise ImageError(
            f"{target} cannot hold 16 bits a channel; write a .png or .tif, or pass --depth 8"
        )
    if options.quality is not None and kind.quality is None:
        raise ImageError(f"{target} has no quality to set; leave --quality out")
    _check_frames(target, kind, sizes)
    _check_sizes(target, source, kind, sizes, options)
    return kind


def write_image(
    target: Path | BinaryIO,
    results: Sequence[Pixels],
    source: SourceImage,
    sizes: Sequence[Size],
    options: WriteOptions | None = None,
    *,
    replace: bool = True,
) -> Size:
    """Write the upscaled frames of a source; return the width and height of the first.

    ``target``: a path, or an open binary file, whose format is ``options.format``. ``results``: (4 height,
    4 width, 3) for each frame, sRGB, uint8 or uint16. ``sizes``: width and height to write, one per frame;
    results of other sizes are resampled (Lanczos). Create the folder if it is missing. The file is
    complete or absent. Without ``replace``, keep a file that already exists. Raise ImageError if
    writing fails.
    """
    options = options or WriteOptions()
    name = target if isinstance(target, Path) else options.format or "standard output"
    kind = check_writable(name, source, sizes, options)
    try:
        data = _encoded(kind, results, source, sizes, options)
        if isinstance(target, Path):
            target.parent.mkdir(parents=True, exist_ok=True)
            write_whole(target, data, replace=replace)
        else:
            target.write(data)
            target.flush()
    except MemoryError:
        raise
    except OSError as error:
        raise ImageError(f"{name} cannot be written: {error.strerror or reason(error)}") from error
    except Exception as error:  # Pillow's encoders raise nearly anything
        raise ImageError(one_line(f"{name} cannot be written: {reason(error)}")) from error
    return sizes[0]


def _format(target: Path | str, options: WriteOptions) -> Format:
    suffix = target.suffix if isinstance(target, Path) else target
    return writable(options.format or suffix)


def _check_frames(target: Path | str, kind: Format, sizes: Sequence[Size]) -> None:
    if len(sizes) > 1 and not kind.frames:
        raise ImageError(
            f"{target} cannot hold the {len(sizes)} frames of its source; pass --first-frame, or write a "
            ".png, .webp or .gif, or a .tif of pages"
        )
    if len(set(sizes)) > 1 and kind.name != "TIFF":
        raise ImageError(
            f"{target} cannot hold pages of several sizes; write a .tif, or pass --first-frame"
        )


def _check_sizes(
    target: Path | str,
    source: SourceImage,
    kind: Format,
    sizes: Sequence[Size],
    options: WriteOptions,
) -> None:
    longest = max(max(size) for size in sizes)
    if longest > kind.longest:
        raise ImageError(
            f"{target} must have sides of at most {kind.longest} pixels, got {longest}; write a .png"
        )
    largest = max(width * height for width, height in sizes)
    if largest > kind.most_pixels:
        raise ImageError(
            f"{target} must have at most {kind.most_pixels} pixels, got {largest}; write a .png"
        )
    channels = (1 if _is_grey(source, options) else 3) + _keeps_alpha(source, kind, options)
    total = (
        sum(width * height for width, height in sizes)
        * channels
        * result_depth(source, kind, options)
        // 8
    )
    if kind.most_bytes is not None and total > kind.most_bytes:
        raise ImageError(
            f"{target} must have at most {kind.most_bytes} bytes of pixels, got {total}; write a .png"
        )


def _keeps_alpha(source: SourceImage, kind: Format, options: WriteOptions) -> bool:
    """Return whether the result has an alpha channel, which may be opaque as in the source."""
    return kind.alpha and options.background is None and (source.has_alpha or not source.is_opaque)


def _is_grey(source: SourceImage, options: WriteOptions) -> bool:
    colour = options.background
    return source.is_grey and (source.is_opaque or colour is None or len(set(colour)) == 1)


def result_depth(source: SourceImage, kind: Format, options: WriteOptions) -> int:
    """Return the bits a channel of a result in a format that ``check_writable`` returned."""
    if not kind.deep or options.depth == "8":
        return 8
    return 16 if options.depth == "16" else source.depth


def _encoded(
    kind: Format,
    results: Sequence[Pixels],
    source: SourceImage,
    sizes: Sequence[Size],
    options: WriteOptions,
) -> bytes:
    is_grey = _is_grey(source, options)
    profile, embedded = _target_profile(kind, source, options)
    is_srgb = profile is None and source.profile is not None
    about = fitted(source.metadata, sizes[0], is_srgb=is_srgb)
    metadata = Metadata() if options.strip else about
    contents = supported(kind.name, metadata, embedded, is_grey)
    keep_alpha, depth = _keeps_alpha(source, kind, options), result_depth(source, kind, options)
    frames = []
    for result, frame, size in zip(results, source.frames, sizes, strict=True):
        pixels = _resampled(result, size)
        alpha = None if frame.alpha is None else enlarge(frame.alpha, size)
        share = None
        if alpha is not None and options.background is not None:
            pixels, alpha, share = flatten(pixels, alpha, options.background), None, alpha
        if is_grey:
            pixels = _grey(pixels)
        if profile is not None:
            pixels = _in_profile(pixels, profile, frame, share)
        if keep_alpha and alpha is None:
            alpha = np.full(pixels.shape[:2], np.iinfo(pixels.dtype).max, pixels.dtype)
        deep = None if alpha is None else _of_depth(alpha, depth)
        frames.append(Finished(_of_depth(pixels, depth), deep, frame.duration, frame.disposal))
    quality = options.quality or kind.quality
    return encode(kind.name, replace(contents, frames=frames, loop=source.loop, quality=quality))


def _target_profile(
    kind: Format, source: SourceImage, options: WriteOptions
) -> tuple[Profile | None, bytes | None]:
    """Return the profile to convert results to, None for sRGB, and the one to embed."""
    if not kind.profile:
        return None, None
    is_grey, data = _is_grey(source, options), source.profile
    fits = is_grey == source.is_grey and (kind.grey_profile or not is_grey)
    fits = fits and len(data or b"") <= kind.largest_profile
    if options.profile == "srgb" or data == srgb() or not fits:
        return None, None if is_grey else srgb()
    if data is None:
        return None, None
    profile = open_profile(data, 1 if is_grey else 3)
    return None if profile.is_srgb else profile, profile.data


def _resampled(result: Pixels, size: Size) -> Pixels:
    height, width = result.shape[:2]
    if (width, height) == tuple(size):
        return result
    if result.dtype == np.uint8:
        return np.asarray(Image.fromarray(result).resize(size, Image.Resampling.LANCZOS))
    pixels = np.empty((size[1], size[0], 3), np.uint16)
    for channel in range(3):
        for rows, values in _resized(result[..., channel], size, Image.Resampling.LANCZOS):
            pixels[rows, :, channel] = np.rint(values).clip(0, 65535)
    return pixels


def _resized(plane: Array, size: Size, method: Image.Resampling):  # type: ignore[no-untyped-def]
    """Yield rows of a resized (height, width) array, as a slice and float32 values."""
    image = Image.fromarray(plane.astype(np.float32))
    step = image.height / size[1]
    for start in range(0, size[1], _ROWS):
        end = min(start + _ROWS, size[1])
        box = (0.0, start * step, float(image.width), min(end * step, image.height))
        yield slice(start, end), np.asarray(image.resize((size[0], end - start), method, box))


def _grey(pixels: Pixels) -> Pixels:
    """Return (height, width, 1) luma (ITU-R BT.601), as Pillow does."""
    grey = np.empty((*pixels.shape[:2], 1), pixels.dtype)
    for start in range(0, len(pixels), _ROWS):
        rows = slice(start, start + _ROWS)
        grey[rows, :, 0] = np.rint(pixels[rows] @ _LUMA)
    return grey


def _in_profile(pixels: Pixels, profile: Profile, frame: Frame, share: Array | None) -> Pixels:
    """Convert sRGB pixels to a profile, and add the colours of the source that sRGB cannot hold.

    ``share``: alpha (height, width) of what was put over a background, by which they are added less.
    """
    assert profile.from_srgb is not None
    converted: Pixels = profile.from_srgb(pixels).copy()
    if frame.beyond is None:
        return converted
    top = np.iinfo(converted.dtype).max
    unit = top / np.iinfo(frame.pixels.dtype).max
    size = (converted.shape[1], converted.shape[0])
    for channel in range(converted.shape[2]):
        for rows, values in _resized(frame.beyond[..., channel], size, Image.Resampling.BICUBIC):
            seen = 1.0 if share is None else share[rows] / np.float32(np.iinfo(share.dtype).max)
            sum_ = converted[rows, :, channel] + values * (unit * seen)
            converted[rows, :, channel] = np.rint(sum_).clip(0, top)
    return converted


def _of_depth(pixels: Pixels, depth: int) -> Pixels:
    """Return pixels in 8 or 16 bits, rounded to the nearest."""
    if depth == 8 * pixels.itemsize:
        return pixels
    if depth == 16:
        return pixels.astype(np.uint16) * 257
    result = np.empty(pixels.shape, np.uint8)
    for start in range(0, len(pixels), _ROWS):
        rows = slice(start, start + _ROWS)
        result[rows] = np.rint(pixels[rows] / np.float32(257))
    return result
