"""16 bits a channel: read whole, written whole."""

import io
import struct
import sys
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from dossr.runtime.errors import ImageError
from dossr.runtime.images.codecs.headers import has_many_bits
from dossr.runtime.images.codecs.png import encode_png
from dossr.runtime.images.reader import read_image
from dossr.runtime.images.source import WriteOptions
from dossr.runtime.images.writer import check_writable

DEEP = np.random.default_rng(0).integers(0, 65536, (21, 34, 4)).astype(np.uint16)
DEEP[..., 3] |= 1  # nothing is quite transparent, so that every colour counts


def _png(pixels, *chunks):
    return encode_png([np.ascontiguousarray(pixels)], chunks, [0], [0], 0)


@pytest.fixture
def sixteen(tmp_path):
    """Reads uint16 (height, width, channels) of a PNG or TIFF by means other than dossr's."""

    def read(name):
        if name.endswith(".tif"):
            return tifffile.imread(tmp_path / name)
        return _decode_png((tmp_path / name).read_bytes())

    return read


def _decode_png(data):
    """Decode a PNG of 16 bits that is not interlaced, by the text of the standard."""
    width, height, depth, kind = struct.unpack(">IIBB", data[16:26])
    assert depth == 16
    channels, at, packed = {0: 1, 2: 3, 4: 2, 6: 4}[kind], 8, b""
    while at < len(data):
        length, name = struct.unpack(">I4s", data[at : at + 8])
        packed += data[at + 8 : at + 8 + length] if name == b"IDAT" else b""
        at += 12 + length
    pixel, stride = 2 * channels, 2 * channels * width
    lines, above, raw = [], bytearray(stride), zlib.decompress(packed)
    for row in range(height):
        start = row * (stride + 1)
        line = bytearray(raw[start + 1 : start + 1 + stride])
        for i in range(stride):
            a, b = line[i - pixel] if i >= pixel else 0, above[i]
            c = above[i - pixel] if i >= pixel else 0
            near = min((a, b, c), key=lambda value: abs(a + b - c - value))
            line[i] = line[i] + (0, a, b, (a + b) // 2, near)[raw[start]] & 255
        lines.append(bytes(line))
        above = line
    return np.frombuffer(b"".join(lines), ">u2").reshape(height, width, channels)


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_stay_sixteen_in_png_and_tiff(enlarged, sixteen, tmp_path, channels, suffix):
    pixels = np.concatenate([DEEP[..., : (channels - 1) // 2 * 2 + 1], DEEP[..., 3:]], axis=-1)[
        ..., :channels
    ]
    (tmp_path / "a.png").write_bytes(_png(pixels))
    source = enlarged("a.png", f"b.{suffix}")
    assert source.depth == 16
    again = sixteen(f"b.{suffix}").reshape(84, 136, channels)
    colours = channels - (channels % 2 == 0)
    np.testing.assert_array_equal(again[::4, ::4, :colours], pixels[..., :colours])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("planar", ["contig", "separate"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_tiff_is_read_in_both_orders_compressed_and_in_planes(
    tmp_path, compression, order, planar, channels
):
    pixels = DEEP[..., :channels]
    options = {"extrasamples": ["unassalpha"]} if channels in (2, 4) else {}
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels if planar == "contig" else np.moveaxis(pixels, 2, 0),
        photometric="rgb" if channels > 2 else "minisblack",
        planarconfig=planar if channels > 1 else None,
        compression=compression,
        byteorder=order,
        **options,
    )
    frame = read_image(tmp_path / "a.tif").frames[0]
    colours = pixels[..., : 3 if channels > 2 else 1]
    np.testing.assert_array_equal(frame.pixels, np.broadcast_to(colours, (*colours.shape[:2], 3)))
    if channels in (2, 4):
        np.testing.assert_array_equal(frame.alpha, pixels[..., -1])


@pytest.mark.parametrize("extra", ["unassalpha", "unspecified"])
def test_further_channels_of_a_tiff_are_no_colours(tmp_path, extra):
    """Spot colours of a printer, or damage; the first is transparency if the page says so."""
    spots = np.arange(1, 9 * 7 * 4 + 1, dtype=np.uint16).reshape(9, 7, 4)
    pixels = np.concatenate([DEEP[:9, :7, :3], spots], axis=2)
    tifffile.imwrite(
        tmp_path / "a.tif",
        pixels,
        photometric="rgb",
        extrasamples=[extra, *["unspecified"] * 3],
    )
    frame = read_image(tmp_path / "a.tif").frames[0]
    np.testing.assert_array_equal(frame.pixels, pixels[..., :3])
    if extra == "unassalpha":
        np.testing.assert_array_equal(frame.alpha, pixels[..., 3])
    else:
        assert frame.alpha is None


def test_a_tiff_whose_directories_go_round_has_each_page_once(tmp_path):
    """Damage that made the reader run for ever; Pillow opens no grey with alpha of 16 bits."""
    path = tmp_path / "a.tif"
    pages = [DEEP[..., :2], DEEP[:5, :, :2]]
    with tifffile.TiffWriter(path, byteorder="<") as tiff:
        for page in pages:
            tiff.write(page, photometric="minisblack", extrasamples=["unassalpha"])
    with tifffile.TiffFile(path) as tiff:
        first, last = (page.offset for page in tiff.pages)
    data = bytearray(path.read_bytes())
    (tags,) = struct.unpack_from("<H", data, last)
    struct.pack_into("<I", data, last + 2 + 12 * tags, first)
    path.write_bytes(data)
    for frame, page in zip(read_image(path).frames, pages, strict=True):
        np.testing.assert_array_equal(frame.pixels[..., 0], page[..., 0])


def test_other_colours_in_planes_of_a_tiff_are_refused_in_one_line(tmp_path):
    cmyk = np.moveaxis(np.repeat(DEEP[..., :1], 4, axis=2), 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", cmyk, photometric="separated", planarconfig="separate")
    with pytest.raises(ImageError, match="must be grey or RGB, got SEPARATED of 4 channels; save"):
        read_image(tmp_path / "a.tif")


def test_an_interlaced_png_is_read(tmp_path):
    """Adam7, by the text of the standard; no pass is filtered."""
    raw = b""
    for x, y, dx, dy in (
        (0, 0, 8, 8),
        (4, 0, 8, 8),
        (0, 4, 4, 8),
        (2, 0, 4, 4),
        (0, 2, 2, 4),
        (1, 0, 2, 2),
        (0, 1, 1, 2),
    ):
        part = DEEP[y::dy, x::dx, :3].astype(">u2")
        raw += b"".join(b"\0" + row.tobytes() for row in part)
    plain = _png(DEEP[..., :3])
    header = bytearray(plain[16:29])
    header[12] = 1
    chunks = [(b"IHDR", bytes(header)), (b"IDAT", zlib.compress(raw)), (b"IEND", b"")]
    file = b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        for name, data in chunks
    )
    (tmp_path / "a.png").write_bytes(file)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png").frames[0].pixels, DEEP[..., :3])


def test_premultiplied_colours_are_divided_by_alpha(tmp_path):
    alpha = np.full((9, 9, 1), 32768, np.uint16)
    tifffile.imwrite(
        tmp_path / "a.tif",
        np.concatenate([np.full((9, 9, 3), 10000, np.uint16), alpha], axis=2),
        photometric="rgb",
        extrasamples=["assocalpha"],
    )
    assert read_image(tmp_path / "a.tif").frames[0].pixels[4, 4].tolist() == [20000] * 3


def test_white_may_be_zero(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., 0], photometric="miniswhite")
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.tif").frames[0].pixels[..., 0], 65535 - DEEP[..., 0]
    )


def test_white_may_be_zero_beside_alpha_and_black_be_less_than_the_type_holds(tmp_path):
    levels = np.stack([np.arange(64).reshape(8, 8) * 65, np.full((8, 8), 4095)], 2)
    tifffile.imwrite(
        tmp_path / "a.tif",
        levels.astype(np.uint16),
        photometric="miniswhite",
        extrasamples=["unassalpha"],
        extratags=[(281, "H", 2, (4095, 4095), True)],
    )
    frame = read_image(tmp_path / "a.tif").frames[0]
    white = np.rint((4095 - levels[..., 0]) * (65535 / 4095))
    np.testing.assert_array_equal(frame.pixels[..., 0], white)


def test_ten_bits_of_a_heic_are_used_as_sixteen(tmp_path):
    import pillow_heif

    ramp = np.broadcast_to(np.linspace(0, 65535, 64).astype(np.uint16)[None, :, None], (64, 64, 3))
    pillow_heif.from_bytes("RGB;16", (64, 64), ramp.tobytes()).save(
        tmp_path / "a.heic", quality=100
    )
    source = read_image(tmp_path / "a.heic")
    assert source.depth == 16
    assert np.abs(source.frames[0].pixels.astype(int) - ramp).mean() < 400
    assert source.frames[0].pixels.max() > 65000


def test_twelve_bits_in_sixteen_are_told_and_kept(enlarged, sixteen, tmp_path):
    (tmp_path / "a.png").write_bytes(_png(DEEP[..., :3] >> 4))
    source = enlarged("a.png", "b.png")
    assert "as of 12 bits in 16" in source.notes[0]
    np.testing.assert_array_equal(sixteen("b.png")[::4, ::4], DEEP[..., :3] >> 4)


@pytest.mark.parametrize("tag", [281, 341])
def test_twelve_bits_are_scaled_where_the_file_says_what_white_is(tmp_path, tag):
    levels = DEEP[..., :3] >> 4
    tifffile.imwrite(
        tmp_path / "a.tif",
        levels,
        photometric="rgb",
        extratags=[(tag, "H", 3, (4095, 4095, 4095), True)],
    )
    source = read_image(tmp_path / "a.tif")
    np.testing.assert_array_equal(source.frames[0].pixels, np.rint(levels * (65535 / 4095)))
    assert source.notes == ()


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_transparency_of_twelve_bits_is_scaled_as_colours_are(tmp_path, planar):
    levels = np.maximum(DEEP >> 4, 1)
    tifffile.imwrite(
        tmp_path / "a.tif",
        levels if planar == "contig" else np.moveaxis(levels, 2, 0),
        photometric="rgb",
        planarconfig=planar,
        extrasamples=["unassalpha"],
        extratags=[(281, "H", 4, (4095,) * 4, True)],
    )
    source = read_image(tmp_path / "a.tif")
    scaled = np.rint(levels * (65535 / 4095))
    np.testing.assert_array_equal(source.frames[0].pixels, scaled[..., :3])
    np.testing.assert_array_equal(source.frames[0].alpha, scaled[..., 3])
    assert source.notes == ()


def test_a_16_bit_colour_key_is_compared_in_16_bits(tmp_path):
    """Two colours that are equal in 8 bits; one of them is transparent."""
    pixels = np.full((8, 8, 3), 0x1234, np.uint16)
    pixels[:, 4:] = 0x1235
    (tmp_path / "a.png").write_bytes(_png(pixels, (b"tRNS", struct.pack(">3H", *[0x1234] * 3))))
    alpha = read_image(tmp_path / "a.png").frames[0].alpha
    assert (alpha[:, :4] == 0).all()
    assert (alpha[:, 4:] == 65535).all()


@pytest.mark.parametrize(
    ("suffix", "depth", "expected"),
    [("png", "8", 8), ("png", "auto", 16), ("jpg", "auto", 8), ("tif", "16", 16)],
)
def test_the_depth_is_the_users(enlarged, tmp_path, suffix, depth, expected):
    (tmp_path / "a.png").write_bytes(_png(DEEP[..., :3]))
    enlarged("a.png", f"b.{suffix}", WriteOptions(depth=depth))
    assert read_image(tmp_path / f"b.{suffix}").depth == expected
    if depth == "8":
        with Image.open(tmp_path / "b.png") as out:
            np.testing.assert_array_equal(np.asarray(out)[::4, ::4], np.rint(DEEP[..., :3] / 257))


@pytest.mark.parametrize("suffix", [".jpg", ".webp", ".avif", ".gif", ".bmp"])
def test_sixteen_bits_are_refused_before_work_where_a_format_lacks_them(tmp_path, suffix):
    (tmp_path / "a.png").write_bytes(_png(DEEP[..., :3]))
    source = read_image(tmp_path / "a.png")
    with pytest.raises(ImageError, match=r"cannot hold 16 bits a channel; write a \.png or \.tif"):
        check_writable(tmp_path / f"a{suffix}", source, [(136, 84)], WriteOptions(depth="16"))
    check_writable(tmp_path / f"a{suffix}", source, [(136, 84)])


@pytest.mark.parametrize(
    "pixels", [DEEP[..., 0] / np.float32(65535), DEEP[..., :3] / np.float32(65535)]
)
def test_floats_are_refused_with_the_way_out(tmp_path, pixels):
    photometric = "rgb" if pixels.ndim == 3 else "minisblack"
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.float32), photometric=photometric)
    with pytest.raises(
        ImageError, match=r"must have 8 or 16 bits a channel, got .*float.*; scale it"
    ):
        read_image(tmp_path / "a.tif")


def test_32_bit_integers_are_refused_unless_they_fit(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", DEEP[..., 0].astype(np.uint32) << 8)
    with pytest.raises(ImageError, match="must have 8 or 16 bits a channel, got 32; scale it"):
        read_image(tmp_path / "a.tif")
    Image.fromarray(DEEP[..., 0].astype(np.int32)).save(tmp_path / "b.tif")
    np.testing.assert_array_equal(
        read_image(tmp_path / "b.tif").frames[0].pixels[..., 0], DEEP[..., 0]
    )


def test_a_reduced_result_keeps_its_bits(enlarged, sixteen, tmp_path):
    ramp = np.broadcast_to(np.arange(64, dtype=np.uint16)[None, :, None] * 16 + 30000, (16, 64, 3))
    (tmp_path / "a.png").write_bytes(_png(ramp))
    enlarged("a.png", "b.png", scale=2)
    middle = sixteen("b.png")[8, 8:-8, 0].astype(int)
    assert len(np.unique(middle)) > 100
    assert np.abs(middle[::2] - ramp[0, 4:-4, 0]).max() <= 8


def test_a_png_is_no_larger_than_pillows(tmp_path):
    rows, columns = np.mgrid[:256, :256]
    noise = np.random.default_rng(1).integers(0, 4, (256, 256, 3))
    photo = (np.stack([rows // 2, columns // 2, (rows + columns) // 4], axis=-1) + noise).astype(
        np.uint8
    )
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "PNG")
    assert len(_png(photo)) < 1.02 * len(file.getvalue())


def test_a_tiff_that_needs_the_extra_names_it_where_it_is_missing(tmp_path, monkeypatch):
    tifffile.imwrite(
        tmp_path / "a.tif", DEEP[..., :2], photometric="minisblack", extrasamples=["unassalpha"]
    )
    monkeypatch.setitem(sys.modules, "tifffile", None)
    with pytest.raises(ImageError, match=r"a\.tif must be .* pip install 'dossr\[images\]'"):
        read_image(tmp_path / "a.tif")


def test_bits_that_a_decoder_leaves_out_are_told(tmp_path):
    """A JPEG 2000 file of 16-bit colours, and an AVIF file of 10 bits, by the numbers in their heads."""
    file = io.BytesIO()
    Image.new("RGB", (32, 32), "red").save(file, "JPEG2000")
    data = bytearray(file.getvalue())
    assert not has_many_bits(bytes(data))
    for channel in range(3):
        data[data.index(b"\xff\x4f\xff\x51") + 42 + 3 * channel] = 15
    assert has_many_bits(bytes(data))
    (tmp_path / "a.jp2").write_bytes(data)
    assert read_image(tmp_path / "a.jp2").notes == ("its bits beyond 8 a channel are left out",)
    assert has_many_bits(b"\0\0\0\x0cav1C\x81\x08\x40\0")
    assert not has_many_bits(b"\0\0\0\x0cav1C\x81\x08\x0c\0")


@pytest.mark.parametrize(("channels", "magic"), [(1, b"P5"), (3, b"P6")])
@pytest.mark.parametrize("largest", [65535, 4095])
def test_pnm_of_16_bits_is_read_whole(tmp_path, channels, magic, largest):
    levels = np.minimum(DEEP[..., :channels], largest)
    head = magic + b"\n# a comment\n34 21\n%d\n" % largest
    (tmp_path / "a.ppm").write_bytes(head + levels.astype(">u2").tobytes())
    expected = np.rint(levels * (65535 / largest))
    np.testing.assert_array_equal(
        read_image(tmp_path / "a.ppm").frames[0].pixels, np.broadcast_to(expected, (21, 34, 3))
    )
