"""Small sound images of every format and mode that can be read, made at run time."""

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401
import tifffile
from PIL import Image, ImageCms, PngImagePlugin, TiffImagePlugin
from subject import Metadata, Page, encode_png, encode_tiff, image_profiles

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
    "HEIF": ("L", "RGB", "RGBA"),
    "JXL": ("L", "LA", "RGB", "RGBA", "I;16"),
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
_SUFFIXES = {
    "JPEG": ".jpg",
    "JPEG2000": ".jp2",
    "TIFF": ".tif",
    "PPM": ".pnm",
    "MPO": ".jpg",
    "HEIF": ".heic",
}
_DEEP_PNG, _DEEP_TIFF = ("PNG", ".png"), ("TIFF", ".tif")
_WITH_METADATA = ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "MPO", "HEIF", "JXL")
_XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF><rdf:Description tiff:Orientation="6"/></rdf:RDF></x:xmpmeta>'


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
    pillow_heif.register_heif_opener()
    for kind, mode, options, name in _wanted():
        stream = io.BytesIO()
        try:
            _image(mode, *((24, 17) if len(seeds) % 3 else (33, 40))).save(stream, kind, **options)
        except (ValueError, OSError, KeyError, RuntimeError):
            continue  # a combination, or a codec, that this build has not
        seeds.append((f"{kind} {mode} {name}".strip(), _suffix(kind), stream.getvalue()))
    return [*seeds, *_sixteen_bits()]


def _sixteen_bits() -> Iterator[tuple[str, str, bytes]]:
    """16 bits a channel, which Pillow writes for grey alone; planes and pages."""
    rgba = np.asarray(_image("RGBA", 24, 17)).astype(np.uint16) * 257
    for channels, photometric in ((2, "minisblack"), (3, "rgb"), (4, "rgb")):
        pixels = rgba[..., :channels]
        yield f"PNG 16 bits of {channels}", ".png", encode_png([pixels], [], [0], [0], 0)
        for planar in ("contig", "separate"):
            file = io.BytesIO()
            tifffile.imwrite(
                file,
                pixels if planar == "contig" else np.moveaxis(pixels, 2, 0),
                photometric=photometric,
                planarconfig=planar,
                extrasamples=["unassalpha"] * (channels in (2, 4)),
            )
            yield f"TIFF 16 bits of {channels}, {planar}", ".tif", file.getvalue()
    yield "APNG 16 bits", ".png", encode_png([rgba, rgba[::-1]], [], [100, 70], [2, 3], 3)
    pages = [
        Page(rgba[..., :3], Metadata(dpi=(300, 300)), None),
        Page(rgba[:9, :, :1], Metadata(), None),
    ]
    yield "TIFF 16 bits, pages", ".tif", encode_tiff(pages)
    file = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", (24, 17), rgba[..., :3].tobytes()).save(file)
    yield "HEIF 10 bits", ".heic", file.getvalue()


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
    for kind in ("PNG", "WEBP", "GIF", "AVIF", "TIFF"):
        for mode in ("RGB", "RGBA", "P"):
            frames = [_image("RGB", side, 17).convert(mode) for side in (24, 25)]
            frames = [frame.crop((0, 0, 24, 17)) for frame in frames]
            timed = {"duration": [100, 70, 40], "loop": 2, "disposal": [0, 1, 2]}
            options = {"save_all": True, "append_images": frames, **timed}
            yield kind, mode, options, "animated"
    yield from _wanted_profiles()
    yield "JXL", "RGB", {"use_container": True}, "in a container"
    for kind, mode, value in (("PNG", "P", 3), ("PNG", "L", 9), ("PNG", "RGB", (0, 0, 0))):
        yield kind, mode, {"transparency": value}, "with a transparent colour"


def _wanted_profiles() -> Iterator[tuple[str, str, dict, str]]:
    profiles = image_profiles()
    for kind in ("JPEG", "TIFF"):
        yield kind, "CMYK", {"icc_profile": profiles.table_profile()}, "with a profile"
    for kind in ("PNG", "JPEG", "WEBP", "TIFF", "AVIF", "HEIF"):
        yield kind, "RGB", {"icc_profile": profiles.matrix_profile()}, "with a wide profile"
        yield kind, "L", {"icc_profile": profiles.grey_profile()}, "with a grey profile"
    yield "PNG", "RGB", {"icc_profile": profiles.table_profile(b"RGB ")}, "with a profile of tables"


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
        tags[700], tags[33723] = _XMP, b"\x1c\x02\x78\0\4text"
        tags.update({0x0112: 6, 0x010E: "a description", 0x8298: "a notice", 0x013B: "a name"})
        return {**metadata, "tiffinfo": tags}
    if kind == "PNG":
        texts = PngImagePlugin.PngInfo()
        texts.add_itxt("XML:com.adobe.xmp", _XMP.decode())
        texts.add_text("parameters", "a castle", zip=True)
        return {**metadata, "exif": exif.tobytes(), "pnginfo": texts}
    return {**metadata, "exif": exif.tobytes(), "xmp": _XMP, "comment": b"a comment"}


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
