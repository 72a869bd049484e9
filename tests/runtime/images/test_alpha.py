"""Transparency: no fringes, hard edges, and refused or flattened where a format lacks it."""

import struct
import zlib

import numpy as np
import pytest
from PIL import Image, ImageDraw

from dossr.runtime.errors import ImageError
from dossr.runtime.images.alpha import enlarge, flatten, spread
from dossr.runtime.images.reader import read_image
from dossr.runtime.images.source import WriteOptions
from dossr.runtime.images.writer import check_writable


def _drawn(draw, side=48):
    """What ``draw`` draws at 8 times the size, averaged: uint8 (side, side)."""
    large = Image.new("L", (8 * side, 8 * side))
    draw(ImageDraw.Draw(large), 8 * side)
    return large


def _disc(draw, side):
    draw.ellipse((side * 0.2, side * 0.2, side * 0.8, side * 0.8), fill=255)


def _psnr(a, b):
    return -10 * np.log10(np.mean((a / 255.0 - b / 255.0) ** 2))


@pytest.mark.parametrize("kind", ["png", "tif", "webp"])
def test_hidden_colours_do_not_reach_the_networks(tmp_path, kind):
    """A red disc on hidden white, black and green is one and the same picture."""
    alpha = np.asarray(_drawn(_disc).resize((48, 48), Image.Resampling.BOX))
    seen = []
    for hidden in ((255, 255, 255), (0, 0, 0), (0, 255, 0)):
        pixels = np.full((48, 48, 3), hidden, np.uint8)
        pixels[alpha > 0] = (200, 40, 30)
        options = {"lossless": True, "exact": True} if kind == "webp" else {}
        Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / f"a.{kind}", **options)
        seen.append(read_image(tmp_path / f"a.{kind}").frames[0].pixels)
    assert (np.abs(np.array(seen, int) - (200, 40, 30)) <= 1).all()


def test_spread_colours_are_those_of_the_nearest_edge():
    pixels = np.zeros((40, 41, 3), np.uint8)
    alpha = np.zeros((40, 41), np.uint8)
    pixels[:, :5], pixels[:, -5:] = (250, 0, 0), (0, 0, 250)
    alpha[:, :5] = alpha[:, -5:] = 255
    filled = spread(pixels, alpha)
    np.testing.assert_array_equal(filled[alpha > 0], pixels[alpha > 0])
    assert (filled[:, 5, 0] > 240).all()
    assert (filled[:, -6, 2] > 240).all()
    assert (filled.sum(axis=2, dtype=int) > 200).all()


def test_an_image_without_visible_pixels_stays_as_it_is():
    pixels = np.arange(27, dtype=np.uint8).reshape(3, 3, 3)
    assert spread(pixels, np.zeros((3, 3), np.uint8)) is pixels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_enlarged_edges_are_harder_than_by_lanczos(dtype):
    large = _drawn(_disc)
    small, truth = (
        np.asarray(large.resize((side,) * 2, Image.Resampling.BOX)) for side in (48, 192)
    )
    plain = np.asarray(Image.fromarray(small).resize((192, 192), Image.Resampling.LANCZOS))
    top = np.iinfo(dtype).max
    ours = enlarge(small.astype(dtype) * dtype(top // 255), (192, 192)) / (top / 255)
    assert _psnr(ours, truth) > _psnr(plain, truth) + 4


def test_enlarging_never_rings():
    alpha = np.full((32, 32), 60, np.uint8)
    alpha[8:24, 8:24] = 180
    large = enlarge(alpha, (128, 128))
    assert (large.min(), large.max()) == (60, 180)


def test_a_line_of_one_pixel_keeps_its_strength():
    alpha = np.zeros((32, 32), np.uint8)
    alpha[:, 16] = 255
    large = enlarge(alpha, (128, 128))
    assert (large[:, 64:68].max(axis=1) > 240).all()
    assert abs(float(large.mean()) / float(alpha.mean()) - 1) < 0.25


def test_a_slow_gradient_stays_one():
    alpha = np.broadcast_to(np.linspace(0, 255, 64).astype(np.uint8), (64, 64))
    plain = np.asarray(Image.fromarray(alpha).resize((256, 256), Image.Resampling.BICUBIC))
    assert np.abs(enlarge(alpha, (256, 256)).astype(int) - plain)[:, 8:-8].max() <= 3


@pytest.mark.parametrize(("size", "block"), [((30, 21), 256), ((777, 900), 100)])
def test_any_size_can_be_asked_for_in_blocks_of_any_height(monkeypatch, size, block):
    from dossr.runtime.images import alpha as module

    noise = np.random.default_rng(0).integers(0, 256, (50, 60)).astype(np.uint8)
    whole = enlarge(noise, size)
    monkeypatch.setattr(module, "_ROWS", block)
    assert whole.shape == size[::-1]
    assert np.abs(enlarge(noise, size).astype(int) - whole).max() <= 1


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "ppm"])
def test_opaque_alpha_is_dropped_quietly(enlarged, tmp_path, suffix):
    """As most screenshots have it."""
    pixels = np.random.default_rng(0).integers(90, 110, (16, 16, 4)).astype(np.uint8)
    pixels[..., 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = enlarged("a.png", f"b.{suffix}")
    assert source.has_alpha
    assert source.frames[0].alpha is None
    with Image.open(tmp_path / f"b.{suffix}") as out:
        assert (
            np.abs(np.asarray(out.convert("RGB"))[::4, ::4].astype(int) - pixels[..., :3]).mean()
            < 6
        )


@pytest.mark.parametrize(
    ("mode", "suffix"), [("RGBA", "png"), ("RGBA", "tif"), ("LA", "png"), ("RGBA", "tga")]
)
def test_opaque_alpha_stays_where_source_and_format_have_it(enlarged, tmp_path, mode, suffix):
    Image.new(mode, (8, 8), "white").save(tmp_path / "a.png")
    enlarged("a.png", f"b.{suffix}")
    with Image.open(tmp_path / f"b.{suffix}") as out:
        assert (out.mode, out.getchannel("A").getextrema()) == (mode, (255, 255))


@pytest.mark.parametrize("suffix", [".jpg", ".bmp", ".ppm"])
def test_real_alpha_is_refused_before_work_or_flattened(enlarged, tmp_path, suffix):
    pixels = np.full((16, 16, 4), (200, 40, 30, 255), np.uint8)
    pixels[:, 8:, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    source = read_image(tmp_path / "a.png")
    with pytest.raises(
        ImageError, match=r"transparency of its source; pass --background white, or write a \.png"
    ):
        check_writable(tmp_path / f"b{suffix}", source, [(64, 64)])
    enlarged("a.png", f"b{suffix}", WriteOptions(background=(0, 0, 255)))
    with Image.open(tmp_path / f"b{suffix}") as out:
        result = np.asarray(out).astype(int)
    assert np.abs(result[8, 8] - (200, 40, 30)).max() < 12
    assert np.abs(result[8, 56] - (0, 0, 255)).max() < 12


def test_a_background_is_mixed_as_browsers_mix():
    pixels = np.full((1, 1, 3), 200, np.uint8)
    assert flatten(pixels, np.full((1, 1), 64, np.uint8), (100, 0, 250))[0, 0].tolist() == [
        125,
        50,
        237,
    ]


def test_a_grey_image_on_a_colour_becomes_colour(enlarged, tmp_path):
    Image.new("LA", (8, 8), (90, 0)).save(tmp_path / "a.png")
    enlarged("a.png", "b.png", WriteOptions(background=(255, 0, 0)))
    enlarged("a.png", "c.png", WriteOptions(background=(255, 255, 255)))
    with Image.open(tmp_path / "b.png") as red, Image.open(tmp_path / "c.png") as white:
        assert (red.mode, red.getpixel((3, 3))) == ("RGB", (255, 0, 0))
        assert (white.mode, white.getpixel((3, 3))) == ("L", 255)


@pytest.mark.parametrize(("bits", "key"), [(1, 1), (2, 2), (4, 9), (8, 200)])
def test_a_grey_colour_key_is_a_level_of_the_files_bits(tmp_path, bits, key):
    """The PNG standard's tRNS for grey, at every depth; a quarter of the pixels is transparent."""
    levels = np.zeros((4, 8), np.uint8)
    levels[1] = key
    packed = np.packbits(
        np.unpackbits(levels[..., None], axis=2)[..., -bits:].reshape(4, -1), axis=1
    )
    rows = b"".join(b"\0" + row.tobytes() for row in packed)
    header = struct.pack(">IIBBBBB", 8, 4, bits, 0, 0, 0, 0)
    chunks = [
        (b"IHDR", header),
        (b"tRNS", struct.pack(">H", key)),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    ]
    data = b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + data)
    alpha = read_image(tmp_path / "a.png").frames[0].alpha
    assert alpha.tolist() == [[255] * 8, [0] * 8, [255] * 8, [255] * 8]


def test_a_colour_key_makes_one_colour_transparent(tmp_path):
    pixels = np.full((4, 4, 3), (1, 2, 3), np.uint8)
    pixels[0] = (1, 2, 4)
    Image.fromarray(pixels).save(tmp_path / "a.png", transparency=(1, 2, 4))
    assert read_image(tmp_path / "a.png").frames[0].alpha.tolist() == [[0] * 4] + [[255] * 4] * 3


@pytest.mark.parametrize("colours", [2, 4, 16, 200])
@pytest.mark.parametrize("suffix", ["png", "gif"])
def test_palettes_keep_their_transparent_entry(tmp_path, colours, suffix):
    """Of 1 to 8 bits and an odd width."""
    indices = (np.arange(7 * 301).reshape(7, 301) // 7 % colours).astype(np.uint8)
    image = Image.fromarray(indices, "P")
    image.putpalette([value for i in range(colours) for value in (i, 255 - i, 80)])
    image.save(tmp_path / f"a.{suffix}", transparency=1)
    frame = read_image(tmp_path / f"a.{suffix}").frames[0]
    np.testing.assert_array_equal(frame.alpha == 0, indices == 1)
    visible = frame.pixels[indices != 1]
    assert (visible[:, 2] == 80).all()
    np.testing.assert_array_equal(visible[:, 0], indices[indices != 1])


def test_a_palette_may_have_soft_alpha(tmp_path):
    image = Image.fromarray(np.arange(4, dtype=np.uint8).reshape(2, 2), "P")
    image.putpalette([9] * 12)
    image.save(tmp_path / "a.png", transparency=bytes([0, 80, 160, 255]))
    assert read_image(tmp_path / "a.png").frames[0].alpha.tolist() == [[0, 80], [160, 255]]
