"""Small sound images of every format and mode that can be read, made at run time."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageCms, TiffImagePlugin

_MODES = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "JPEG": ("L", "RGB", "CMYK"),
    "MPO": ("RGB",),
    "WEBP": ("L", "RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB", "RGBA"),
    "DIB": ("RGB",),
    "GIF": ("1", "L", "P", "RGB", "RGBA"),
    "AVIF": ("L", "RGB", "RGBA"),
    "PPM": ("1", "L", "RGB", "I;16"),
    "TGA": ("1", "L", "LA", "P", "RGB", "RGBA"),
    "JPEG2000": ("L", "LA", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "I;16", "I", "F", "CMYK", "LAB", "YCbCr"),
}
_EXTRA = {
    "PNG": ({"optimize": True},),
    "JPEG": ({"progressive": True}, {"quality": 30, "restart_marker_rows": 1}),
    "WEBP": ({"lossless": True},),
    "JPEG2000": ({"irreversible": True}, {"no_jp2": True}, {"tile_size": (8, 8)}),
    "TGA": ({"compression": "tga_rle"},),
    "BMP": ({"bitmap_format": "bmp"},),
}
_BILEVEL = (
    "group3", "group4", "tiff_ccitt", "tiff_raw_16", "packbits", "tiff_lzw", "tiff_lzma", "zstd",
)  # fmt: skip
_DEEP = (
    "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg", "tiff_lzma", "zstd", "webp",
)  # fmt: skip
_SUFFIXES = {"JPEG": ".jpg", "JPEG2000": ".jp2", "TIFF": ".tif", "PPM": ".pnm", "MPO": ".jpg"}
_WITH_METADATA = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "MPO")


def all_seeds() -> list[tuple[str, str, bytes]]:
    """Return name, suffix and content of every seed that this build of Pillow can write."""
    with _silence():  # libtiff tells what it cannot write
        return _all_seeds()


@contextmanager
def _silence() -> Iterator[None]:
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _all_seeds() -> list[tuple[str, str, bytes]]:
    seeds = []
    for kind, mode, options, name in _wanted():
        stream = io.BytesIO()
        try:
            _image(mode, *((24, 17) if len(seeds) % 3 else (33, 40))).save(stream, kind, **options)
        except (ValueError, OSError, KeyError, RuntimeError):
            continue  # a combination, or a codec, that this build has not
        seeds.append((f"{kind} {mode} {name}".strip(), _suffix(kind), stream.getvalue()))
    return seeds


def _wanted() -> Iterator[tuple[str, str, dict, str]]:
    """Format, mode, options of Pillow and a name; not all of them can be written."""
    for kind, modes in _MODES.items():
        for mode in modes:
            yield kind, mode, _several(kind), ""
        for options in _EXTRA.get(kind, ()):
            yield kind, "RGB", options, " ".join(map(str, options))
        if kind in _WITH_METADATA:
            yield kind, "RGB", {**_several(kind), **_metadata(kind)}, "with metadata"
            yield kind, "RGBA", {**_several(kind), **_metadata(kind)}, "with metadata"
    yield from _wanted_tiffs()
    for kind in ("PNG", "WEBP", "GIF", "AVIF"):
        frames = [_image("RGB", 24, 17) for _ in range(2)]
        yield kind, "RGB", {"save_all": True, "append_images": frames}, "animated"
    for kind, mode, value in (("PNG", "P", 3), ("PNG", "L", 9), ("PNG", "RGB", (0, 0, 0))):
        yield kind, mode, {"transparency": value}, "with a transparent colour"


def _wanted_tiffs() -> Iterator[tuple[str, str, dict, str]]:
    for compression in _BILEVEL:
        yield "TIFF", "1", {"compression": compression}, compression
    for compression in _DEEP:
        for mode in ("L", "RGB", "RGBA", "I;16", "CMYK"):
            yield "TIFF", mode, {"compression": compression}, compression
    for mode in ("L", "RGB"):
        yield "TIFF", mode, {"big_tiff": True}, "big"


def _several(kind: str) -> dict:
    return {"save_all": True, "append_images": [_image("RGB", 24, 17)]} if kind == "MPO" else {}


def _metadata(kind: str) -> dict:
    """EXIF data, a colour profile and a resolution, as far as a format takes them."""
    exif = Image.Exif()
    exif.update({0x0112: 6, 0x010E: "a description", 0x0132: "2020:01:02 03:04:05"})
    exif.get_ifd(0x8769).update({0xA002: 24, 0xA003: 17, 0x9286: b"ASCII\0\0\0note"})
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    metadata = {"icc_profile": profile, "dpi": (72, 96)}
    if kind == "TIFF":
        tags = TiffImagePlugin.ImageFileDirectory_v2()
        tags.update({0x0112: 6, 0x010E: "a description", 0x8298: "a notice", 0x013B: "a name"})
        return {**metadata, "tiffinfo": tags}
    return {**metadata, "exif": exif.tobytes()}


def _image(mode: str, width: int, height: int) -> Image.Image:
    """A gradient with some noise, the same every time."""
    noise = np.random.default_rng(width).integers(0, 40, (height, width, 4))
    rows, columns = np.mgrid[0:height, 0:width]
    ramps = np.stack([rows * 4, columns * 5, rows + columns, 255 - rows * 3], axis=-1)
    rgba = Image.fromarray((ramps + noise).clip(0, 255).astype(np.uint8), "RGBA")
    if mode == "I;16":
        return Image.fromarray(np.asarray(rgba.convert("L")).astype(np.uint16) * 257)
    if mode == "LAB":
        return Image.merge("LAB", rgba.split()[:3])
    if mode == "P":
        return rgba.convert("RGB").quantize(31)
    if mode in ("RGBA", "LA"):
        return rgba.convert(mode)
    return rgba.convert("RGB").convert(mode)


def _suffix(kind: str) -> str:
    return _SUFFIXES.get(kind, f".{kind.lower()}")
