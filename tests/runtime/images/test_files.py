import io
import struct

import numpy as np
import pytest
from PIL import Image

from dossr.runtime.errors import ImageError
from dossr.runtime.images.codecs.headers import claimed_size
from dossr.runtime.images.formats import WRITABLE
from dossr.runtime.images.reader import read_image
from dossr.runtime.images.source import WriteOptions
from dossr.runtime.images.writer import check_writable, write_image

RAMP = np.arange(6 * 9, dtype=np.uint8).reshape(6, 9) * 4


def _round_trip(tmp_path, name, scale=4.0):
    """Read a file, enlarge it by repetition, write it and open the result."""
    source = read_image(tmp_path / name)
    frame = source.frames[0]
    large = frame.pixels.repeat(4, axis=0).repeat(4, axis=1)
    size = tuple(round(side * scale) for side in frame.size)
    write_image(tmp_path / "out.png", [large], source, [size])
    out = Image.open(tmp_path / "out.png")
    out.load()
    return out


def test_colour_stays_colour(tmp_path):
    rgb = np.stack([RAMP, RAMP[::-1], RAMP // 2], axis=2)
    Image.fromarray(rgb).save(tmp_path / "in.png")
    out = _round_trip(tmp_path, "in.png")
    assert (out.mode, out.size) == ("RGB", (36, 24))
    np.testing.assert_array_equal(np.asarray(out)[::4, ::4], rgb)


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_stays_grey(tmp_path, mode):
    Image.fromarray(RAMP).convert(mode).save(tmp_path / "in.png")
    out = _round_trip(tmp_path, "in.png")
    assert (out.mode, out.size) == ("L", (36, 24))


def test_sixteen_bits_stay_sixteen(tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "in.png")
    out = _round_trip(tmp_path, "in.png")
    np.testing.assert_array_equal(np.asarray(out)[::4, ::4], deep)


def test_a_transparent_level_of_a_16_bit_image_is_kept(tmp_path):
    deep = RAMP.astype(np.uint16) * 257
    Image.fromarray(deep).save(tmp_path / "in.png", transparency=257 * 8)
    out = _round_trip(tmp_path, "in.png")
    alpha = np.asarray(out.getchannel("A").resize((9, 6), Image.Resampling.BOX))
    assert out.mode == "RGBA"  # as which Pillow opens 16-bit grey with alpha
    assert (alpha[RAMP == 8] < 128).all()
    assert alpha.mean() > 200


@pytest.mark.parametrize("mode", ["RGBA", "LA", "PA"])
def test_transparency_is_kept(tmp_path, mode):
    rgba = np.dstack([RAMP, RAMP, RAMP, RAMP[:, ::-1]])
    image = Image.fromarray(rgba)
    suffix = "png"
    if mode == "LA":
        image = image.convert("LA")
    if mode == "PA":
        image, suffix = image.quantize(), "png"
    image.save(tmp_path / f"in.{suffix}")
    out = _round_trip(tmp_path, f"in.{suffix}")
    assert out.mode == ("LA" if mode == "LA" else "RGBA")
    alpha = np.asarray(out.getchannel("A"), float)
    assert alpha.shape == (24, 36)
    assert np.abs(alpha.reshape(6, 4, 9, 4).mean((1, 3)) - RAMP[:, ::-1]).mean() < 8


def test_a_palette_with_a_transparent_entry_keeps_it(tmp_path):
    palette = Image.fromarray(RAMP).convert("P")
    palette.save(tmp_path / "in.gif", transparency=int(np.asarray(palette)[0, 0]))
    out = _round_trip(tmp_path, "in.gif")
    assert out.mode == "RGBA"
    assert np.asarray(out.getchannel("A"))[0, 0] == 0


@pytest.mark.parametrize("kind", ["png", "jpg", "tiff", "webp"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_rotated_photograph_is_turned_once(tmp_path, kind, orientation):
    """Each orientation against the matrix that the EXIF standard describes."""
    stored = np.kron(RAMP, np.ones((8, 8), np.uint8))  # large patches survive JPEG
    upright = {
        1: stored,
        2: stored[:, ::-1],
        3: stored[::-1, ::-1],
        4: stored[::-1],
        5: stored.T,
        6: np.rot90(stored, -1),
        7: stored[::-1, ::-1].T,
        8: np.rot90(stored),
    }[orientation]
    image = Image.fromarray(np.dstack([stored] * 3))
    exif = image.getexif()
    exif[0x0112], exif[0x010F] = orientation, "camera"
    image.save(tmp_path / f"in.{kind}", exif=exif)
    out = _round_trip(tmp_path, f"in.{kind}")
    assert 0x0112 not in out.getexif()
    assert out.getexif()[0x010F] == "camera"
    assert out.size == (4 * upright.shape[1], 4 * upright.shape[0])
    assert np.abs(np.asarray(out, float)[::4, ::4, 0] - upright).mean() < 3


@pytest.mark.parametrize(
    "entry",
    [
        b"\x12\x01\x02\x00\x04\x00\x00\x00abc\x00",  # orientation as text
        b"\x12\x01\x04\x00\x01\x00\x00\x00\x9f\x86\x01\x00",  # orientation 99999
        b"\xbc\x02\x02\x00\x04\x00\x00\x00abc\x00",  # XMP as text
        b"garbage",
    ],
)
def test_odd_metadata_is_dropped_and_the_image_kept(tmp_path, entry):
    """One EXIF entry, in little-endian TIFF form."""
    exif = b"Exif\x00\x00II*\x00\x08\x00\x00\x00\x01\x00" + entry + b"\x00" * 4
    Image.fromarray(np.dstack([RAMP] * 3)).save(tmp_path / "in.jpg", exif=exif)
    out = _round_trip(tmp_path, "in.jpg")
    assert out.size == (36, 24)
    assert 0x0112 not in out.getexif()


def test_profile_and_resolution_are_kept(tmp_path):
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(np.dstack([RAMP] * 3)).save(
        tmp_path / "in.png", icc_profile=profile, dpi=(300, 300)
    )
    out = _round_trip(tmp_path, "in.png")
    assert out.info["icc_profile"] == profile
    assert out.info["dpi"] == pytest.approx((300, 300), abs=0.1)


@pytest.mark.parametrize(("scale", "size"), [(1.0, (9, 6)), (2.5, (22, 15)), (3.0, (27, 18))])
def test_a_smaller_scale_is_reduced_from_four(tmp_path, scale, size):
    rgba = np.dstack([RAMP] * 4)
    Image.fromarray(rgba).save(tmp_path / "in.png")
    assert _round_trip(tmp_path, "in.png", scale).size == size


def test_files_that_are_no_images_are_refused_in_one_line(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.dstack([RAMP] * 3).repeat(9, 0)).save(tmp_path / "whole.png")
    whole = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    Image.fromarray(RAMP.astype(np.float32)).save(tmp_path / "float.tiff")
    for name, reason in (
        ("text.png", "must be an image"),
        ("empty.png", "must be an image"),
        ("cut.png", "cannot be read: it may be truncated"),
        ("float.tiff", "must have 8 or 16 bits a channel, got 32-bit floats"),
    ):
        with pytest.raises(ImageError, match=rf"^[^\n]*{name} {reason}[^\n]*$"):
            read_image(tmp_path / name)


def test_a_format_without_transparency_is_refused_for_a_transparent_image(tmp_path):
    Image.fromarray(np.dstack([RAMP] * 4)).save(tmp_path / "in.png")
    source = read_image(tmp_path / "in.png")
    pixels = source.frames[0].pixels.repeat(4, axis=0).repeat(4, axis=1)
    with pytest.raises(ImageError, match=r"out\.jpg does not support the transparency"):
        write_image(tmp_path / "out.jpg", [pixels], source, [(36, 24)])
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]


def test_a_failed_write_leaves_nothing(tmp_path):
    Image.fromarray(RAMP).save(tmp_path / "in.png")
    source = read_image(tmp_path / "in.png")
    pixels = [source.frames[0].pixels]
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "in.png" / "out.png", pixels, source, [(9, 6)])
    (tmp_path / "out.png").mkdir()
    with pytest.raises(ImageError, match="cannot be written"):
        write_image(tmp_path / "out.png", pixels, source, [(9, 6)])
    assert {path.name for path in tmp_path.iterdir()} == {"in.png", "out.png"}


@pytest.mark.parametrize(
    ("suffix", "size"),
    [("webp", (16384, 4)), ("jpg", (65501, 4)), ("avif", (32769, 4)), ("avif", (20000, 20000)),
     ("tga", (65536, 4)), ("gif", (4, 65536)), ("heic", (16385, 64)), ("tif", (40000, 40000)),
     ("bmp", (40000, 40000))],
)  # fmt: skip
def test_sizes_beyond_a_format_are_refused_before_any_work(tmp_path, suffix, size):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    source = read_image(tmp_path / "in.png")
    with pytest.raises(ImageError, match=rf"^[^\n]*out\.{suffix} must have [^\n]*; write a \.png$"):
        check_writable(tmp_path / f"out.{suffix}", source, [size])


@pytest.mark.parametrize(
    ("suffix", "size"),
    [("webp", (16383, 1)), ("jpg", (65500, 1)), ("avif", (32768, 4)), ("tga", (65535, 2)),
     ("gif", (65535, 2)), ("jxl", (16400, 4)), ("jp2", (16400, 4))],
)  # fmt: skip
def test_the_largest_size_of_a_format_can_be_written_and_read(tmp_path, suffix, size):
    Image.new("RGB", (4, 4), "red").save(tmp_path / "in.png")
    source = read_image(tmp_path / "in.png")
    write_image(tmp_path / f"out.{suffix}", [source.frames[0].pixels], source, [size])
    assert read_image(tmp_path / f"out.{suffix}").frames[0].size == size


@pytest.mark.parametrize("suffix", [suffix for suffix, kind in WRITABLE.items() if kind.quality])
def test_quality_decides_the_size_of_the_file(enlarged, tmp_path, suffix):
    noise = np.random.default_rng(0).integers(0, 255, (32, 32, 3)).astype(np.uint8)
    Image.fromarray(noise).save(tmp_path / "in.png")
    enlarged("in.png", f"low{suffix}", WriteOptions(quality=20))
    enlarged("in.png", f"high{suffix}", WriteOptions(quality=98))
    assert (tmp_path / f"low{suffix}").stat().st_size < (
        tmp_path / f"high{suffix}"
    ).stat().st_size / 2


def test_quality_is_refused_where_a_format_has_none(tmp_path):
    Image.new("RGB", (4, 4)).save(tmp_path / "in.png")
    source = read_image(tmp_path / "in.png")
    with pytest.raises(ImageError, match=r"out\.png has no quality to set; leave --quality out"):
        check_writable(tmp_path / "out.png", source, [(16, 16)], WriteOptions(quality=90))


def test_the_format_may_be_asked_for_by_its_suffix(tmp_path):
    """For a file that has no name, such as standard output."""
    Image.new("RGB", (4, 4), "red").save(tmp_path / "in.png")
    source, file = read_image(tmp_path / "in.png"), io.BytesIO()
    pixels = source.frames[0].pixels
    assert write_image(file, [pixels], source, [(16, 16)], WriteOptions(format=".webp")) == (16, 16)
    assert Image.open(file).format == "WEBP"
    with pytest.raises(
        ImageError, match=r"'\.xyz' is not a format that can be written; take one of \.png"
    ):
        check_writable(".xyz", source, [(16, 16)])


@pytest.mark.parametrize("size", [(33, 40), (64, 64), (1000, 7), (160, 90), (300, 400), (8, 16)])
@pytest.mark.parametrize(
    "kind", ["JXL", "JXL in a container", "WEBP", "lossless WEBP", "WEBP with alpha"]
)
def test_sizes_are_known_before_a_decoder_allocates(size, kind):
    import pillow_jxl  # noqa: F401

    image = Image.new("RGBA" if "alpha" in kind else "RGB", size, "red")
    options = (
        {"use_container": "container" in kind}
        if "JXL" in kind
        else {"lossless": "lossless" in kind}
    )
    file = io.BytesIO()
    image.save(file, "JXL" if "JXL" in kind else "WEBP", **options)
    assert claimed_size(file) == size
    with pytest.raises(ImageError, match=r"must have at most 9 pixels, got"):
        read_image(io.BytesIO(file.getvalue()), 9)


def test_what_is_no_image_in_an_icon_claims_no_size(tmp_path):
    """Its second entry points to bytes that are neither a PNG nor a bitmap."""
    file = io.BytesIO()
    Image.new("RGB", (30, 20)).save(file, "PNG")
    png = file.getvalue()
    entries = [bytes([16, 16, 0, 0, 1, 0, 32, 0]) + struct.pack("<II", len(png), 38),
               bytes([1, 1, 0, 0, 1, 0, 32, 0]) + struct.pack("<II", 24, 38 + len(png))]  # fmt: skip
    (tmp_path / "a.ico").write_bytes(b"\0\0\1\0\2\0" + b"".join(entries) + png + b"\x7f" * 24)
    assert read_image(tmp_path / "a.ico").frames[0].size == (30, 20)


@pytest.mark.parametrize("kind", ["png", "bmp", "short header"])
def test_an_icon_is_refused_by_the_size_of_the_image_in_it(tmp_path, monkeypatch, kind):
    """Pillow decodes it when it opens it. A bitmap has a mask below it, and no header of a file."""
    file = io.BytesIO()
    image = Image.new(
        "RGB" if kind == "short header" else "RGBA", (300, 200 if kind == "png" else 400)
    )
    image.save(file, "png" if kind == "png" else "bmp")
    data = file.getvalue()[0 if kind == "png" else 14 :]
    if kind == "short header":
        data = struct.pack("<IHHHH", 12, 300, 400, 1, 24) + data[40:]
    entry = bytes([0, 0, 0, 0, 1, 0, 32, 0]) + struct.pack("<II", len(data), 22)
    (tmp_path / "a.ico").write_bytes(b"\0\0\1\0\1\0" + entry + data)
    assert read_image(tmp_path / "a.ico").frames[0].size == (300, 200)
    monkeypatch.setattr("dossr.runtime.images.reader.open_frames", None)
    with pytest.raises(ImageError, match="must have at most 1000 pixels, got 300 x 200"):
        read_image(tmp_path / "a.ico", 1000)
