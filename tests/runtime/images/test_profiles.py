"""Colour: the networks see sRGB, the file keeps its profile."""

import io

import numpy as np
import pytest
from PIL import Image, ImageCms

from dossr.runtime.images.profiles import open_profile, srgb
from dossr.runtime.images.reader import read_image
from dossr.runtime.images.source import WriteOptions

RAMPS = (
    np.stack(np.meshgrid(*[np.linspace(0, 255, 9)] * 3), axis=-1)
    .reshape(27, 27, 3)
    .astype(np.uint8)
)


def _by_lcms(pixels, profile, mode="RGB"):
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    image = Image.fromarray(pixels, mode)
    return np.asarray(ImageCms.profileToProfile(image, source, target, 1, "RGB")).astype(int)


def test_a_wide_profile_is_converted_as_little_cms_does(profiles, tmp_path):
    data = profiles.matrix_profile()
    Image.fromarray(RAMPS).save(tmp_path / "a.png", icc_profile=data)
    source = read_image(tmp_path / "a.png")
    assert np.abs(source.frames[0].pixels - _by_lcms(RAMPS, data)).max() <= 1
    assert source.profile == data


def test_a_profile_that_means_srgb_changes_nothing(tmp_path):
    data = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(RAMPS).save(tmp_path / "a.png", icc_profile=data)
    source = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(source.frames[0].pixels, RAMPS)
    assert source.profile == data


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif", "heic"])
def test_the_result_is_converted_back_and_keeps_its_profile(enlarged, profiles, tmp_path, suffix):
    """Also its colours outside sRGB: pure red and green of Display P3."""
    data = profiles.matrix_profile()
    flat = np.zeros((24, 96, 3), np.uint8)
    for i, colour in enumerate([(255, 0, 0), (0, 255, 0), (120, 100, 80), (250, 240, 20)]):
        flat[:, 24 * i : 24 * i + 24] = colour
    Image.fromarray(flat).save(tmp_path / "a.png", icc_profile=data)
    enlarged("a.png", f"b.{suffix}")
    with Image.open(tmp_path / f"b.{suffix}") as out:
        assert out.info["icc_profile"] == data
        middles = np.asarray(out)[48, 48::96].astype(int)
    assert np.abs(middles - flat[12, 12::24]).max() <= (2 if suffix in ("png", "tif") else 8)


def test_the_result_is_srgb_on_request(enlarged, profiles, tmp_path):
    data = profiles.matrix_profile()
    Image.fromarray(RAMPS).save(tmp_path / "a.png", icc_profile=data)
    enlarged("a.png", "b.png", WriteOptions(profile="srgb"))
    with Image.open(tmp_path / "b.png") as out:
        assert out.info["icc_profile"] == srgb()
        assert np.abs(np.asarray(out)[::4, ::4] - _by_lcms(RAMPS, data)).max() <= 1


def test_sixteen_bits_go_to_srgb_and_back_without_loss(profiles):
    profile = open_profile(profiles.matrix_profile(), 3)
    deep = np.random.default_rng(0).integers(25000, 36000, (64, 64, 3)).astype(np.uint16)
    there = profile.to_srgb(deep)
    assert np.unique(there & 255).size == 256
    assert np.abs(profile.from_srgb(there).astype(int) - deep).max() <= 2


def test_a_profile_of_tables_is_interpolated_in_sixteen_bits_within_two_levels_of_255(profiles):
    """Its nodes have 8 bits, as Pillow's Little CMS has; against the same transform in 8 bits."""
    profile = open_profile(profiles.table_profile(b"RGB "), 3)
    shallow = RAMPS.astype(np.uint16) * 257
    difference = profile.to_srgb(shallow) / 257 - profile.to_srgb(RAMPS)
    assert np.abs(difference).max() <= 2
    assert (
        np.unique(profile.to_srgb(np.arange(3 * 999, dtype=np.uint16).reshape(1, 999, 3) * 9)).size
        > 400
    )


def test_a_grey_profile_is_converted_and_kept(enlarged, profiles, tmp_path):
    data = profiles.grey_profile(1.0)  # linear: a half is 188 in sRGB
    Image.new("L", (16, 16), 128).save(tmp_path / "a.png", icc_profile=data)
    source = enlarged("a.png", "b.png")
    assert np.abs(source.frames[0].pixels.astype(int) - 188).max() <= 1
    with Image.open(tmp_path / "b.png") as out:
        assert (out.mode, out.info["icc_profile"]) == ("L", data)
        assert np.abs(np.asarray(out).astype(int) - 128).max() <= 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif"])
def test_no_rgb_profile_on_a_grey_file_and_no_grey_one_on_a_colour_file(
    enlarged, profiles, tmp_path, suffix
):
    """The PNG standard forbids it, and later tools fail."""
    Image.new("L", (16, 16), 128).save(tmp_path / "grey.jpg", icc_profile=srgb())
    Image.new("RGB", (16, 16), "red").save(
        tmp_path / "red.jpg", icc_profile=profiles.grey_profile()
    )
    for name in ("grey", "red"):
        source = enlarged(f"{name}.jpg", f"{name}.{suffix}")
        assert "is left out" in source.notes[0]
        with Image.open(tmp_path / f"{name}.{suffix}") as out:
            assert "icc_profile" not in out.info
    assert read_image(tmp_path / "grey.png" if suffix == "png" else tmp_path / "grey.jpg").is_grey


@pytest.mark.parametrize(
    "data", [b"junk" * 99, b"\0" * 131, srgb()[:200], srgb()[:40] + bytes(500)]
)
def test_a_damaged_profile_is_left_out_with_a_note(enlarged, tmp_path, data):
    Image.new("RGB", (8, 8), (9, 99, 200)).save(tmp_path / "a.png", icc_profile=data)
    source = enlarged("a.png", "b.png")
    assert source.profile is None
    assert source.notes == ("its colour profile is damaged and is left out of this RGB image",)
    assert source.frames[0].pixels[0, 0].tolist() == [9, 99, 200]


@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_cmyk_is_converted_by_its_profile(enlarged, profiles, tmp_path, suffix):
    """Pillow writes JPEG inverted, as Adobe does."""
    image = Image.new("CMYK", (16, 16), (255, 0, 0, 0))
    image.save(tmp_path / f"a.{suffix}", icc_profile=profiles.table_profile())
    source = enlarged(f"a.{suffix}", "b.png")
    assert np.abs(source.frames[0].pixels.astype(int) - (0, 150, 220)).max() <= 4
    assert "converted by its profile; the result is RGB" in source.notes[0]
    with Image.open(tmp_path / "b.png") as out:
        assert (out.mode, out.info["icc_profile"]) == ("RGB", srgb())


def test_cmyk_without_a_profile_looks_as_print_does(enlarged, tmp_path, monkeypatch):
    """Cyan ink on paper is (0, 174, 239), not (0, 255, 255); paper is white, black not quite black."""
    from dossr.runtime.images import inks

    monkeypatch.setattr(inks, "_system_profile", lambda: None)
    colours = {(255, 0, 0, 0): (0, 174, 239), (0, 0, 0, 0): (255,) * 3, (0, 0, 0, 255): (35,) * 3}
    for ink, seen in colours.items():
        Image.new("CMYK", (16, 16), ink).save(tmp_path / "a.tif")
        source = enlarged("a.tif", "b.jpg")
        assert source.frames[0].pixels[0, 0].tolist() == list(seen)
        assert "converted as coated print" in source.notes[0]


def test_cmyk_without_a_profile_takes_one_of_the_system(profiles, tmp_path, monkeypatch):
    from dossr.runtime.images import inks

    (tmp_path / "default_cmyk.icc").write_bytes(profiles.table_profile())
    monkeypatch.setitem(inks._SYSTEM, inks.sys.platform, (str(tmp_path / "default_cmyk.icc"),))
    inks._system_profile.cache_clear()
    Image.new("CMYK", (16, 16), (255, 0, 0, 0)).save(tmp_path / "a.tif")
    source = read_image(tmp_path / "a.tif")
    inks._system_profile.cache_clear()
    assert np.abs(source.frames[0].pixels.astype(int) - (0, 150, 220)).max() <= 4
    assert "default_cmyk.icc" in source.notes[0]


def test_a_cmyk_jpeg_that_is_not_adobes_is_not_inverted(profiles, tmp_path):
    """Without Adobe's marker, 255 is full ink, as the JPEG library says."""
    file = io.BytesIO()
    Image.new("CMYK", (16, 16), (0, 255, 255, 255)).save(
        file, "JPEG", icc_profile=profiles.table_profile()
    )
    data = file.getvalue()
    at = data.index(b"\xff\xee")
    (tmp_path / "a.jpg").write_bytes(
        data[:at] + data[at + 2 + int.from_bytes(data[at + 2 : at + 4], "big") :]
    )
    source = read_image(tmp_path / "a.jpg")
    assert np.abs(source.frames[0].pixels.astype(int) - (0, 150, 220)).max() <= 4


def test_lab_is_converted(tmp_path):
    rgb = Image.new("RGB", (8, 8), (200, 60, 30))
    lab, standard = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    ImageCms.profileToProfile(rgb, standard, lab, outputMode="LAB").save(tmp_path / "a.tif")
    source = read_image(tmp_path / "a.tif")
    assert np.abs(source.frames[0].pixels.astype(int) - (200, 60, 30)).max() <= 3
