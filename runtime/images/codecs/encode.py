"""Put finished frames and metadata into the bytes of a file."""

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from PIL import Image, PngImagePlugin

from ...tensors import Array
from ...terminal import captured_stderr
from ..formats import LARGEST_INFLATED, register
from ..metadata import comment_text, photoshop_resource, raw_profile
from ..source import Metadata
from .gif import encode_gif
from .png import ancillary, encode_png
from .tiff import Page, encode_tiff

_XMP_KEY = "XML:com.adobe.xmp"
_UNTIMED = 1000.0  # milliseconds for which an animation shows what was a page
_AT_ONCE = 100.0  # milliseconds for a frame without, as browsers do

Options = dict[str, Any]
"""Arguments of Pillow's ``save``."""


@dataclass(frozen=True)
class Finished:
    """One frame in the size, depth and colours of the file."""

    pixels: Array
    """uint8 or uint16 (height, width, 1 or 3)."""

    alpha: Array | None
    duration: float | None = None
    disposal: int = 0


@dataclass(frozen=True)
class Contents:
    """Everything that goes into a file."""

    frames: Sequence[Finished]
    metadata: Metadata
    profile: bytes | None
    loop: int | None
    quality: int | None


def encode(kind: str, contents: Contents) -> bytes:
    """Return the bytes of a file. In memory, because Pillow may ignore a full disk or hang on it.

    ``kind``: Pillow's name of the format. Raise nearly anything, as Pillow's encoders do.
    """
    register(kind)
    own = {"PNG": _png, "TIFF": _tiff, "GIF": _gif}.get(kind)
    return own(contents) if own else _by_pillow(kind, contents)


def supported(kind: str, metadata: Metadata, profile: bytes | None, is_grey: bool) -> Contents:
    """Return the metadata and the profile that the format takes, tried one by one on a small image."""
    sample = Finished(np.zeros((16, 16, 1 if is_grey else 3), np.uint8), None)
    empty = Contents([sample], Metadata(), None, None, None)
    kept: dict[str, Any] = {}
    for field in ("exif", "xmp", "iptc", "comment", "dpi"):
        value = getattr(metadata, field)
        if value and _works(kind, replace(empty, metadata=Metadata(**{field: value}))):
            kept[field] = value
    kept["text"] = tuple(
        line
        for line in metadata.text
        if _works(kind, replace(empty, metadata=Metadata(text=(line,))))
    )
    usable = profile if profile and _works(kind, replace(empty, profile=profile)) else None
    return replace(empty, metadata=Metadata(**kept), profile=usable)


def _works(kind: str, contents: Contents) -> bool:
    try:
        encode(kind, contents)
    except Exception:  # any exception means that the format does not take it
        return False
    return True


def _stacked(frame: Finished) -> Array:
    if frame.alpha is None:
        return frame.pixels
    return np.concatenate([frame.pixels, frame.alpha[..., None]], axis=2)


def _image(frame: Finished) -> Image.Image:
    pixels = _stacked(frame)
    return Image.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)


def _durations(contents: Contents, shortest: float) -> list[float]:
    if len(contents.frames) == 1:
        return [0]
    times = [_UNTIMED if one.duration is None else one.duration for one in contents.frames]
    return [time if time > 0 else shortest for time in times]


def _disposals(contents: Contents) -> list[int]:
    """Return what to do after each frame. Frames are whole: what the next one shows through is cleared."""
    frames = contents.frames
    covered = [one.alpha is None or bool((one.alpha > 127).all()) for one in frames]
    return [
        one.disposal if one.disposal == 2 or covered[(number + 1) % len(frames)] else 2
        for number, one in enumerate(frames)
    ]


def _plays(contents: Contents) -> int:
    return 0 if contents.loop is None else contents.loop


def _png(contents: Contents) -> bytes:
    frames = [_stacked(frame) for frame in contents.frames]
    return encode_png(
        frames,
        _png_chunks(contents, frames[0].shape[2] < 3),
        _durations(contents, _AT_ONCE),
        [one.disposal for one in contents.frames],
        _plays(contents),
    )


def _png_chunks(contents: Contents, is_grey: bool) -> list[tuple[bytes, bytes]]:
    """Return the chunks that Pillow writes about an image; those of the frames are ours."""
    about, file = contents.metadata, io.BytesIO()
    texts = PngImagePlugin.PngInfo()
    if about.xmp:
        texts.add_itxt(_XMP_KEY, about.xmp.decode("utf-8"))
    lines = list(about.text)
    if about.iptc:
        lines.append(raw_profile("iptc", photoshop_resource(about.iptc)))
    if about.comment and not any(key == "Comment" for key, _ in lines):
        lines.append(("Comment", comment_text(about.comment)))
    for key, value in lines:
        texts.add_text(key, value, zip=1024 < len(value.encode()) <= LARGEST_INFLATED)
    given = {"icc_profile": contents.profile, "exif": about.exif, "dpi": about.dpi}
    options = {name: value for name, value in given.items() if value}
    Image.new("L" if is_grey else "RGB", (1, 1)).save(file, "PNG", pnginfo=texts, **options)
    return ancillary(file.getvalue())


def _tiff(contents: Contents) -> bytes:
    return encode_tiff(
        [
            Page(
                _stacked(frame), contents.metadata if number == 0 else Metadata(), contents.profile
            )
            for number, frame in enumerate(contents.frames)
        ]
    )


def _gif(contents: Contents) -> bytes:
    frames = [
        (np.broadcast_to(one.pixels, (*one.pixels.shape[:2], 3)), one.alpha)
        for one in contents.frames
    ]
    return encode_gif(
        [(np.ascontiguousarray(pixels), alpha) for pixels, alpha in frames],
        _durations(contents, 0),
        _disposals(contents),
        _plays(contents),
        contents.metadata.comment,
    )


def _by_pillow(kind: str, contents: Contents) -> bytes:
    images = [_image(frame) for frame in contents.frames]
    options: Options = _OPTIONS.get(kind, _no_options)(contents)
    if len(images) > 1:
        options.update(save_all=True, append_images=images[1:], loop=_plays(contents))
        options["duration"] = [round(time) for time in _durations(contents, _AT_ONCE)]
    file = io.BytesIO()
    with captured_stderr():
        images[0].save(file, kind, **options)
    return file.getvalue()


def _no_options(_: Contents) -> Options:
    return {}


def _jpeg_options(contents: Contents) -> Options:
    about = contents.metadata
    extra = b""
    if about.iptc:
        content = b"Photoshop 3.0\0" + photoshop_resource(about.iptc)
        extra += b"\xff\xed" + (len(content) + 2).to_bytes(2, "big") + content
    if about.xmp:
        content = b"http://ns.adobe.com/xap/1.0/\0" + about.xmp
        extra += b"\xff\xe1" + (len(content) + 2).to_bytes(2, "big") + content
    comment = about.comment or next((v.encode() for k, v in about.text if k == "Comment"), None)
    given = {
        "exif": about.exif,
        "comment": comment,
        "dpi": about.dpi,
        "extra": extra,
        "icc_profile": contents.profile,
    }
    return {**_given(given), "quality": contents.quality or 75, "subsampling": 0}


def _modern_options(contents: Contents) -> Options:
    """Return options for WebP, AVIF, HEIC and JPEG XL."""
    about = contents.metadata
    exif = about.exif.removeprefix(b"Exif\0\0") if about.exif else None
    given = {"exif": exif, "xmp": about.xmp, "icc_profile": contents.profile}
    return {**_given(given), "quality": contents.quality or 75}


def _bmp_options(contents: Contents) -> Options:
    return _given({"dpi": contents.metadata.dpi})


def _given(options: Options) -> Options:
    return {name: value for name, value in options.items() if value}


_OPTIONS: dict[str, Callable[[Contents], Options]] = {
    "JPEG": _jpeg_options,
    "WEBP": _modern_options,
    "AVIF": _modern_options,
    "HEIF": _modern_options,
    "JXL": _modern_options,
    "BMP": _bmp_options,
}
