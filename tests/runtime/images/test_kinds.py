"""What a file is, is decided by its content."""

import io

import numpy as np
import pytest
from PIL import Image

from dossr.runtime.errors import ImageError
from dossr.runtime.images import kinds
from dossr.runtime.images.kinds import classify
from dossr.runtime.images.reader import read_image

RGB = Image.fromarray(
    np.kron(np.arange(48, dtype=np.uint8).reshape(4, 4, 3) * 5, np.ones((8, 8, 1), np.uint8))
)
RAW = {
    "cr2": b"II*\0\x10\0\0\0CR\x02\0",
    "cr3": b"\0\0\0\x18ftypcrx \0\0\0\1crx isom",
    "raf": b"FUJIFILMCCD-RAW 0201",
    "orf": b"IIRO\x08\0\0\0",
    "rw2": b"IIU\0\x18\0\0\0",
    "x3f": b"FOVb\0\0\0\0",
}


def _tiff(*tags):
    """A little-endian TIFF of one directory; tags are (number, type, value)."""
    entries = b"".join(
        tag.to_bytes(2, "little")
        + kind.to_bytes(2, "little")
        + b"\1\0\0\0"
        + value.to_bytes(4, "little")
        for tag, kind, value in tags
    )
    return b"II*\0\x08\0\0\0" + len(tags).to_bytes(2, "little") + entries + bytes(4)


@pytest.mark.parametrize(
    "name", ["photo", "photo.xyz", "photo.jfif", "photo.jpe", "photo.png", "photo.txt", "p.HEIC"]
)
@pytest.mark.parametrize(
    "kind",
    [
        "PNG",
        "JPEG",
        "WEBP",
        "GIF",
        "TIFF",
        "BMP",
        "AVIF",
        "HEIF",
        "JXL",
        "JPEG2000",
        "QOI",
        "DIB",
        "PPM",
        "SGI",
        "PCX",
    ],
)
def test_a_file_is_read_by_its_content_whatever_its_name(tmp_path, kind, name):
    import pillow_heif
    import pillow_jxl  # noqa: F401

    pillow_heif.register_heif_opener()
    RGB.save(tmp_path / name, kind)
    assert classify(tmp_path / name).role == "image"
    pixels = read_image(tmp_path / name).frames[0].pixels
    assert np.abs(pixels.astype(int) - np.asarray(RGB)).mean() < 6


def test_a_file_may_come_from_a_pipe(tmp_path):
    class Pipe(io.BytesIO):
        def seekable(self):
            return False

    file = io.BytesIO()
    RGB.save(file, "PNG")
    assert read_image(file).frames[0].size == RGB.size  # wherever it was left
    image = read_image(Pipe(file.getvalue()))
    np.testing.assert_array_equal(image.frames[0].pixels, np.asarray(RGB))
    with pytest.raises(ImageError, match="standard input must be an image, got text"):
        read_image(Pipe(b"hello"))


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("._a.jpg", b"\0\x05\x16\x07\0\x02\0\0Mac OS X", "AppleDouble"),
        (".DS_Store", b"\0\0\0\x01Bud1\0\0", "DS_Store"),
        ("Thumbs.db", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(512), "Thumbs.db"),
        ("desktop.ini", "\ufeff[.ShellClassInfo]\r\n".encode("utf-16-le"), "desktop.ini"),
        ("a.xmp", b'<?xpacket begin="" id=""?><x:xmpmeta/>', "XMP"),
        ("a.aae", b'<?xml version="1.0"?>\n<!DOCTYPE plist PUBLIC "">', "property list"),
    ],
)
def test_files_beside_photographs_are_sidecars(tmp_path, name, content, kind):
    (tmp_path / name).write_bytes(content)
    assert (classify(tmp_path / name).name, classify(tmp_path / name).role) == (kind, "sidecar")


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("notes.txt", b"hello"),
        ("to do.txt", b"P1 fix the roof\nP2 3 windows\n"),
        ("a.h", b"#define WIDTH 3\n"),
        ("b.h", b"#define max_width 100\n#define max_height 100\nint f(void);\n"),
        ("film.mp4", b"\0\0\0\x18ftypisom\0\0\x02\0isomavc1"),
        ("film.mkv", b"\x1aE\xdf\xa3"),
        ("a.pdf", b"%PDF-1.7"),
        ("a.svg", b"<?xml version='1.0'?><svg/>"),
        ("a.zip", b"PK\x03\x04"),
        ("empty", b""),
        ("noise.bin", bytes(range(256))),
    ],
)
def test_what_is_no_image_is_told_apart(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert classify(tmp_path / name).role == "other"
    with pytest.raises(ImageError, match=r"^[^\n]*must be an image, [^\n]*$"):
        read_image(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"P5 8 1 255 12345678", "PNM"),
        (b"P2 # made by hand\n# 1 2\n8\t1\n255\n1 2 3 4 5 6 7 8\n", "PNM"),
        (b"#define a_width 8\n#define a_height 1\nstatic char a_bits[] = {\n0x0f };\n", "XBM"),
    ],
)
def test_files_that_tell_their_size_in_letters_are_images(tmp_path, content, kind):
    (tmp_path / "a").write_bytes(content)
    assert classify(tmp_path / "a").name == kind
    assert read_image(tmp_path / "a").frames[0].size == (8, 1)


@pytest.mark.parametrize(
    "content", [b"", b"hello", b"<html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_a_file_named_as_an_image_is_one_though_a_damaged_one(tmp_path, content):
    """So that a run names it, instead of passing over a photograph that was lost."""
    (tmp_path / "a.jpg").write_bytes(content)
    assert classify(tmp_path / "a.jpg").role == "image"
    with pytest.raises(ImageError, match="must be an image"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", RAW)
def test_camera_raw_is_refused_with_the_way_out(tmp_path, suffix):
    (tmp_path / f"a.{suffix}").write_bytes(RAW[suffix] + bytes(64))
    assert classify(tmp_path / f"a.{suffix}").role == "refused"
    with pytest.raises(ImageError, match="develop it to a 16-bit TIFF first"):
        read_image(tmp_path / f"a.{suffix}")


def test_raw_files_that_are_tiff_are_not_taken_for_their_thumbnail(tmp_path):
    """A DNG names its version; others hold a mosaic of colours in a directory below."""
    (tmp_path / "a.dng").write_bytes(_tiff((256, 4, 8), (50706, 4, 1025)))
    below = _tiff((262, 3, 32803))
    above = _tiff((262, 3, 2), (330, 4, 8 + 2 + 24 + 4))
    (tmp_path / "a.nef").write_bytes(above + below[8:])
    RGB.save(tmp_path / "a.tif")
    assert classify(tmp_path / "a.dng").name == "DNG"
    assert classify(tmp_path / "a.nef").name == "camera raw"
    assert classify(tmp_path / "a.tif") == kinds.Kind("TIFF", "image")


def test_formats_of_the_extra_name_it_where_it_is_missing(tmp_path, monkeypatch):
    import pillow_heif

    pillow_heif.register_heif_opener()
    RGB.save(tmp_path / "a.heic")
    monkeypatch.setattr(kinds.importlib.util, "find_spec", lambda name: None)
    assert classify(tmp_path / "a.heic") == kinds.Kind(
        "HEIC", "missing", "pip install 'dossr[images]'"
    )
    with pytest.raises(ImageError, match=r"pip install 'dossr\[images\]'"):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize(
    "content", [b"v/1\x01" + bytes(20), b"#?RADIANCE\n", b"PF\n2 2\n-1\n" + bytes(48)]
)
def test_formats_of_floats_are_refused_with_the_way_out(tmp_path, content):
    (tmp_path / "a.exr").write_bytes(content)
    with pytest.raises(ImageError, match="scale it to a 16-bit PNG or TIFF first"):
        read_image(tmp_path / "a.exr")


def test_our_own_unfinished_files_are_never_images(tmp_path):
    RGB.save(tmp_path / ".dossr-0123456789abcdef.png")
    assert classify(tmp_path / ".dossr-0123456789abcdef.png").role == "unfinished"


def test_the_main_image_of_several_is_used_with_a_note(tmp_path):
    """As in the JPEG files of phones, whose second image is a gain map."""
    RGB.save(tmp_path / "a.jpg", "MPO", save_all=True, append_images=[Image.new("RGB", (9, 9))])
    image = read_image(tmp_path / "a.jpg")
    assert (len(image.frames), image.frames[0].size) == (1, (32, 32))
    assert image.notes == ("only its main image is used, of 2",)


def test_a_jpeg_with_a_gain_map_says_that_it_is_left_out(tmp_path):
    RGB.save(tmp_path / "a.jpg", xmp=b'<x xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/"/>')
    assert read_image(tmp_path / "a.jpg").notes == (
        "only its main image is used, without its HDR gain map",
    )
