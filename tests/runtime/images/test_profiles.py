"""Colour: the networks see sRGB, the file keeps its profile."""

import io

import numpy as np
import pytest
import tifffile
from PIL import Image, ImageCms

from dossr.runtime.images.codecs import named
from dossr.runtime.images.codecs.png import ancillary, encode_png
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


def test_sixteen_bits_outside_srgb_come_back(enlarged, profiles, tmp_path):
    data = profiles.matrix_profile()
    deep = np.zeros((8, 16, 3), np.uint16)
    deep[:, :8], deep[:, 8:] = (65535, 3, 700), (30001, 20002, 10003)
    described = ancillary(_png_with(data))
    (tmp_path / "a.png").write_bytes(encode_png([deep], described, [0], [0], 0))
    enlarged("a.png", "b.tif")
    out = tifffile.imread(tmp_path / "b.tif").astype(int)
    assert np.abs(out[2::4, 2::4][:, [2, 13]] - deep[:, [2, 13]]).max() <= 2


def test_hidden_colours_outside_srgb_stay_hidden(enlarged, profiles, tmp_path):
    """Neither at the edge nor over a background."""
    pixels = np.full((8, 16, 4), (120, 110, 100, 255), np.uint8)
    pixels[:, 8:] = (0, 255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.png", icc_profile=profiles.matrix_profile())
    enlarged("a.png", "kept.png")
    enlarged("a.png", "white.png", WriteOptions(background=(255, 255, 255)))
    with Image.open(tmp_path / "kept.png") as out:
        assert np.abs(np.asarray(out)[..., :3].astype(int) - (120, 110, 100)).max() <= 2
    with Image.open(tmp_path / "white.png") as out:
        assert (np.asarray(out)[:, 40:] == 255).all()


def test_colours_outside_srgb_count_by_their_alpha_over_a_background(enlarged, profiles, tmp_path):
    red = Image.new("RGBA", (8, 8), (255, 0, 0, 128))
    red.save(tmp_path / "a.png", icc_profile=profiles.matrix_profile())
    enlarged("a.png", "b.png", WriteOptions(background=(255, 255, 255)))
    with Image.open(tmp_path / "b.png") as out:
        assert np.abs(np.asarray(out).astype(int) - (255, 127, 127)).max() < 25


def _png_with(profile):
    file = io.BytesIO()
    Image.new("RGB", (1, 1)).save(file, "PNG", icc_profile=profile)
    return file.getvalue()


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


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [(mode, suffix) for mode in ("L", "LA") for suffix in ("png", "tif", "webp", "avif", "heic")]
    + [("L", "jpg")],
)
def test_a_grey_profile_keeps_its_tones_in_every_format(enlarged, profiles, tmp_path, mode, suffix):
    image = Image.new("LA", (16, 16), (128, 200)).convert(mode)
    image.save(tmp_path / "a.png", icc_profile=profiles.grey_profile(1.0))
    enlarged("a.png", f"b.{suffix}")
    written = read_image(tmp_path / f"b.{suffix}")
    assert np.abs(written.frames[0].pixels.astype(int) - 188).max() <= 2
    assert not written.notes


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


@pytest.mark.parametrize("tags", [{0xA001: 2}, {0xA001: 65535, 0xA005: {1: "R03"}}])
def test_adobe_rgb_that_exif_data_names_is_converted(enlarged, tmp_path, tags):
    """As cameras write it. (100, 200, 100) of Adobe RGB is greener than sRGB can be."""
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    Image.new("RGB", (16, 16), (100, 200, 100)).save(tmp_path / "a.jpg", quality=100, exif=exif)
    source = enlarged("a.jpg", "b.png")
    seen = source.frames[0].pixels[5, 5].astype(int)
    assert (
        np.abs(seen - _by_lcms(np.full((1, 1, 3), (100, 200, 100), np.uint8), source.profile)).max()
        <= 3
    )
    assert seen[0] == 0
    with Image.open(tmp_path / "b.png") as out:
        assert "Adobe RGB (1998)".encode("utf-16-be") in out.info["icc_profile"]
        assert np.abs(np.subtract(out.getpixel((20, 20)), (100, 200, 100))).max() <= 3


def test_profiles_made_here_are_as_little_cms_reads_them():
    for primaries, curve in (
        (named._ADOBE, (2.2,)),
        (named._P3, named._SRGB_CURVE),
        (named._BT2020, (1.8,)),
    ):
        data = named.profile_of("a name", primaries, curve)
        ours = open_profile(data, 3).to_srgb(RAMPS)
        assert np.abs(ours - _by_lcms(RAMPS, data)).max() <= 1
    assert open_profile(named.profile_of("sRGB", named._SRGB, named._SRGB_CURVE), 3).is_srgb
