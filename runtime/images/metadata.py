"""What a file says about its image: read from every format, corrected for the result.

Orientation is taken out, since pixels are upright; thumbnails and gain maps are taken out, since they do
not fit the result; sizes are corrected when the result is written.
"""

import re
import struct
from typing import Any

from PIL import Image

from .source import Metadata

_ORIENTATION, _RESOLUTION = 0x0112, 0x011A
_EXIF_IFD, _GPS_IFD, _INTEROP_IFD, _COLOR_SPACE = 0x8769, 0x8825, 0xA005, 0xA001
_SIZES = ((_EXIF_IFD, 0xA002, 0xA003), (None, 0x0100, 0x0101))
_XMP_TAG, _IPTC_TAG, _PHOTOSHOP_TAG = 700, 33723, 34377
_IPTC_RESOURCE = 0x0404
_DESCRIPTIVE = frozenset(
    (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x4746, 0x8298, *range(0x9C9B, 0x9CA0))
)
"""TIFF tags that describe the image; the others are the file's structure."""

_TURNED_BY_DECODER = ("HEIF", "JXL")
"""Formats whose decoders return upright images, whatever EXIF data says; not if it is a JPEG in JPEG XL."""

_XMP_TURN = re.compile(rb"""(tiff:Orientation(?:\s*=\s*["']|>)\s*)(\d)""")
_XMP_STALE = re.compile(
    rb"""<(xmp|xap):Thumbnails\b.*?</\1:Thumbnails>|<(G?Container):Directory\b.*?</\2:Directory>"""
    rb"""|<(hdrgm:\w+)\b[^>]*>.*?</\3>|\s(?:hdrgm:\w+|xmpNote:HasExtendedXMP)\s*=\s*(?:"[^"]*"|'[^']*')""",
    re.DOTALL,
)
_XMP_SIZES = (
    re.compile(rb"""((?:exif:PixelXDimension|tiff:ImageWidth)(?:\s*=\s*["']|>)\s*)(\d+)"""),
    re.compile(rb"""((?:exif:PixelYDimension|tiff:ImageLength)(?:\s*=\s*["']|>)\s*)(\d+)"""),
)
_XMP_KEY = "XML:com.adobe.xmp"
_RAW = "Raw profile type "  # of ImageMagick, in a PNG's text


def read_metadata(image: Image.Image) -> Metadata:
    """Return the metadata of an image that is loaded; what is damaged is left out."""
    text = _text(image)
    raw = {key.removeprefix(_RAW): _unhex(value) for key, value in text if key.startswith(_RAW)}
    xmp = _bytes(image.info.get("xmp")) or _tag(image, _XMP_TAG) or raw.get("xmp")
    return Metadata(
        exif=_exif(image),
        xmp=_clean_xmp(xmp) if xmp else None,
        iptc=_iptc(image) or _unwrap(raw.get("iptc") or b""),
        text=tuple((k, v) for k, v in text if not k.startswith((_RAW, _XMP_KEY, "Thumb::"))),
        comment=_bytes(image.info.get("comment")),
        dpi=_dpi(image),
    )


def orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8, by EXIF data or else XMP; 1 if it is absent or damaged."""
    if image.format in _TURNED_BY_DECODER and not getattr(image, "jpeg", False):
        return 1
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # damaged metadata
        value = None
    if value is None:
        found = _XMP_TURN.search(_bytes(image.info.get("xmp")) or _tag(image, _XMP_TAG) or b"")
        value = int(found[2]) if found else 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def fitted(metadata: Metadata, size: tuple[int, int], *, is_srgb: bool) -> Metadata:
    """Return metadata that gives ``size`` wherever it gave a width and height in pixels.

    ``is_srgb``: whether pixels were converted to sRGB, so that EXIF data must not name Adobe RGB.
    """
    exif, xmp = metadata.exif, metadata.xmp
    if exif:
        exif = _corrected(exif, size, is_srgb)
    if xmp:
        for pattern, side in zip(_XMP_SIZES, size, strict=True):
            xmp = pattern.sub(rb"\g<1>%d" % side, xmp)
    return Metadata(exif, xmp, metadata.iptc, metadata.text, metadata.comment, metadata.dpi)


def photoshop_resource(iptc: bytes) -> bytes:
    """Return IPTC records as Photoshop's image resource, as JPEG files hold them."""
    padded = iptc + bytes(len(iptc) % 2)
    return b"8BIM" + struct.pack(">HHI", _IPTC_RESOURCE, 0, len(iptc)) + padded


def raw_profile(kind: str, data: bytes) -> tuple[str, str]:
    """Return a key and text for a PNG that hold bytes as ImageMagick and ExifTool do."""
    digits = data.hex()
    lines = [digits[at : at + 72] for at in range(0, len(digits), 72)]
    return _RAW + kind, "\n".join(("", kind, f"{len(data):8}", *lines, ""))


def _exif(image: Image.Image) -> bytes | None:
    """Return EXIF data without orientation and thumbnail; None if it is absent or damaged."""
    try:
        exif = image.getexif()
        if hasattr(image, "tag_v2"):
            exif = _of_tiff(exif)
        exif.pop(_ORIENTATION, None)
        exif.get_ifd(_EXIF_IFD)  # before the file is closed
        if not len(exif) and not exif.get_ifd(_EXIF_IFD):
            return None
        data = exif.tobytes()
        Image.Exif().load(data)
        return data
    except Exception:  # damaged metadata
        return None


def _of_tiff(exif: Image.Exif) -> Image.Exif:
    kept = Image.Exif()
    kept.endian = exif.endian
    kept.update({tag: exif[tag] for tag in exif if tag in _DESCRIPTIVE})
    for tag in (_EXIF_IFD, _GPS_IFD):
        if inner := directory(exif, tag):
            kept.get_ifd(tag).update(inner)
    return kept


def directory(exif: Image.Exif, tag: int) -> dict[int, Any]:
    """Return the directory that a tag of EXIF data points to, with the one inside it."""
    inner = dict(exif.get_ifd(tag))
    if _INTEROP_IFD in inner:
        inner[_INTEROP_IFD] = dict(exif.get_ifd(_INTEROP_IFD))
    return inner


def _corrected(data: bytes, size: tuple[int, int], is_srgb: bool) -> bytes:
    exif = Image.Exif()
    try:
        exif.load(data)
        for ifd, width, height in _SIZES:
            tags: Any = exif.get_ifd(ifd) if ifd else exif
            for tag, side in ((width, size[0]), (height, size[1])):
                if tag in tags:
                    tags[tag] = side
        if is_srgb and _COLOR_SPACE in exif.get_ifd(_EXIF_IFD):
            exif.get_ifd(_EXIF_IFD)[_COLOR_SPACE] = 1
            if 1 in exif.get_ifd(_INTEROP_IFD):
                exif.get_ifd(_INTEROP_IFD)[1] = "R98"
        return exif.tobytes()
    except Exception:  # damaged metadata, which the format may still hold
        return data


def _clean_xmp(xmp: bytes) -> bytes:
    return _XMP_TURN.sub(rb"\g<1>1", _XMP_STALE.sub(b"", xmp))


def _text(image: Image.Image) -> list[tuple[str, str]]:
    if image.format != "PNG":
        return []
    try:
        return [(str(key), str(value)) for key, value in image.text.items()]  # type: ignore[attr-defined]
    except Exception:  # damaged metadata
        return []


def _iptc(image: Image.Image) -> bytes | None:
    resources = image.info.get("photoshop")
    if isinstance(resources, dict) and _bytes(resources.get(_IPTC_RESOURCE)):
        return _bytes(resources[_IPTC_RESOURCE])
    return _tag(image, _IPTC_TAG) or _unwrap(_tag(image, _PHOTOSHOP_TAG) or b"", must=True)


def _unwrap(data: bytes, must: bool = False) -> bytes | None:
    """Return the IPTC records in Photoshop's resources; data without those as it is, unless ``must``."""
    if not data.startswith(b"8BIM"):
        return None if must else data or None
    at = 0
    while data[at : at + 4] == b"8BIM" and at + 12 <= len(data):
        code, name = struct.unpack_from(">HB", data, at + 4)
        at += 6 + (name + 2) // 2 * 2
        size = int.from_bytes(data[at : at + 4], "big")
        if code == _IPTC_RESOURCE:
            return data[at + 4 : at + 4 + size] or None
        at += 4 + size + size % 2
    return None


def _tag(image: Image.Image, tag: int) -> bytes | None:
    """Return a TIFF tag that holds bytes, which some programs write as 32-bit numbers."""
    tags: Any = getattr(image, "tag_v2", None)
    try:
        value = tags.get(tag) if tags is not None else None
        if isinstance(value, tuple) and value and all(isinstance(v, int) for v in value):
            long = tags.tagtype[tag] == 4
            return struct.pack(f"{tags._endian}{len(value)}{'I' if long else 'B'}", *value)
        return _bytes(value)
    except Exception:  # damaged metadata
        return None


def _unhex(text: str) -> bytes:
    """Decode the text of a raw profile: a name, a length, then hexadecimal digits."""
    try:
        return bytes.fromhex("".join(text.split("\n")[3:]))
    except ValueError:
        return b""


def _bytes(value: object) -> bytes | None:
    if isinstance(value, str):
        value = value.encode("utf-8", "replace")
    return value if isinstance(value, bytes) and value else None


def _dpi(image: Image.Image) -> tuple[float, float] | None:
    """Return the resolution; Pillow gives 1 for a TIFF that says none."""
    if _RESOLUTION not in getattr(image, "tag_v2", {_RESOLUTION: 1}):
        return None
    try:
        x, y = (float(side) for side in image.info["dpi"])
    except Exception:  # absent, or damaged metadata
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


def comment_text(comment: bytes) -> str:
    """Return a comment as text."""
    try:
        return comment.decode("utf-8")
    except UnicodeDecodeError:
        return comment.decode("latin-1")
