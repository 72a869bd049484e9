"""A folder of 200 files of every format and mode, in one command."""

import io
import json
import struct
import zlib
from collections import Counter

import numpy as np
import pillow_heif
import pillow_jxl  # noqa: F401
import pytest
import tifffile
from PIL import Image, ImageCms

FILES = 200
_SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def _noise(rng, size, mode="RGB"):
    pixels = rng.integers(0, 256, (size[1], size[0], 4), np.uint8)
    return Image.fromarray(pixels, "RGBA").convert("RGB" if mode == "CMYK" else mode).convert(mode)


def _saved(format, mode="RGB", **options):
    def make(rng, size):
        file = io.BytesIO()
        _noise(rng, size, mode).save(file, format, **options)
        return file.getvalue()

    return make


def _frames(format, **options):
    def make(rng, size):
        file, (first, *rest) = io.BytesIO(), [_noise(rng, size) for _ in range(2)]
        first.save(file, format, save_all=True, append_images=rest, **options)
        return file.getvalue()

    return make


def _palette_with_transparency(format):
    def make(rng, size):
        file = io.BytesIO()
        _noise(rng, size).quantize(16).save(file, format, transparency=0)
        return file.getvalue()

    return make


def _turned(rng, size):
    exif = Image.Exif()
    exif[0x0112] = 6
    return _saved("JPEG", exif=exif)(rng, size)


def _deep_tiff(**options):
    def make(rng, size):
        file = io.BytesIO()
        channels = options.pop("channels", 3)
        pixels = rng.integers(0, 65536, (size[1], size[0], channels), np.uint16)
        tifffile.imwrite(file, pixels, photometric="rgb", **options)
        return file.getvalue()

    return make


def _deep_grey(format):
    def make(rng, size):
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 65536, size[::-1], np.uint16)).save(file, format)
        return file.getvalue()

    return make


def _deep_png(rng, size):
    def chunk(name, data):
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    rows = rng.integers(0, 65536, (size[1], size[0], 3), np.uint16).astype(">u2")
    data = b"".join(b"\0" + row.tobytes() for row in rows)
    head = struct.pack(">IIBBBBB", *size, 16, 2, 0, 0, 0)
    return (b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data))
            + chunk(b"IEND", b""))  # fmt: skip


def _psd(rng, size):
    head = b"8BPS" + struct.pack(">H6xHIIHH", 1, 3, size[1], size[0], 8, 3)
    return head + bytes(12) + b"\0\0" + rng.bytes(3 * size[0] * size[1])


def _qoi(rng, size):
    pixels = rng.integers(0, 256, (size[0] * size[1], 3), np.uint8)
    head = b"qoif" + struct.pack(">IIBB", *size, 3, 0)
    return head + b"".join(b"\xfe" + pixel.tobytes() for pixel in pixels) + bytes(7) + b"\1"


def _icns(rng, size):
    """Pillow would write every size, up to 1024 pixels."""
    icon = _saved("PNG", "RGBA")(rng, (16, 16))
    return (
        b"icns"
        + struct.pack(">I", len(icon) + 16)
        + b"icp4"
        + struct.pack(">I", len(icon) + 8)
        + icon
    )


def _xpm(rng, size):
    rows = ("".join(rng.choice([".", "#"], size[0])) for _ in range(size[1]))
    lines = [f"{size[0]} {size[1]} 2 1", ". c #102030", "# c #ffee00", *rows]
    quoted = ",\n".join(f'"{line}"' for line in lines)
    return f"/* XPM */\nstatic char *x[] = {{\n{quoted}\n}};\n".encode()


def _heic(mode):
    def make(rng, size):
        pillow_heif.register_heif_opener()
        return _saved("HEIF", mode)(rng, size)

    return make


def _float_tiff(rng, size):
    file = io.BytesIO()
    Image.fromarray(rng.random(size[::-1]).astype(np.float32), "F").save(file, "TIFF")
    return file.getvalue()


READ = {
    **{f"png {mode}.png": _saved("PNG", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA")},
    "png key.png": _saved("PNG", transparency=(1, 2, 3)),
    "png palette.png": _palette_with_transparency("PNG"),
    "png grey 16.png": _deep_grey("PNG"),
    "png 16.png": _deep_png,
    "png profile.png": _saved("PNG", icc_profile=_SRGB),
    "png grey with profile.png": _saved("PNG", "L", icc_profile=_SRGB),
    "apng.png": _frames("PNG", duration=50),
    "jpeg.jpg": _saved("JPEG"),
    "jpeg grey.jpeg": _saved("JPEG", "L"),
    "jpeg cmyk.jpg": _saved("JPEG", "CMYK"),
    "jpeg turned.jfif": _turned,
    "jpeg progressive.jpe": _saved("JPEG", progressive=True, icc_profile=_SRGB),
    "webp.webp": _saved("WEBP"),
    "webp alpha.webp": _saved("WEBP", "RGBA", lossless=True),
    "webp frames.webp": _frames("WEBP", duration=40, loop=2),
    **{f"tiff {mode}.tif": _saved("TIFF", mode) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "LAB")},
    "tiff lzw.tiff": _saved("TIFF", compression="tiff_lzw"),
    "tiff jpeg.tiff": _saved("TIFF", compression="jpeg"),
    "tiff grey 16.tif": _deep_grey("TIFF"),
    "tiff 16.tif": _deep_tiff(),
    "tiff pages.tif": _frames("TIFF"),
    "gif.gif": _saved("GIF", "P"),
    "gif clear.gif": _palette_with_transparency("GIF"),
    "gif frames.gif": _frames("GIF", duration=100, loop=0),
    **{f"bmp {mode}.bmp": _saved("BMP", mode) for mode in ("1", "L", "P", "RGB")},
    "ppm.ppm": _saved("PPM"),
    "pgm.pgm": _saved("PPM", "L"),
    "pbm.pbm": _saved("PPM", "1"),
    **{f"tga {mode}.tga": _saved("TGA", mode) for mode in ("L", "RGB", "RGBA")},
    **{f"jp2 {mode}.jp2": _saved("JPEG2000", mode) for mode in ("L", "RGB", "RGBA")},
    "avif.avif": _saved("AVIF"),
    "avif alpha.avif": _saved("AVIF", "RGBA"),
    "ico.ico": _saved("ICO", "RGBA", sizes=[(16, 16)]),
    "pcx.pcx": _saved("PCX"),
    "dds.dds": _saved("DDS"),
    **{f"sgi {mode}.sgi": _saved("SGI", mode) for mode in ("L", "RGB", "RGBA")},
    "xbm.xbm": _saved("XBM", "1"),
    "icns.icns": _icns,
    "psd.psd": _psd,
    "qoi.qoi": _qoi,
    "xpm.xpm": _xpm,
    "heic.heic": _heic("RGB"),
    "heic alpha.heif": _heic("RGBA"),
    "jxl.jxl": _saved("JXL"),
    "jxl grey.jxl": _saved("JXL", "L"),
    "wrong.jpg": _saved("PNG"),
    "wrong.png": _saved("WEBP"),
    "none": _saved("PNG"),
    "unknown.v2": _saved("JPEG"),
}  # fmt: skip
"""Files that are read, by a name for them."""

PASSED_OVER = {
    "._photo.jpg": lambda rng, size: bytes.fromhex("00051607") + bytes(60),
    ".DS_Store": lambda rng, size: b"\0\0\0\x01Bud1" + bytes(60),
    "Thumbs.db": lambda rng, size: bytes.fromhex("d0cf11e0a1b11ae1") + bytes(600),
    "photo.xmp": lambda rng, size: b"<x:xmpmeta xmlns:x='adobe:ns:meta/'/>",
    "notes.txt": lambda rng, size: b"no image",
    "clip.mp4": lambda rng, size: b"\0\0\0\x18ftypisom\0\0\0\0isommp42" + bytes(40),
    "raw.cr2": lambda rng, size: b"II*\0\x10\0\0\0CR" + bytes(60),
    "light.exr": lambda rng, size: b"v/1\x01" + bytes(60),
}
FAILED = {
    "empty.png": lambda rng, size: b"",
    "text.jpg": lambda rng, size: b"no image",
    "cut.jpg": lambda rng, size: _saved("JPEG")(rng, (64, 64))[:700],
    "cut.png": lambda rng, size: _saved("PNG")(rng, (64, 64))[:700],
    "float.tif": _float_tiff,
}


@pytest.fixture
def mixed(tmp_path):
    """A folder of 200 files, some 20 pixels wide; returns it and what each name should become."""
    rng, expected = np.random.default_rng(0), {}
    kinds = [(what, name, make) for what, group in
             (("done", READ), ("passed over", PASSED_OVER), ("failed", FAILED)) for name, make in group.items()]  # fmt: skip
    for number in range(FILES):
        what, name, make = kinds[number % len(kinds)]
        path = tmp_path / "mixed" / f"{number // len(kinds)}" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        size = tuple(map(int, rng.integers(16, 25, 2)))
        path.write_bytes(make(rng, size))
        expected[str(path)] = what
    return tmp_path / "mixed", expected


def test_two_hundred_mixed_files_run_to_their_end_and_again_to_the_same_bytes(
    run, mixed, files, tmp_path
):
    folder, expected = mixed
    assert len(files(folder)) == FILES
    written = []
    for out in (tmp_path / "first", tmp_path / "second"):
        code, stdout, stderr = run(folder, "-o", out, "--json")
        document = json.loads(stdout)
        became = {item["input"]: "passed over" for item in document["passed_over"]}
        for result in document["results"]:
            became[result["input"]] = "failed" if "error" in result else "done"
        wrong = {
            name: (what, became.get(name))
            for name, what in expected.items()
            if became.get(name) != what
        }
        reasons = [result["error"] for result in document["results"] if "error" in result]
        assert wrong == {}, reasons
        assert code == 1
        counts = Counter(expected.values())
        assert len(files(out)) == counts["done"]
        assert len(reasons) == counts["failed"]
        for reason in reasons:
            assert reason.count("\n") == 0
            assert f"dossr-run: {reason}\n" in stderr
        assert stderr.count("passed over: ") == 1
        written.append({name: (out / name).read_bytes() for name in files(out)})
    assert written[0] == written[1]
