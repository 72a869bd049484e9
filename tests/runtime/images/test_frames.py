"""Animations and pages: every frame as a viewer shows it, its time, and how often all are shown."""

import io
import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from dossr.runtime.errors import ImageError
from dossr.runtime.images.codecs.gif import encode_gif
from dossr.runtime.images.reader import count_frames, read_image
from dossr.runtime.images.writer import check_writable

COLOURS = ("red", "green", "green", "blue")
TIMES = [100, 250, 70, 3000]
ANIMATED = ("gif", "webp", "png", "avif")


def _stills(mode="RGB", side=32):
    return [Image.new("RGB", (side, side), colour).convert(mode) for colour in COLOURS]


def _animate(path, frames, **options):
    frames[0].save(path, save_all=True, append_images=frames[1:], **options)


def _shown(path):
    """Colour of each frame's middle, duration, and the file's loop."""
    with Image.open(path) as image:
        frames = []
        for number in range(image.n_frames):
            image.seek(number)
            rgba = image.convert("RGBA")
            frames.append(
                (rgba.getpixel((rgba.width // 2, rgba.height // 2)), image.info.get("duration"))
            )
        return frames, image.info.get("loop"), image.size


@pytest.mark.parametrize("suffix", ["gif", "png"])
def test_every_frame_keeps_its_time_even_if_it_equals_the_last(enlarged, tmp_path, suffix):
    """Pillow would merge the second and third."""
    arrays = [(np.asarray(still), None) for still in _stills()]
    (tmp_path / "a.gif").write_bytes(encode_gif(arrays, TIMES, [0, 1, 2, 0], 0, None))
    source = enlarged("a.gif", f"b.{suffix}")
    assert [frame.duration for frame in source.frames] == TIMES
    frames, loop, size = _shown(tmp_path / f"b.{suffix}")
    assert ([time for _, time in frames], loop, size) == (TIMES, 0, (128, 128))
    assert [colour[:3] for colour, _ in frames] == [
        (255, 0, 0),
        (0, 128, 0),
        (0, 128, 0),
        (0, 0, 255),
    ]


@pytest.mark.parametrize("source", ANIMATED)
@pytest.mark.parametrize("target", ANIMATED)
def test_animations_become_animations(enlarged, tmp_path, source, target):
    stills = [still for still, colour in zip(_stills(), COLOURS, strict=True) if colour != "green"]
    _animate(tmp_path / f"a.{source}", stills, duration=[100, 3000], loop=3)
    enlarged(f"a.{source}", f"b.{target}")
    frames, loop, size = _shown(tmp_path / f"b.{target}")
    assert ([time for _, time in frames], size) == ([100, 3000], (128, 128))
    for (colour, _), expected in zip(frames, ((255, 0, 0), (0, 0, 255)), strict=True):
        assert np.abs(np.subtract(colour[:3], expected)).max() < 12
    if source == target != "avif":  # AVIF files do not say how often they are shown
        assert loop == 3


def test_a_gif_that_plays_once_does_so_in_every_format(enlarged, tmp_path):
    _animate(tmp_path / "a.gif", _stills(), duration=100)
    for suffix, expected in (("gif", None), ("webp", 1), ("png", 1)):
        assert enlarged("a.gif", f"b.{suffix}").loop == 1
        assert _shown(tmp_path / f"b.{suffix}")[1] == expected


def test_what_a_gif_clears_is_transparent_as_in_browsers(enlarged, tmp_path):
    """A ball moves over nothing; each frame is cleared before the next one. No frame shows two balls."""
    frames = []
    for number in range(3):
        pixels, alpha = np.full((24, 48, 3), (9, 200, 30), np.uint8), np.zeros((24, 48), np.uint8)
        alpha[6:18, 16 * number + 2 : 16 * number + 14] = 255
        frames.append((pixels, alpha))
    (tmp_path / "a.gif").write_bytes(encode_gif(frames, [100] * 3, [2, 2, 2], 0, None))
    for suffix in ("gif", "webp", "png"):
        enlarged("a.gif", f"b.{suffix}")
        with Image.open(tmp_path / f"b.{suffix}") as image:
            for number, (_, alpha) in enumerate(frames):
                image.seek(number)
                seen = np.asarray(image.convert("RGBA"))[2::4, 2::4, 3]
                np.testing.assert_array_equal(seen > 127, alpha > 127)


def _part(left, top, colour, disposal, side=8, transparent=None):
    """Control and data of a frame of one colour of the shared palette."""
    packed = disposal << 2 | (transparent is not None)
    control = struct.pack("<BBBBHBB", 0x21, 0xF9, 4, packed, 10, transparent or 0, 0)
    image = Image.new("P", (side, side), colour)
    image.putpalette([0] * 768)
    file = io.BytesIO()
    image.save(file, "GIF", optimize=False)
    data = file.getvalue()
    start = data.index(b"\x2c\0\0\0\0", 13 + 768)
    return control + struct.pack("<BHHHHB", 0x2C, left, top, side, side, 0) + data[start + 10 : -1]


def test_partial_frames_of_a_gif_are_composed_by_their_disposals(tmp_path):
    """Kept, restored and cleared frames of 8 x 8 on a canvas of 16 x 16, whose background is ignored."""
    palette = bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 9, 9, 9]).ljust(768, b"\0")
    parts = [_part(0, 0, 0, 1), _part(8, 0, 1, 3), _part(8, 8, 2, 2), _part(4, 4, 1, 0)]
    (tmp_path / "a.gif").write_bytes(
        b"GIF89a" + struct.pack("<HHBBB", 16, 16, 0xF7, 3, 0) + palette + b"".join(parts) + b"\x3b"
    )
    image = read_image(tmp_path / "a.gif")
    corners = [(2, 2), (2, 13), (13, 13), (6, 6)]
    seen = [[bool(frame.alpha[corner]) for corner in corners] for frame in image.frames]
    assert seen == [
        [True, False, False, True],
        [True, True, False, True],
        [True, False, True, True],
        [True, False, False, True],
    ]
    assert image.frames[3].pixels[6, 6].tolist() == [0, 255, 0]
    assert image.frames[3].pixels[2, 2].tolist() == [255, 0, 0]


def test_the_picture_for_old_viewers_of_an_apng_is_no_frame(tmp_path):
    stills = _stills()
    stills[0].save(
        tmp_path / "a.png",
        save_all=True,
        append_images=stills[1:],
        default_image=True,
        duration=[1, 2, 3],
    )
    image = read_image(tmp_path / "a.png")
    assert [tuple(frame.pixels[9, 9]) for frame in image.frames] == [(0, 128, 0), (0, 0, 255)]


def test_durations_longer_than_a_format_has_room_for_are_its_longest(enlarged, tmp_path):
    _animate(tmp_path / "a.webp", _stills(), duration=[900_000, 100, 100, 100])
    enlarged("a.webp", "b.gif")
    enlarged("a.webp", "b.png")
    assert _shown(tmp_path / "b.gif")[0][0][1] == 655_350
    assert _shown(tmp_path / "b.png")[0][0][1] == 900_000


def test_an_animation_of_one_frame_is_a_still(enlarged, tmp_path):
    still = Image.new("RGB", (8, 8), "red")
    (tmp_path / "a.gif").write_bytes(
        encode_gif([(np.asarray(still), None)], [655_350], [2], 0, None)
    )
    source = enlarged("a.gif", "b.jpg")
    assert not source.is_animated
    assert source.frames[0].duration == 655_350


@pytest.mark.parametrize("suffix", ["jpg", "bmp", "heic", "jp2"])
def test_frames_are_refused_before_work_where_a_format_has_none(tmp_path, suffix):
    _animate(tmp_path / "a.gif", _stills(), duration=100)
    source = read_image(tmp_path / "a.gif")
    said = r"cannot hold the 3 frames of its source; pass --first-frame, or write a \.png, \.webp or \.gif"
    with pytest.raises(ImageError, match=said):
        check_writable(tmp_path / f"b.{suffix}", source, [(128, 128)] * 3)


def test_the_first_frame_can_be_taken_alone(enlarged, tmp_path):
    _animate(tmp_path / "a.gif", _stills(), duration=100)
    source = enlarged("a.gif", "b.jpg", first_frame=True)
    assert source.notes == ("its first frame is used, of 3",)
    with Image.open(tmp_path / "b.jpg") as out:
        assert np.abs(np.subtract(out.getpixel((9, 9)), (255, 0, 0))).max() < 4


def test_pages_of_a_tiff_stay_pages(enlarged, tmp_path):
    """Of several sizes, modes and orientations; a reduced copy is left out."""
    from PIL import TiffImagePlugin

    pages = [
        Image.new("RGB", (20, 10), "red"),
        Image.new("L", (8, 12), 90),
        Image.new("RGB", (5, 2)),
    ]
    with TiffImagePlugin.AppendingTiffWriter(tmp_path / "a.tif", True) as file:
        for page, info in zip(pages, ({274: 6}, {}, {254: 1}), strict=True):
            page.save(file, "TIFF", tiffinfo=info)
            file.newFrame()
    source = enlarged("a.tif", "b.tif")
    assert source.notes == ("1 reduced copies in it are left out",)
    assert not source.is_grey
    with Image.open(tmp_path / "b.tif") as out:
        assert out.n_frames == 2
        assert out.size == (40, 80)
        out.seek(1)
        assert (out.size, out.convert("RGB").getpixel((9, 9))) == ((32, 48), (90, 90, 90))
    with pytest.raises(
        ImageError, match=r"pages of several sizes; write a \.tif, or pass --first-frame"
    ):
        check_writable(tmp_path / "b.png", source, [(40, 80), (32, 48)])


def test_pages_that_pillow_does_not_open_stay_pages(tmp_path):
    """Of 16 bits with transparency; a reduced copy is left out."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for number, (level, kind) in enumerate([(60000, 0), (500, 1), (40000, 0)]):
            file.write(
                np.full((8, 9 + number, 2), level, np.uint16),
                photometric="minisblack",
                extrasamples=["unassalpha"],
                subfiletype=kind,
                extratags=[(274, "H", 1, 6, True)] if number else [],
            )
    source = read_image(tmp_path / "a.tif")
    assert [frame.size for frame in source.frames] == [(9, 8), (8, 11)]
    assert [frame.pixels.max() for frame in source.frames] == [60000, 40000]
    assert source.notes == ("1 reduced copies in it are left out",)
    assert count_frames(tmp_path / "a.tif") == 2
    assert len(read_image(tmp_path / "a.tif", first_frame=True).frames) == 1


def test_all_frames_together_count_before_they_are_decoded(tmp_path):
    _animate(tmp_path / "a.gif", _stills(), duration=100)
    said = r"at most 3000 pixels, got 32 x 32, 3 frames; pass a larger --max-pixels, or .* --first-frame"
    with pytest.raises(ImageError, match=said):
        read_image(tmp_path / "a.gif", 3000)
    assert len(read_image(tmp_path / "a.gif", 3072).frames) == 3
    assert len(read_image(tmp_path / "a.gif", 1024, first_frame=True).frames) == 1


def test_a_gif_frame_larger_than_its_canvas_counts_before_it_is_decoded(tmp_path):
    """It is cut to the canvas, but only then."""
    file = io.BytesIO()
    Image.new("P", (300, 200)).save(file, "GIF")
    data = bytearray(file.getvalue())
    struct.pack_into("<HH", data, 6, 8, 9)
    (tmp_path / "a.gif").write_bytes(data)
    with pytest.raises(ImageError, match="at most 59999 pixels, got 300 x 200"):
        read_image(tmp_path / "a.gif", 59999)
    assert read_image(tmp_path / "a.gif", 60000).frames[0].size == (8, 9)


def test_a_cut_animation_is_refused(tmp_path):
    for suffix in ("gif", "png", "webp"):
        noise = [
            Image.fromarray(np.random.default_rng(i).integers(0, 255, (32, 32, 3)).astype(np.uint8))
            for i in range(4)
        ]
        _animate(tmp_path / f"a.{suffix}", noise, duration=100)
        data = (tmp_path / f"a.{suffix}").read_bytes()
        (tmp_path / f"a.{suffix}").write_bytes(data[: len(data) * 5 // 8])
        with pytest.raises(ImageError, match=rf"^[^\n]*a\.{suffix}[^\n]*$"):
            read_image(tmp_path / f"a.{suffix}")


def test_a_gif_that_ends_between_two_frames_is_read_with_a_note(tmp_path):
    _animate(tmp_path / "a.gif", _stills(), duration=100)
    data = (tmp_path / "a.gif").read_bytes()
    (tmp_path / "a.gif").write_bytes(data[:-1])
    source = read_image(tmp_path / "a.gif")
    assert (len(source.frames), source.notes) == (
        3,
        ("its end is missing; there may have been more frames",),
    )


def test_colours_of_a_gif_are_exact_where_they_are_few_and_near_elsewhere():
    rows, columns = np.mgrid[:64, :64]
    many = np.stack([rows * 4, columns * 4, rows + columns], axis=-1).astype(np.uint8)
    few = many // 64 * 80
    for pixels, limit in ((few, 0), (many, 6)):
        with Image.open(io.BytesIO(encode_gif([(pixels, None)], [0], [0], 1, None))) as image:
            assert np.abs(np.asarray(image.convert("RGB")).astype(int) - pixels).mean() <= limit


def test_an_apng_follows_its_standard(enlarged, tmp_path):
    """Chunks in order, numbered without a gap, with right checksums."""
    _animate(tmp_path / "a.gif", _stills(), duration=100)
    enlarged("a.gif", "b.png")
    data, at, names, numbers = (tmp_path / "b.png").read_bytes(), 8, [], []
    while at < len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        body = data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length)[0] == zlib.crc32(name + body)
        names.append(name)
        if name in (b"fcTL", b"fdAT"):
            numbers.append(int.from_bytes(body[:4], "big"))
        at += 12 + length
    assert names == [
        b"IHDR",
        b"acTL",
        b"fcTL",
        b"IDAT",
        b"fcTL",
        b"fdAT",
        b"fcTL",
        b"fdAT",
        b"IEND",
    ]
    assert numbers == list(range(5))


def test_a_gif_that_gives_no_size_has_that_of_its_first_frame(tmp_path):
    _animate(tmp_path / "a.gif", _stills(), duration=100)
    data = bytearray((tmp_path / "a.gif").read_bytes())
    data[6:10] = bytes(4)
    (tmp_path / "a.gif").write_bytes(data)
    assert read_image(tmp_path / "a.gif").frames[0].size == (32, 32)
