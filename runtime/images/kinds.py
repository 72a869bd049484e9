"""What a file is, by its first bytes: an image, a sidecar, a format that needs more, or no image."""

import importlib.util
import os
import re
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ..files import is_unfinished

_HEAD = 4096
_EXTRA = "pip install 'dossr[images]'"
_DEVELOP = "develop it to a 16-bit TIFF first, such as with darktable-cli or RawTherapee"
SCALE_FIRST = "scale it to a 16-bit PNG or TIFF first, such as with: magick FILE -depth 16 OUT.png"
"""What to do with floats and 32-bit integers."""
_FRAMES = "take its frames first: ffmpeg -i FILE frames/%06d.png"
_RENDER = "render it to a PNG first"
_TIFFS = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

IMAGE_SUFFIXES = frozenset(
    [
        ".png",
        ".apng",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".jif",
        ".webp",
        ".tif",
        ".tiff",
        ".gif",
        ".bmp",
        ".dib",
        ".ppm",
        ".pgm",
        ".pbm",
        ".pnm",
        ".tga",
        ".jp2",
        ".j2k",
        ".jpx",
        ".jpf",
        ".avif",
        ".heic",
        ".heif",
        ".hif",
        ".jxl",
        ".ico",
        ".psd",
        ".pcx",
        ".dds",
        ".mpo",
        ".qoi",
        ".sgi",
        ".icns",
        ".xbm",
    ]
)
"""Suffixes that promise an image, so that a file with other content is damaged."""


@dataclass(frozen=True)
class Kind:
    """What a file is."""

    name: str
    """Such as PNG, HEIC, AppleDouble or text."""

    role: str
    """image: to be read, though it may be damaged; missing: an image that needs a package; refused: an
    image that cannot be read; sidecar: belongs to other files or to the system; unfinished: a file that
    dossr is writing, or was; other: no image."""

    remedy: str | None = None
    """Of a missing or refused image: what to do, such as ``pip install 'dossr[images]'``."""


def classify(path: Path) -> Kind:
    """Return what a file is by its content. Raise OSError if it cannot be opened."""
    if is_unfinished(path):
        return Kind("unfinished file", "unfinished")
    if not path.is_file():
        return Kind("special file", "other")
    with path.open("rb") as file:
        kind = classify_content(file, path.suffix.lower())
    if kind.name == "OLE file" and path.suffix.lower() == ".db":
        return Kind("Thumbs.db", "sidecar")
    if kind.role == "other" and path.suffix.lower() in IMAGE_SUFFIXES:
        return Kind(kind.name, "image")
    return kind


def classify_content(file: BinaryIO, suffix: str = "") -> Kind:
    """Return what an open file is; its position is at the start afterwards."""
    file.seek(0)
    head = file.read(_HEAD)
    try:
        for find in (_image, _iso_media, _other, _text):
            if kind := find(head):
                return _raw_tiff(file, head) or kind if head.startswith(_TIFFS) else kind
        return Kind("TGA", "image") if _is_targa(file, suffix) else Kind("unknown", "other")
    finally:
        file.seek(0)


_SIGNATURES: tuple[tuple[bytes, str, str, str | None], ...] = (
    (b"\x89PNG\r\n\x1a\n", "PNG", "image", None),
    (b"\xff\xd8\xff", "JPEG", "image", None),
    (b"GIF87a", "GIF", "image", None),
    (b"GIF89a", "GIF", "image", None),
    (b"II*\0\x10\0\0\0CR", "Canon CR2", "refused", _DEVELOP),
    *((magic, "TIFF", "image", None) for magic in _TIFFS),
    (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000", "image", None),
    (b"\xff\x4f\xff\x51", "JPEG 2000", "image", None),
    (b"\xff\x0a", "JPEG XL", "jxl", None),
    (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL", "jxl", None),
    (b"8BPS\0\x01", "PSD", "image", None),
    (b"8BPS\0\x02", "PSB", "refused", "save it as a TIFF first"),
    (b"qoif", "QOI", "image", None),
    (b"DDS ", "DDS", "image", None),
    (b"icns", "ICNS", "image", None),
    (b"\x01\xda", "SGI", "image", None),
    (b"\x59\xa6\x6a\x95", "Sun raster", "image", None),
    (b"/* XPM */", "XPM", "image", None),
    (b"v/1\x01", "OpenEXR", "refused", SCALE_FIRST),
    (b"#?RADIANCE", "Radiance HDR", "refused", SCALE_FIRST),
    (b"#?RGBE", "Radiance HDR", "refused", SCALE_FIRST),
    (b"PF\n", "PFM", "refused", SCALE_FIRST),
    (b"Pf\n", "PFM", "refused", SCALE_FIRST),
    (b"SIMPLE  =", "FITS", "refused", SCALE_FIRST),
    (b"P7\n", "PAM", "refused", "convert it to a PNG first"),
    (b"II\xbc\x01", "JPEG XR", "refused", "convert it to a PNG or TIFF first"),
    (b"BPG\xfb", "BPG", "refused", "convert it to a PNG first"),
    (b"FLIF", "FLIF", "refused", "convert it to a PNG first"),
    (b"gimp xcf", "XCF", "refused", "export it as a PNG first"),
    (b"IIRO", "Olympus ORF", "refused", _DEVELOP),
    (b"IIRS", "Olympus ORF", "refused", _DEVELOP),
    (b"MMOR", "Olympus ORF", "refused", _DEVELOP),
    (b"IIU\0", "Panasonic RW2", "refused", _DEVELOP),
    (b"II\x1a\0\0\0HEAPCCDR", "Canon CRW", "refused", _DEVELOP),
    (b"FUJIFILMCCD-RAW", "Fujifilm RAF", "refused", _DEVELOP),
    (b"FOVb", "Sigma X3F", "refused", _DEVELOP),
    (b"\0MRM", "Minolta MRW", "refused", _DEVELOP),
    (b"\x8aMNG\r\n\x1a\n", "MNG", "refused", _FRAMES),
    (b"%PDF", "PDF", "other", "render its pages first: pdftoppm -r 150 -png FILE page"),
    (b"%!PS", "PostScript", "other", _RENDER),
    (b"\xc5\xd0\xd3\xc6", "EPS", "other", _RENDER),
    (b"AT&TFORM", "DjVu", "other", _RENDER),
    (b"\xd7\xcd\xc6\x9a", "WMF", "other", _RENDER),
    (b"\0\x05\x16\x07", "AppleDouble", "sidecar", None),
    (b"\0\x05\x16\0", "AppleSingle", "sidecar", None),
    (b"\0\0\0\x01Bud1", "DS_Store", "sidecar", None),
    (b"CMMM", "thumbnail cache", "sidecar", None),
    (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "OLE file", "other", None),
    (b"\x1aE\xdf\xa3", "Matroska video", "other", _FRAMES),
    (b"FLV\x01", "FLV video", "other", _FRAMES),
    (b"\0\0\x01\xba", "MPEG video", "other", _FRAMES),
    (b"\0\0\x01\xb3", "MPEG video", "other", _FRAMES),
    (b"PK\x03\x04", "ZIP", "other", None),
    (b"\x1f\x8b", "gzip", "other", None),
    (b"SQLite format 3", "SQLite", "other", None),
)
"""Start, name, role and remedy. ``jxl`` and ``heic`` are roles of images that need a package."""

_BMP_HEADERS = frozenset(struct.pack("<I", size) for size in (12, 16, 40, 52, 56, 64, 108, 124))
_PNM = re.compile(
    rb"P[1-6](?=\s)(?:(?:\s|#[^\r\n]*[\r\n])+\d+){2}"
)  # width and height; others are texts
_XBM = re.compile(r"#define\s+\w*_width\s+\d+\s+#define\s+\w*_height\s+\d[^\0]*_bits\[")
_PACKAGES = {"jxl": "pillow_jxl", "heic": "pillow_heif"}
_HEIC = (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs", b"mif1", b"msf1")
_TEXTS = (
    ("<x:xmpmeta", "XMP", "sidecar"),
    ("<?xpacket", "XMP", "sidecar"),
    ("[.shellclassinfo]", "desktop.ini", "sidecar"),
    ("[picasa]", "Picasa", "sidecar"),
    ("[desktop entry]", "desktop file", "sidecar"),
    ("[localizedfilenames]", "desktop.ini", "sidecar"),
    ("version https://git-lfs", "Git LFS pointer", "other"),
    ("<!doctype html", "HTML page", "other"),
    ("<html", "HTML page", "other"),
)


def _image(head: bytes) -> Kind | None:
    for magic, name, role, remedy in _SIGNATURES:
        if head.startswith(magic):
            return _with_package(name, role, remedy)
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return Kind("WebP", "image")
    if head[:2] == b"BM" and head[14:18] in _BMP_HEADERS:
        return Kind("BMP", "image")
    if (
        head[:4] in _BMP_HEADERS
        and head[12:14] == b"\1\0"
        and head[14:15] in b"\1\4\x08\x10\x18\x20"
    ):
        return Kind("DIB", "image")
    if _PNM.match(head):
        return Kind("PNM", "image")
    if head[:4] in (b"\0\0\x01\0", b"\0\0\x02\0") and 0 < int.from_bytes(head[4:6], "little") < 256:
        return Kind("ICO", "image")
    if head[:1] == b"\x0a" and head[1:2] in b"\0\x02\x03\x04\x05" and head[2:3] == b"\x01":
        return Kind("PCX", "image")
    return None


def _iso_media(head: bytes) -> Kind | None:
    """Recognize HEIC, AVIF, Canon CR3 and videos by the brands of an ISO media file."""
    if head[4:8] != b"ftyp":
        return (
            Kind("QuickTime video", "other", _FRAMES)
            if head[4:8] in (b"moov", b"mdat", b"wide")
            else None
        )
    size = min(max(int.from_bytes(head[:4], "big"), 16), 256)
    brands = [head[8:12], *(head[at : at + 4] for at in range(16, size, 4))]
    if brands[0] == b"crx ":
        return Kind("Canon CR3", "refused", _DEVELOP)
    if b"avif" in brands or b"avis" in brands:
        return Kind("AVIF", "image")
    if any(brand in _HEIC for brand in brands):
        return _with_package("HEIC", "heic", None)
    return Kind("video", "other", _FRAMES)


def _other(head: bytes) -> Kind | None:
    if not head:
        return Kind("empty file", "other")
    if head[128:132] == b"DICM":
        return Kind("DICOM", "refused", SCALE_FIRST)
    if head[:4] == b"RIFF" and head[8:12] == b"AVI ":
        return Kind("AVI video", "other", _FRAMES)
    if head[188:189] == head[:1] == b"G":
        return Kind("MPEG video", "other", _FRAMES)
    return None


def _text(head: bytes) -> Kind | None:
    encoding = "utf-16" if head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
    text = head.decode(encoding, "replace").lstrip()[:1024].lower()
    for start, name, role in _TEXTS:
        if text.startswith(start):
            return Kind(name, role, "run git lfs pull" if name.startswith("Git") else None)
    if _XBM.match(text):
        return Kind("XBM", "image")
    if text.startswith(("<svg", "<?xml")) and "<svg" in text:
        return Kind("SVG", "other", _RENDER)
    if text.startswith("<?xml") and "<!doctype plist" in text:
        return Kind("property list", "sidecar")
    if text.startswith("<?xml") and "<x:xmpmeta" in text:
        return Kind("XMP", "sidecar")
    is_text = b"\0" not in head and text and text.count("\ufffd") * 20 < len(text)
    return Kind("text", "other") if is_text and _printable(text) else None


def _printable(text: str) -> bool:
    return all(c.isprintable() or c in "\t\r\n\f" for c in text if c != "\ufffd")


def _with_package(name: str, role: str, remedy: str | None) -> Kind:
    if role not in _PACKAGES:
        return Kind(name, role, remedy)
    if importlib.util.find_spec(_PACKAGES[role]):
        return Kind(name, "image")
    return Kind(name, "missing", _EXTRA)


def _is_targa(file: BinaryIO, suffix: str) -> bool:
    """TGA files start with no signature; since 1989 they end with one."""
    if suffix in (".tga", ".icb", ".vda", ".vst", ".tpic"):
        return True
    if file.seek(0, os.SEEK_END) < 44:
        return False
    file.seek(-18, os.SEEK_END)
    return file.read(18) == b"TRUEVISION-XFILE.\0"


def _raw_tiff(file: BinaryIO, head: bytes) -> Kind | None:
    """Recognize the raw files of cameras that are TIFF: DNG, NEF, ARW, PEF, SRW and others."""
    order = "<" if head[:2] == b"II" else ">"
    if head[2:4] in (b"+\0", b"\0+"):
        return None  # BigTIFF is used by no camera
    photometric, children, is_dng = _directory(
        file, order, struct.unpack_from(order + "I", head + bytes(8), 4)[0]
    )
    kinds = {photometric, *(_directory(file, order, child)[0] for child in children)}
    if is_dng:
        return Kind("DNG", "refused", _DEVELOP)
    return Kind("camera raw", "refused", _DEVELOP) if kinds & {32803, 34892} else None


def _directory(file: BinaryIO, order: str, offset: int) -> tuple[int, list[int], bool]:
    """Return photometric interpretation, offsets of child directories and whether a version of DNG is given."""
    photometric, is_dng = -1, False
    children: list[int] = []
    file.seek(offset)
    count = int.from_bytes(file.read(2), "little" if order == "<" else "big")
    entries = file.read(12 * min(count, 512))
    for at in range(0, len(entries) - 11, 12):
        tag, kind, number, value = struct.unpack_from(order + "HHII", entries, at)
        if tag == 262:
            photometric = struct.unpack_from(order + "H", entries, at + 8)[0]
        elif tag == 330 and kind in (4, 13):
            children = [value] if number == 1 else _offsets(file, order, value, min(number, 8))
        elif tag == 50706:
            is_dng = True
    return photometric, children, is_dng


def _offsets(file: BinaryIO, order: str, at: int, number: int) -> list[int]:
    file.seek(at)
    data = file.read(4 * number)
    return list(struct.unpack(f"{order}{len(data) // 4}I", data[: len(data) // 4 * 4]))
