"""What Python programs may pass as an image: taken as one form, or refused in one line."""

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image, ImageCms

from dossr.runtime.images.arrays import to_pixels
from dossr.runtime.images.codecs.named import grey_profile_of
from dossr.runtime.images.reader import read_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
GREY = RGB[:, :, 0]
OPAQUE = np.dstack([RGB, np.full((5, 7), 255, np.uint8)])


def _pil(mode, image=RGB):
    if mode == "LAB":
        return Image.new("LAB", (4, 4))
    return Image.fromarray(image).convert(mode)


def _turned():
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the photo is on the right
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG", exif=exif)
    return Image.open(file)


@pytest.mark.parametrize(
    ("image", "pixels"),
    [
        (RGB, RGB),
        (RGB.astype(np.uint16) * 257, RGB.astype(np.uint16) * 257),
        (RGB.astype(">u2"), RGB.astype(np.uint16)),
        (RGB / 255, (RGB / 255).astype(np.float32)),
        ((RGB / 255).astype(np.float16), (RGB / 255).astype(np.float16).astype(np.float32)),
        (GREY, np.dstack([GREY] * 3)),
        (GREY[:, :, None], np.dstack([GREY] * 3)),
        (OPAQUE, RGB),
        (np.dstack([RGB / 255, np.ones((5, 7))]), (RGB / 255).astype(np.float32)),
        (RGB[::-1, ::-2], RGB[::-1, ::-2]),
        (RGB[..., ::-1], RGB[..., ::-1]),
        (np.asfortranarray(RGB), RGB),
        (RGB.tolist(), RGB),
        ((RGB / 255).tolist(), (RGB / 255).astype(np.float32)),
        (GREY.tolist(), np.dstack([GREY] * 3)),
        (torch.from_numpy(RGB), RGB),
        (_pil("RGB"), RGB),
        (_pil("L", GREY), np.dstack([GREY] * 3)),
        (_pil("RGBA"), RGB),
        (Image.fromarray(GREY.astype(np.uint16) * 257), np.dstack([GREY.astype(np.uint16) * 257] * 3)),
        (_pil("1"), np.asarray(_pil("1").convert("RGB"))),
        (_pil("P"), np.asarray(_pil("P").convert("RGB"))),
        (Image.fromarray((GREY / 255).astype(np.float32)), np.dstack([(GREY / 255).astype(np.float32)] * 3)),
        (_turned(), np.rot90(RGB, -1)),
    ],
)  # fmt: skip
def test_an_image_is_taken(image, pixels):
    found = to_pixels(image)
    np.testing.assert_array_equal(found, pixels)
    assert (found.dtype, found.flags.c_contiguous) == (pixels.dtype, True)


def _transparent(mode):
    image = Image.fromarray(np.dstack([RGB, np.full((5, 7), 254, np.uint8)]))
    if mode == "P":
        image = _pil("P")
        image.info["transparency"] = image.getpixel((0, 0))
    return image if mode == "P" else image.convert(mode)


@pytest.mark.parametrize(
    ("image", "said"),
    [
        (np.zeros((3, 40, 40), np.uint8), "got uint8 (3, 40, 40); move the channels last"),
        (np.zeros((2, 4, 4, 3), np.uint8), "got uint8 (2, 4, 4, 3); give one image at a time"),
        (np.zeros((4, 4, 2), np.uint8), "got uint8 (4, 4, 2)"),
        (np.zeros((0, 4, 3), np.uint8), "got uint8 (0, 4, 3)"),
        (np.zeros((0, 4)), "got float64 (0, 4, 1)"),
        (np.uint8(3), "got uint8 ()"),
        ("photo.png", "open a file with PIL.Image.open"),
        (None, "got object ()"),
        ([RGB.tolist(), [1]], "got list: "),
        ([[300, 0], [0, 0]], "must be uint8, uint16, or floats in [0, 1], got int64"),
        (RGB.astype(np.int32), "got int32; convert it"),
        (GREY > 3, "got bool; convert it"),
        (RGB.astype(np.complex64), "got complex64"),
        (RGB.astype(np.float32), "got float32 from 0 to 248; scale it"),
        (RGB / 255 - 0.1, "; scale it, or cut it off with np.clip(lr, 0, 1)"),
        (np.full((4, 4, 3), np.nan), "got float64 from nan to nan"),
        (OPAQUE - 1, "lr must be opaque"),
        (_transparent("RGBA"), "of a PIL image: lr.convert('RGB')"),
        (_transparent("LA"), "lr must be opaque"),
        (_transparent("P"), "lr must be opaque"),
        (_pil("LAB"), "got mode LAB; convert it first"),
        (_pil("I", GREY), "got mode I; convert it first"),
        (torch.zeros(4, 4, 3, requires_grad=True), "got Tensor: "),
    ],
)
def test_any_other_is_refused_in_one_line(image, said):
    with pytest.raises(ValueError, match=re.escape(said)) as caught:
        to_pixels(image)
    assert str(caught.value).startswith("lr must be ")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_a_file_that_is_cut_off_is_refused_when_pillow_decodes_it():
    file = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)).save(
        file, "PNG"
    )
    with pytest.raises(ValueError, match=r"^lr cannot be decoded: "):
        to_pixels(Image.open(io.BytesIO(file.getvalue()[:5000])))


def _profiled(tmp_path, pixels, mode, data, suffix):
    path = tmp_path / f"image{suffix}"
    Image.fromarray(pixels).convert(mode).save(path, icc_profile=data)
    return path


def _wide():
    """An sRGB profile whose red and green primaries are swapped."""
    data = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    data[:] = data.replace(b"rXYZ", b"tXYZ").replace(b"gXYZ", b"rXYZ").replace(b"tXYZ", b"gXYZ")
    return bytes(data)


@pytest.mark.parametrize(
    ("mode", "suffix", "profile"),
    [("RGB", ".png", "wide"), ("RGB", ".png", None), ("CMYK", ".tif", None), ("L", ".png", None),
     ("RGB", ".png", b"no profile"), ("P", ".png", "wide")],
)  # fmt: skip
def test_a_pil_image_has_the_colours_that_dossr_run_reads(tmp_path, mode, suffix, profile):
    data = _wide() if profile == "wide" else profile
    path = _profiled(tmp_path, RGB, mode, data, suffix)
    with Image.open(path) as image:
        found = to_pixels(image)
    np.testing.assert_array_equal(found, read_image(path).frames[0].pixels)
    assert np.array_equal(found, RGB) == (mode == "RGB" and profile != "wide")


@pytest.mark.parametrize("mode", ["L", "LA"])
def test_grey_that_is_opaque_keeps_its_profile(tmp_path, mode):
    """Half the light, linear, is level 188 of sRGB. A transparent level stands for alpha, too."""
    image = Image.new("LA", (5, 7), (128, 255)).convert(mode)
    image.info = {"icc_profile": grey_profile_of("linear", 1.0)}
    if mode == "L":
        image.info["transparency"] = 3
    assert np.abs(to_pixels(image).astype(int) - 188).max() <= 1
