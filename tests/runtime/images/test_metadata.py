"""What a file says about its image stays true: kept, turned upright, without stale sizes and thumbnails."""

import io
import re
import struct

import numpy as np
import pytest
import tifffile
from PIL import ExifTags, Image, PngImagePlugin

from dossr.runtime.images.metadata import photoshop_resource, raw_profile
from dossr.runtime.images.profiles import srgb
from dossr.runtime.images.reader import count_frames, read_image
from dossr.runtime.images.source import WriteOptions

RED_BLUE = np.zeros((16, 24, 3), np.uint8)
RED_BLUE[:, :12], RED_BLUE[:, 12:] = (
    (200, 0, 0),
    (0, 0, 200),
)  # red left; upright after a turn by 6: red above
IPTC = b"\x1c\x02\x78\x00\x07a title"
XMP = (
    b'<?xpacket begin="" id="W5M0MpCehiHzreSzNTczkc9d"?><x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF '
    b'xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#"><rdf:Description rdf:about="" '
    b'xmlns:tiff="http://ns.adobe.com/tiff/1.0/" xmlns:exif="http://ns.adobe.com/exif/1.0/" '
    b'xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" tiff:Orientation="6" exif:PixelXDimension="24" '
    b'hdrgm:Version="1.0"><exif:PixelYDimension>16</exif:PixelYDimension><dc:creator>someone</dc:creator>'
    b"<xmp:Thumbnails><rdf:Alt>AAAA</rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"
    b'<?xpacket end="w"?>'
)
LONG = "a workflow " * 100_000  # Pillow refuses more than 1 MiB of compressed text
FULL = ("jpg", "webp", "tif", "avif", "heic", "png")


def _exif(orientation=6):
    exif = Image.Exif()
    exif.update({0x0112: orientation, 0x010F: "a camera"})
    exif.get_ifd(0x8769).update({0xA002: 24, 0xA003: 16, 0x829A: 0.5})
    exif.get_ifd(0x8825).update({1: "N", 2: (47.0, 22.0, 1.0)})
    return exif


def _save(path, **options):
    import pillow_heif

    pillow_heif.register_heif_opener()
    if path.suffix == ".tif" and "xmp" in options:
        options["tiffinfo"] = {700: options.pop("xmp")}
    if path.suffix == ".png" and "xmp" in options:
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", options.pop("xmp").decode())
    Image.fromarray(RED_BLUE).save(path, **options)


def _xmp(image):
    found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or image.tag_v2[700]
    return found.encode() if isinstance(found, str) else found


@pytest.mark.parametrize("source", FULL)
@pytest.mark.parametrize("target", FULL)
def test_exif_data_is_kept_upright_and_of_the_new_size(enlarged, tmp_path, source, target):
    _save(tmp_path / f"a.{source}", exif=_exif().tobytes())
    enlarged(f"a.{source}", f"b.{target}")
    with Image.open(tmp_path / f"b.{target}") as out:
        exif = out.getexif()
        assert exif.get(0x0112, 1) == 1
        assert exif[0x010F] == "a camera"
        assert exif.get_ifd(0x8769)[0x829A] == 0.5
        assert (exif.get_ifd(0x8769)[0xA002], exif.get_ifd(0x8769)[0xA003]) == (64, 96)
        assert exif.get_ifd(0x8825)[1].rstrip("\0") == "N"
        assert out.size == (64, 96)
        assert np.asarray(out.convert("RGB"))[:40, :, 0].mean() > 150


@pytest.mark.parametrize("source", FULL)
@pytest.mark.parametrize("target", FULL)
def test_xmp_is_kept_and_mended(enlarged, tmp_path, source, target):
    """Orientation in XMP alone counts."""
    _save(tmp_path / f"a.{source}", xmp=XMP)
    enlarged(f"a.{source}", f"b.{target}")
    with Image.open(tmp_path / f"b.{target}") as out:
        assert out.size == (64, 96)
        xmp = _xmp(out)
    assert b"<dc:creator>someone</dc:creator>" in xmp
    assert not re.search(rb'tiff:Orientation="[^1]', xmp)
    assert b'exif:PixelXDimension="64"' in xmp
    assert b"<exif:PixelYDimension>96<" in xmp
    assert b"Thumbnails" not in xmp
    assert b"hdrgm:Version" not in xmp


def test_exif_data_of_jpeg_xl_is_kept_and_does_not_turn(enlarged, tmp_path):
    """By its standard, the image's own orientation is the only one."""
    import pillow_jxl  # noqa: F401

    _save(tmp_path / "a.jxl", exif=_exif(6).tobytes())
    enlarged("a.jxl", "b.jxl")
    enlarged("b.jxl", "c.jpg")
    with Image.open(tmp_path / "c.jpg") as out:
        assert (out.size, out.getexif()[0x010F]) == ((384, 256), "a camera")
        assert 0x0112 not in out.getexif()


def test_a_jpeg_in_jpeg_xl_is_turned_as_the_jpeg_is(tmp_path):
    """Its decoder rebuilds the JPEG, whose pixels are not upright."""
    import pillow_jxl  # noqa: F401

    _save(tmp_path / "a.jpg", exif=_exif(6).tobytes())
    with Image.open(tmp_path / "a.jpg") as jpeg, pytest.warns(UserWarning, match="reconstruction"):
        jpeg.save(tmp_path / "a.jxl")
    alike = [read_image(tmp_path / name).frames[0].pixels for name in ("a.jpg", "a.jxl")]
    np.testing.assert_array_equal(*alike)
    assert alike[0].shape == (24, 16, 3)


def test_exif_data_goes_before_xmp(tmp_path):
    _save(tmp_path / "a.jpg", exif=_exif(1).tobytes(), xmp=XMP)
    assert read_image(tmp_path / "a.jpg").frames[0].size == (24, 16)


@pytest.mark.parametrize("written", ["='6'", ' = "6"', '="6"'])
@pytest.mark.parametrize("deep", [False, True])
def test_a_tiff_that_says_its_turn_twice_is_turned_once(tmp_path, written, deep):
    """By its own tag and by XMP."""
    xmp = f"<x tiff:Orientation{written}/>".encode()
    tifffile.imwrite(
        tmp_path / "a.tif",
        RED_BLUE * np.uint16(257) if deep else RED_BLUE,
        photometric="rgb",
        extratags=[(274, "H", 1, 6, True), (700, "B", len(xmp), xmp, True)],
    )
    frame = read_image(tmp_path / "a.tif").frames[0]
    assert frame.size == (16, 24)
    assert frame.pixels[:10, :, 0].min() > 150


def test_a_heic_that_its_decoder_turned_is_not_turned_again(tmp_path):
    """The encoder stores the EXIF orientation as a turn of the image."""
    _save(tmp_path / "a.heic", exif=_exif(6).tobytes())
    frame = read_image(tmp_path / "a.heic").frames[0]
    assert frame.size == (16, 24)
    assert frame.pixels[:10, :, 0].mean() > 150


def _with_thumbnail():
    """EXIF data with a JPEG thumbnail in its second directory."""
    file = io.BytesIO()
    Image.new("RGB", (16, 16), "lime").save(file, "JPEG")
    thumbnail = file.getvalue()
    first = struct.pack("<HHHIII", 1, 0x010E, 2, 4, int.from_bytes(b"abc\0", "little"), 26)
    second = struct.pack(
        "<HHHIIHHIIHHIII", 3, 0x0103, 3, 1, 6, 0x0201, 4, 1, 68, 0x0202, 4, 1, len(thumbnail), 0
    )
    return b"Exif\0\0" + (b"II*\0\x08\0\0\0" + first + second).ljust(68, b"\0") + thumbnail


def test_a_stale_thumbnail_is_dropped(enlarged, tmp_path):
    Image.new("RGB", (9, 9), "red").save(tmp_path / "a.jpg", exif=_with_thumbnail())
    with Image.open(tmp_path / "a.jpg") as image:
        assert 0x0201 in image.getexif().get_ifd(ExifTags.IFD.IFD1)
    enlarged("a.jpg", "b.jpg")
    assert (tmp_path / "b.jpg").read_bytes().count(b"\xff\xd8") == 1
    with Image.open(tmp_path / "b.jpg") as out:
        assert out.getexif()[0x010E] == "abc"


@pytest.mark.parametrize("source", ["jpg", "tif", "png"])
@pytest.mark.parametrize("target", ["jpg", "tif", "png"])
def test_iptc_records_are_kept(enlarged, tmp_path, source, target):
    content = b"Photoshop 3.0\0" + photoshop_resource(IPTC)
    extra = b"\xff\xed" + (len(content) + 2).to_bytes(2, "big") + content
    text = PngImagePlugin.PngInfo()
    text.add_text(*raw_profile("iptc", photoshop_resource(IPTC)))
    options = {
        "jpg": {"extra": extra},
        "tif": {"tiffinfo": {33723: IPTC}},
        "png": {"pnginfo": text},
    }
    Image.fromarray(RED_BLUE).save(tmp_path / f"a.{source}", **options[source])
    enlarged(f"a.{source}", f"b.{target}")
    assert read_image(tmp_path / f"b.{target}").metadata.iptc == IPTC


def test_texts_of_a_png_are_kept(enlarged, tmp_path):
    """tEXt, zTXt and iTXt; generated images carry their prompt in them."""
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a castle, steps: 20")
    text.add_text("long", "x" * 5000, zip=True)
    text.add_itxt("Title", "Schloß 空", "de", "Titel")
    Image.fromarray(RED_BLUE).save(tmp_path / "a.png", pnginfo=text)
    enlarged("a.png", "b.png")
    with Image.open(tmp_path / "b.png") as out:
        assert dict(out.text) == {
            "parameters": "a castle, steps: 20",
            "long": "x" * 5000,
            "Title": "Schloß 空",
        }


@pytest.mark.parametrize("suffix", ["jpg", "gif", "png"])
def test_a_comment_is_kept(enlarged, tmp_path, suffix):
    Image.fromarray(RED_BLUE).save(tmp_path / "a.jpg", comment="of the seaside")
    enlarged("a.jpg", f"b.{suffix}")
    with Image.open(tmp_path / f"b.{suffix}") as out:
        assert out.info["Comment" if suffix == "png" else "comment"] in (
            "of the seaside",
            b"of the seaside",
        )


def test_what_a_format_cannot_hold_is_left_out(enlarged, tmp_path):
    """A JPEG's segment has 64 kB, a PNG's text more."""
    text = PngImagePlugin.PngInfo()
    text.add_itxt("XML:com.adobe.xmp", XMP.decode().replace("someone", "x" * 70000))
    Image.fromarray(RED_BLUE).save(tmp_path / "a.png", pnginfo=text, exif=_exif().tobytes())
    enlarged("a.png", "b.jpg")
    with Image.open(tmp_path / "b.jpg") as out:
        assert "xmp" not in out.info
        assert out.getexif()[0x010F] == "a camera"


@pytest.mark.parametrize("suffix", FULL)
def test_stripping_removes_all_but_the_profile(enlarged, tmp_path, suffix):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a castle")
    text.add_itxt("XML:com.adobe.xmp", XMP.decode())
    Image.fromarray(RED_BLUE).save(
        tmp_path / "a.png", pnginfo=text, exif=_exif().tobytes(), icc_profile=srgb(), dpi=(300, 300)
    )
    enlarged("a.png", f"b.{suffix}", WriteOptions(strip=True))
    source = read_image(tmp_path / f"b.{suffix}")
    about = source.metadata
    assert source.profile == srgb()
    assert (about.exif, about.xmp, about.iptc, about.text, about.comment, about.dpi) == (
        None,
        None,
        None,
        (),
        None,
        None,
    )
    assert b"castle" not in (tmp_path / f"b.{suffix}").read_bytes()


def test_the_same_result_has_the_same_bytes(enlarged, tmp_path):
    _save(tmp_path / "a.jpg", exif=_exif().tobytes(), xmp=XMP)
    for suffix in ("png", "tif", "jpg", "webp", "gif"):
        enlarged("a.jpg", f"b.{suffix}", WriteOptions(profile="srgb"))
        enlarged("a.jpg", f"c.{suffix}", WriteOptions(profile="srgb"))
        assert (tmp_path / f"b.{suffix}").read_bytes() == (tmp_path / f"c.{suffix}").read_bytes()


@pytest.mark.parametrize("target", FULL)
def test_the_rest_of_exif_data_is_kept(enlarged, tmp_path, target):
    """A maker's note, and the directory inside EXIF's."""
    exif = _exif(1)
    exif.get_ifd(0x8769).update({0x927C: b"a note of the maker", 0xA005: {1: "R98", 2: b"0100"}})
    _save(tmp_path / "a.jpg", exif=exif.tobytes())
    enlarged("a.jpg", "between.tif", scale=1)
    enlarged("between.tif", f"b.{target}")
    with Image.open(tmp_path / f"b.{target}") as out:
        inner = out.getexif().get_ifd(0x8769)
        assert inner[0x927C] == b"a note of the maker"
        assert out.getexif().get_ifd(0xA005)[1].rstrip("\0") == "R98"


def test_a_result_in_srgb_does_not_say_that_it_is_adobe_rgb(enlarged, tmp_path):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({0xA001: 65535, 0xA005: {1: "R03"}})
    Image.new("RGB", (16, 16), (100, 200, 100)).save(tmp_path / "a.jpg", quality=100, exif=exif)
    enlarged("a.jpg", "b.jpg", WriteOptions(profile="srgb"))
    with Image.open(tmp_path / "b.jpg") as out:
        assert out.getexif().get_ifd(0x8769)[0xA001] == 1
        assert out.getexif().get_ifd(0xA005)[1].rstrip("\0") == "R98"
    enlarged("b.jpg", "c.png")
    with Image.open(tmp_path / "b.jpg") as once, Image.open(tmp_path / "c.png") as twice:
        assert np.abs(np.subtract(once.getpixel((30, 30)), twice.getpixel((120, 120)))).max() <= 2


def test_a_text_that_cannot_be_written_does_not_take_the_others_along(enlarged, tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("parameters", "a castle")
    text.add_text("k" * 200, "a key of at most 79 characters")
    Image.fromarray(RED_BLUE).save(tmp_path / "a.png", pnginfo=text)
    enlarged("a.png", "b.png")
    with Image.open(tmp_path / "b.png") as out:
        assert out.text["parameters"] == "a castle"


def test_texts_and_profiles_larger_than_pillow_opens_are_read(tmp_path):
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", LONG, zip=True)
    profile = srgb() + bytes(1 << 20)
    Image.fromarray(RED_BLUE).save(tmp_path / "a.png", pnginfo=text, icc_profile=profile)
    source = read_image(tmp_path / "a.png")
    assert source.metadata.text == (("workflow", LONG),)
    assert source.profile == profile
    assert count_frames(tmp_path / "a.png") == 1


def test_a_png_with_a_long_text_and_a_large_profile_can_be_opened_by_pillow(
    enlarged, profiles, tmp_path
):
    """The text is not compressed; the result is converted to sRGB."""
    text = PngImagePlugin.PngInfo()
    text.add_text("workflow", LONG)
    large = profiles.matrix_profile() + bytes(1 << 20)
    Image.fromarray(RED_BLUE).save(tmp_path / "a.png", pnginfo=text, icc_profile=large)
    source = enlarged("a.png", "b.png")
    with Image.open(tmp_path / "b.png") as out:
        assert out.text["workflow"] == LONG
        assert out.info["icc_profile"] == srgb()
        np.testing.assert_array_equal(np.asarray(out)[::4, ::4], source.frames[0].pixels)
