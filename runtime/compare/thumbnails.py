"""Images as data URIs, at the size at which a page shows them."""

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, features

from ..images.arrays import quantize, to_pixels, to_unit
from ..images.reader import read_image

_QUALITY = 90
_MOST_PIXELS = 1 << 36  # files that were just read or written need no limit


@dataclass(frozen=True)
class Embedded:
    """An image inside a page."""

    size: tuple[int, int]
    """Width and height of the image itself."""

    shown: tuple[int, int]
    """Width and height inside the page."""

    uri: str


def embed(source: Path | Any, result: Path | Any, side: int) -> tuple[Embedded, Embedded]:
    """Return source and result at one size: the result's, reduced to at most ``side``."""
    small, large = _open(source), _open(result)
    factor = min(1.0, side / max(large.size))
    shown = max(1, round(large.width * factor)), max(1, round(large.height * factor))
    return _embed(small, shown, Image.Resampling.BICUBIC), _embed(
        large, shown, Image.Resampling.LANCZOS
    )


def _embed(image: Image.Image, shown: tuple[int, int], method: Image.Resampling) -> Embedded:
    fitted = image if image.size == shown else image.resize(shown, method)
    file, is_webp = io.BytesIO(), features.check("webp")
    if is_webp:
        fitted.save(file, "WEBP", quality=_QUALITY, method=2)
    else:
        fitted.convert("RGB").save(file, "JPEG", quality=_QUALITY, subsampling=0)
    kind = "webp" if is_webp else "jpeg"
    data = base64.b64encode(file.getbuffer()).decode()
    return Embedded(image.size, shown, f"data:image/{kind};base64,{data}")


def _open(image: Path | Any) -> Image.Image:
    """Return an image in 8 bits, RGB or RGBA."""
    if not isinstance(image, Path):
        return Image.fromarray(_8_bits(to_pixels(image)))
    frame = read_image(image, _MOST_PIXELS, first_frame=True).frames[0]
    pixels = Image.fromarray(_8_bits(frame.pixels))
    if frame.alpha is not None:
        pixels.putalpha(Image.fromarray(_8_bits(frame.alpha)))
    return pixels


def _8_bits(pixels: Any) -> Any:
    return quantize(to_unit(pixels), np.dtype(np.uint8))
