"""Colour spaces that a file names instead of including a profile."""

import io
import zlib

import numpy as np
import pytest
from PIL import Image, ImageCms

from dossr.runtime.images.codecs import named
from dossr.runtime.images.reader import read_image


def _named(name):
    return ImageCms.getProfileDescription(ImageCms.ImageCmsProfile(io.BytesIO(name))).strip()


def _with_gamma(image, gamma):
    """A PNG with a gAMA chunk."""
    return _with_chunk(image, b"gAMA" + gamma.to_bytes(4, "big"))


def _with_chunk(image, chunk, **options):
    """A PNG with a chunk of 4 bytes after its header."""
    file = io.BytesIO()
    image.save(file, "PNG", **options)
    data, check = file.getvalue(), zlib.crc32(chunk).to_bytes(4, "big")
    return data[:33] + (4).to_bytes(4, "big") + chunk + check + data[33:]


@pytest.mark.parametrize("suffix", ["heic", "avif"])
def test_display_p3_that_a_file_names_by_numbers_is_converted(enlarged, tmp_path, suffix):
    """As phones write it. Expected: by Display P3's definition."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    path, file = tmp_path / f"a.{suffix}", io.BytesIO()
    Image.new("RGB", (64, 64), (200, 80, 60)).save(
        file, "HEIF" if suffix == "heic" else "AVIF", quality=100
    )
    data = file.getvalue()
    at = data.index(b"colrnclx") + 8
    path.write_bytes(data[:at] + b"\0\x0c\0\x0d" + data[at + 4 :])
    source = enlarged(path.name, "b.png")
    assert np.abs(source.frames[0].pixels[9, 9].astype(int) - (215, 72, 51)).max() <= 6
    with Image.open(tmp_path / "b.png") as out:
        assert _named(out.info["icc_profile"]) == "Display P3"


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_the_gamma_of_a_png_without_a_profile_counts(enlarged, tmp_path, mode):
    """As in browsers: half the light, linear, is level 188 of sRGB."""
    (tmp_path / "a.png").write_bytes(_with_gamma(Image.new("L", (8, 8), 128).convert(mode), 100000))
    source = enlarged("a.png", "b.png")
    assert np.abs(source.frames[0].pixels.astype(int) - 188).max() <= 1
    with Image.open(tmp_path / "b.png") as out:
        assert _named(out.info["icc_profile"]) == "gamma 1.00"
        assert np.abs(np.asarray(out).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("gamma", [45455, 45000, 0, 1, 1 << 31])
def test_the_usual_gamma_and_a_senseless_one_change_nothing(tmp_path, gamma):
    (tmp_path / "a.png").write_bytes(_with_gamma(Image.new("RGB", (8, 8), (9, 99, 200)), gamma))
    source = read_image(tmp_path / "a.png")
    assert (source.profile, source.frames[0].pixels[0, 0].tolist()) == (None, [9, 99, 200])


def test_levels_of_hdr_are_used_with_a_note():
    image = Image.new("RGB", (4, 4))
    image.info["nclx_profile"] = {"color_primaries": 9, "transfer_characteristics": 16}
    profile, notes = named.named_profile(image, 3)
    assert (profile, notes) == (
        None,
        ("its HDR levels (PQ) are used as they are; it may look pale",),
    )


@pytest.mark.parametrize("frames", [1, 2])
def test_display_p3_that_a_png_names_by_numbers_goes_before_its_profile(tmp_path, profiles, frames):
    """Expected: by Display P3's definition."""
    image, path = Image.new("RGB", (8, 8), (200, 80, 60)), tmp_path / "a.png"
    more = {"save_all": True, "append_images": [Image.new("RGB", (8, 8), (9, 9, 9))]}
    options = {"icc_profile": profiles.matrix_profile(gamma=1.0)} | (more if frames > 1 else {})
    path.write_bytes(_with_chunk(image, b"cICP\x0c\x0d\0\1", **options))
    source = read_image(path)
    assert len(source.frames) == frames
    assert np.abs(source.frames[0].pixels[5, 5].astype(int) - (216, 69, 50)).max() <= 1
    assert _named(source.profile) == "Display P3"
    path.write_bytes(_with_chunk(image, b"cICP\x02\x02\0\1", **options))
    assert read_image(path).profile == options["icc_profile"]
    path.write_bytes(_with_chunk(image, b"cICP\x09\x10\0\1"))
    assert "HDR levels (PQ)" in read_image(path).notes[0]


def test_display_p3_that_an_animated_avif_names_is_converted(tmp_path):
    file, path = io.BytesIO(), tmp_path / "a.avif"
    image, other = Image.new("RGB", (64, 64), (200, 80, 60)), Image.new("RGB", (64, 64))
    image.save(file, "AVIF", quality=100, save_all=True, append_images=[other])
    path.write_bytes(file.getvalue().replace(b"colrnclx\0\1\0\x0d", b"colrnclx\0\x0c\0\x0d"))
    source = read_image(path)
    assert np.abs(source.frames[0].pixels[9, 9].astype(int) - (215, 72, 51)).max() <= 6
    assert _named(source.profile) == "Display P3"
