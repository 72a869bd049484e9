"""Damaged and oversized images, found by fuzzing. Real processes, real limits of the system."""

import io
import resource
import subprocess
import sys

import pytest
from PIL import Image, TiffImagePlugin

from dossr.runtime.errors import ImageError
from dossr.runtime.images.reader import read_image
from dossr.runtime.images.writer import check_writable, write_image


def test_a_decoders_error_is_one_line(dossr_run, one_line, tmp_path, toy_bundle):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 200)).save(file, "TIFF", compression="tiff_deflate")
    data = bytearray(file.getvalue())
    data[12] ^= 255
    (tmp_path / "z.tif").write_bytes(data)
    done = dossr_run(tmp_path / "z.tif", "-o", tmp_path / "z.png", "-b", toy_bundle)
    assert done.returncode == 1
    assert "z.tif cannot be read" in one_line(done.stderr)


def test_an_image_is_refused_if_its_decoder_warns(noise, tmp_path, capfd):
    """Pillow accepts a fax with a bad code word; libtiff only prints a warning."""
    file = io.BytesIO()
    noise(24).convert("1").save(file, "TIFF", compression="group3")
    data = bytearray(file.getvalue())
    data[128] ^= 255  # within line 11
    (tmp_path / "fax.tif").write_bytes(data)
    with Image.open(tmp_path / "fax.tif") as pillow:
        pillow.load()
    assert "Fax3" in capfd.readouterr().err
    with pytest.raises(ImageError, match=r"^[^\n]*fax\.tif is damaged: Fax3[^\n]*$"):
        read_image(tmp_path / "fax.tif")
    assert capfd.readouterr() == ("", "")


def test_what_pillow_logs_is_not_shown(tmp_path):
    file = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[277] = 200  # samples per pixel
    Image.new("RGB", (8, 8)).save(file, "TIFF")
    data = file.getvalue()
    at = data.index(b"\x15\x01\x03\x00\x01\x00\x00\x00") + 8
    (tmp_path / "many.tif").write_bytes(data[:at] + b"\xc8\x00" + data[at + 2 :])
    program = (
        "import sys; from pathlib import Path; from dossr.runtime.images.reader import *\n"
        "try: read_image(Path(sys.argv[1]))\nexcept ImageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "many.tif"], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif", "jp2"])
@pytest.mark.parametrize(
    ("tag", "value", "kind"),
    [(34675, 7, 4), (34675, "text", 2), (282, b"xx", 7), (282, "72", 2), (33432, 7, 4)],
)  # profile, resolution, copyright, of a type that they may not have
def test_metadata_that_cannot_be_written_is_left_out(tmp_path, tag, value, kind, suffix):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag], tags.tagtype[tag] = value, kind
    Image.new("RGB", (8, 8), (9, 99, 200)).save(tmp_path / "in.tif", tiffinfo=tags)
    source = read_image(tmp_path / "in.tif")
    check_writable(tmp_path / f"out.{suffix}", source, [(32, 32)])
    pixels = source.frames[0].pixels.repeat(4, axis=0).repeat(4, axis=1)
    write_image(tmp_path / f"out.{suffix}", [pixels], source, [(32, 32)])
    with Image.open(tmp_path / f"out.{suffix}") as out:
        out.load()
        assert out.size == (32, 32)


def test_a_size_that_the_format_cannot_hold_is_refused_before_the_work(
    dossr_run, one_line, tmp_path, toy_bundle
):
    Image.new("RGB", (4100, 2)).save(tmp_path / "wide.png")
    done = dossr_run(tmp_path / "wide.png", "-o", tmp_path / "o.webp", "-b", toy_bundle)
    assert done.returncode == 1
    assert "sides of at most 16383 pixels, got 16400" in one_line(done.stderr)


def test_a_file_that_needs_too_much_memory_is_named(dossr_run, one_line, photo, toy_bundle):
    data = bytearray(photo.read_bytes())
    data[data.index(b"IDAT") - 4] = 255
    photo.write_bytes(data)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (4_000_000 * 1024,) * 2)

    done = dossr_run(photo, "-o", photo.with_name("o.png"), "-b", toy_bundle, preexec_fn=limit)
    assert done.returncode == 1
    assert "--tile" not in one_line(done.stderr)
    assert "photo.png" in done.stderr


def test_an_image_with_more_pixels_than_allowed_is_refused_before_it_is_decoded(
    dossr_run, one_line, tmp_path, toy_bundle
):
    """A file of 170 bytes may claim 84 million pixels."""
    tags = {256: 5, 257: 16842752, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16842752, 279: 9}
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\x04\x00\x01\x00\x00\x00" + value.to_bytes(4, "little")
        for tag, value in tags.items()
    )
    head = b"II*\x00\x08\x00\x00\x00" + len(tags).to_bytes(2, "little")
    (tmp_path / "tall.tif").write_bytes(head + entries + b"\0" * 4)
    done = dossr_run(tmp_path / "tall.tif", "-o", tmp_path / "o.png", "-b", toy_bundle)
    assert done.returncode == 1
    said = "must have at most 16777216 pixels, got 5 x 16842752; pass a larger --max-pixels"
    assert said in one_line(done.stderr)


def test_the_limit_of_pixels_is_the_users(dossr_run, photo, toy_bundle):
    target = photo.with_name("o.png")
    assert dossr_run(photo, "-o", target, "-b", toy_bundle, "--max-pixels", 1023).returncode == 1
    assert dossr_run(photo, "-o", target, "-b", toy_bundle, "--max-pixels", 1024).returncode == 0
