"""Fixtures of the image tests: colour profiles made by hand, and a result as the pipeline would give it."""

import struct

import numpy as np
import pytest

from dossr.runtime.images.reader import read_image
from dossr.runtime.images.writer import write_image

P3 = ((0.5151, 0.2412, -0.0011), (0.2920, 0.6922, 0.0419), (0.1571, 0.0666, 0.7841))
"""XYZ of Display P3's red, green and blue under D50."""

INKS = ((0, 150, 220), (220, 0, 120), (250, 240, 0), (30, 30, 30))
"""sRGB of the test profile's cyan, magenta, yellow and black; overprints multiply."""


@pytest.fixture
def profiles():
    """Functions that make colour profiles: matrix_profile, grey_profile, table_profile."""
    return Profiles


@pytest.fixture
def enlarged(tmp_path):
    """enlarged(source, target, ...) reads, enlarges each frame by repetition and writes; returns the source."""

    def run(source, target, options=None, scale=4, **reading):
        image = read_image(tmp_path / source, **reading)
        results = [frame.pixels.repeat(4, axis=0).repeat(4, axis=1) for frame in image.frames]
        sizes = [(frame.size[0] * scale, frame.size[1] * scale) for frame in image.frames]
        write_image(tmp_path / target, results, image, sizes, options)
        return image

    return run


class Profiles:
    @staticmethod
    def matrix_profile(columns=P3, gamma=2.2):
        tags = {b"rgb"[i : i + 1] + b"XYZ": _xyz(column) for i, column in enumerate(columns)}
        tags |= {name: _gamma(gamma) for name in (b"rTRC", b"gTRC", b"bTRC")}
        return _icc(b"RGB ", b"XYZ ", {**tags, b"wtpt": _xyz((0.9642, 1, 0.8249))})

    @staticmethod
    def grey_profile(gamma=1.0):
        tags = {b"kTRC": _gamma(gamma), b"wtpt": _xyz((0.9642, 1, 0.8249))}
        return _icc(b"GRAY", b"XYZ ", tags)

    @staticmethod
    def table_profile(space=b"CMYK"):
        """A profile with a table of two nodes a side: of INKS for CMYK, else nearly sRGB."""
        channels = {b"CMYK": 4, b"RGB ": 3}[space]
        side = 2 if channels == 4 else 17
        nodes = np.stack(np.meshgrid(*[np.linspace(0, 1, side)] * channels, indexing="ij"), axis=-1)
        rgb = nodes if channels == 3 else np.ones((*nodes.shape[:-1], 3))
        for i in range(4 if channels == 4 else 0):
            rgb = rgb * (1 - nodes[..., i : i + 1] * (1 - np.array(INKS[i]) / 255))
        table = np.rint(_lab(rgb)).clip(0, 255).astype(np.uint8).tobytes()
        ramp = bytes(range(256))
        matrix = struct.pack(">9i", *(65536 * (i % 4 == 0) for i in range(9)))
        head = struct.pack(">4s4x4B", b"mft1", channels, 3, side, 0)
        tags = {b"A2B0": head + matrix + ramp * channels + table + ramp * 3}
        return _icc(space, b"Lab ", {**tags, b"wtpt": _xyz((0.9642, 1, 0.8249))})


def _lab(rgb):
    """Lab in 8 bits of sRGB in [0, 1]."""
    linear = np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)
    to_xyz = [[0.4361, 0.3851, 0.1431], [0.2225, 0.7169, 0.0606], [0.0139, 0.0971, 0.7141]]
    xyz = linear @ np.transpose(to_xyz) / (0.9642, 1, 0.8249)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([(116 * y - 16) * 2.55, 500 * (x - y) + 128, 200 * (y - z) + 128], axis=-1)


def _xyz(values):
    return b"XYZ " + bytes(4) + struct.pack(">3i", *(round(value * 65536) for value in values))


def _gamma(value):
    return b"para" + struct.pack(">4xHxxi", 0, round(value * 65536))


def _icc(space, pcs, tags):
    tags = {name: data + bytes(-len(data) % 4) for name, data in tags.items()}
    at = 132 + 12 * len(tags)
    table, body = struct.pack(">I", len(tags)), b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, at + len(body), len(data))
        body += data
    head = struct.pack(
        ">I4sI4s4s4s12x4s", at + len(body), b"lcms", 0x02400000, b"mntr", space, pcs, b"acsp"
    )
    white = struct.pack(">3i", 63190, 65536, 54061)
    return (head.ljust(68, b"\0") + white).ljust(128, b"\0") + table + body
