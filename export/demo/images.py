"""Procedural pictures to train on: dead leaves with textures, gradients, lines and lettering.

Shapes of a power-law of sizes cover one another until nothing of the ground is seen, which gives the
edges and the scale invariance of photographs (Achddou, Gousseau, Ladjal, "Synthetic images as a
regularity prior for image restoration neural networks", 2021).
"""

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

Picture = NDArray[np.uint8]  # (size, size, 3), sRGB

_OVERSAMPLING = 2  # drawn larger and reduced, for smooth edges
_SMALLEST, _LARGEST = 2.0, 0.45  # radius in pixels, and as a share of the side
_EXPONENT = 3.0  # density of radii ~ r**-3: every scale covers the same area
_TEXTURED = 14.0  # radius in pixels from which a shape is filled with a texture


def procedural_picture(random: np.random.Generator, size: int) -> Picture:
    """One picture, uint8 (size, size, 3), from the state of ``random`` alone."""
    side = size * _OVERSAMPLING
    palette = _palette(random)
    canvas = Image.fromarray(_texture(random, side, palette))
    draw = ImageDraw.Draw(canvas)
    radii = np.concatenate([_radii(random, 900, size), _even_radii(random, 120, size)])
    radii = np.sort(radii[random.random(radii.size) < _density(random)])[::-1] * _OVERSAMPLING
    random.shuffle(radii[: radii.size // 2])  # small shapes mostly lie on top, not always
    for radius in radii:
        _leaf(random, canvas, draw, float(radius), palette)
    for _ in range(random.poisson(3)):
        _line(random, draw, side, palette)
    for _ in range(random.poisson(1.5)):
        _lettering(random, draw, side, palette)
    picture = np.asarray(canvas.resize((size, size), Image.Resampling.BOX), np.float32)
    return _light(random, picture)


def numbered_picture(seed: int, size: int, number: int) -> Picture:
    """Picture ``number`` of a seed, the same in whatever order and process it is made."""
    return procedural_picture(np.random.default_rng([seed, number]), size)


def _radii(random: np.random.Generator, count: int, size: int) -> NDArray[np.float64]:
    """Radii in pixels from the power-law, by inversion of its distribution function."""
    low, high = _SMALLEST ** (1 - _EXPONENT), (_LARGEST * size) ** (1 - _EXPONENT)
    return np.asarray((low + random.random(count) * (high - low)) ** (1 / (1 - _EXPONENT)))


def _even_radii(random: np.random.Generator, count: int, size: int) -> NDArray[np.float64]:
    """Radii of every order of size alike: the large things that a photograph is of."""
    return np.asarray(np.exp(random.uniform(np.log(8.0), np.log(_LARGEST * size), count)))


def _density(random: np.random.Generator) -> float:
    """How crowded a picture is: some are nearly empty, as skies and walls are."""
    return float(random.choice([0.08, 0.3, 0.6, 1.0]))


def _palette(random: np.random.Generator) -> NDArray[np.float64]:
    """Colours of one picture, (16, 3) in [0, 255]: wide in brightness, narrow in chroma."""
    brightness = random.beta(1.1, 1.2, (16, 1)) * 255.0
    tint = random.normal(0.0, 12.0, (1, 2))
    chroma = tint + random.laplace(0.0, random.uniform(4.0, 26.0), (16, 2))
    blue, red = chroma[:, :1], chroma[:, 1:]
    green = brightness - 0.344 * blue - 0.714 * red
    rgb = np.concatenate([brightness + 1.402 * red, green, brightness + 1.772 * blue], axis=1)
    return np.asarray(np.clip(rgb, 0.0, 255.0))


def _color(random: np.random.Generator, palette: NDArray[np.float64]) -> tuple[int, int, int]:
    color = palette[random.integers(len(palette))] + random.normal(0.0, 8.0, 3)
    red, green, blue = np.clip(color, 0.0, 255.0).astype(int)
    return int(red), int(green), int(blue)


def _leaf(
    random: np.random.Generator,
    canvas: Image.Image,
    draw: ImageDraw.ImageDraw,
    radius: float,
    palette: NDArray[np.float64],
) -> None:
    """One shape, flat or textured."""
    x, y = random.uniform(0, canvas.width, 2)
    outline = _outline(random, radius) + np.array([x, y])
    points = [(float(px), float(py)) for px, py in outline]
    if radius < _TEXTURED * _OVERSAMPLING or random.random() < 0.35:
        draw.polygon(points, fill=_color(random, palette))
        return
    left, top = np.floor(outline.min(0)).astype(int)
    width, height = np.ceil(outline.max(0)).astype(int) - (left, top) + 1
    mask = Image.new("L", (int(width), int(height)))
    ImageDraw.Draw(mask).polygon([(px - left, py - top) for px, py in points], fill=255)
    if random.random() < 0.2:  # out of focus
        mask = mask.filter(ImageFilter.GaussianBlur(random.uniform(1.0, 8.0)))
    fill = Image.fromarray(_texture(random, int(max(width, height)), palette))
    canvas.paste(fill.crop((0, 0, int(width), int(height))), (int(left), int(top)), mask)


def _outline(random: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """Points of an ellipse or of a polygon around 0, turned and stretched."""
    corners = 40 if random.random() < 0.45 else int(random.integers(3, 8))
    angle = (
        np.sort(random.uniform(0, 2 * np.pi, corners))
        if corners < 40
        else np.linspace(0, 2 * np.pi, 40)
    )
    circle = np.stack([np.cos(angle), random.uniform(0.25, 1.0) * np.sin(angle)], axis=1)
    turn = random.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(radius * circle @ rotation)


def _texture(
    random: np.random.Generator, side: int, palette: NDArray[np.float64]
) -> NDArray[np.uint8]:
    """A filled square: a gradient of two colours plus grating, checks or 1/f noise."""
    first, second = (np.array(_color(random, palette), np.float64) for _ in range(2))
    y, x = np.mgrid[0 : 1 : side * 1j, 0 : 1 : side * 1j]
    turn = random.uniform(0, 2 * np.pi)
    ramp = np.clip(0.5 + (x - 0.5) * np.cos(turn) + (y - 0.5) * np.sin(turn), 0.0, 1.0)
    waves = side / (_OVERSAMPLING * random.uniform(3.0, 24.0))
    phase = 2 * np.pi * waves * (x * np.cos(turn * 3) + y * np.sin(turn * 3))
    kind = random.integers(5)
    if kind == 0:
        pattern = np.sin(phase)
    elif kind == 1:
        across = 2 * np.pi * waves * (y * np.cos(turn * 3) - x * np.sin(turn * 3))
        pattern = np.sign(np.sin(phase) * np.sin(across))
    elif kind == 2:
        pattern = np.zeros_like(x)
    else:
        pattern = _noise(random, side, random.uniform(0.6, 1.8))
    strength = random.uniform(2.0, 30.0)
    color = first + (second - first) * ramp[..., None] * random.uniform(0.1, 1.0)
    return _uint8(color + strength * pattern[..., None])


def _noise(random: np.random.Generator, side: int, slope: float) -> NDArray[np.float64]:
    """Noise whose amplitude falls as frequency**-slope, of unit variance."""
    fy, fx = np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None]
    frequency = np.hypot(fy, fx)
    frequency[0, 0] = np.inf
    shape = (side, frequency.shape[1])
    spectrum = random.normal(size=shape) + 1j * random.normal(size=shape)
    noise = np.fft.irfft2(spectrum * frequency**-slope, (side, side))
    return np.asarray(noise / max(float(noise.std()), 1e-9))


def _line(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, palette: NDArray[np.float64]
) -> None:
    """A thin curve across a part of the picture: a branch, a wire, a hair."""
    points = np.cumsum(random.normal(0.0, side / 14, (12, 2)), axis=0) * 0.5
    heading = random.normal(0.0, side / 16, 2)
    points += random.uniform(0, side, 2) + np.arange(12)[:, None] * heading
    width = int(random.integers(1, 4)) * _OVERSAMPLING
    draw.line([(float(x), float(y)) for x, y in points], _color(random, palette), width, "curve")


def _lettering(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, palette: NDArray[np.float64]
) -> None:
    """A few letters in Pillow's own font."""
    text = "".join(random.choice(list(string.ascii_letters + string.digits + "  ."), 8))
    font = ImageFont.load_default(float(random.uniform(9, 40)) * _OVERSAMPLING)
    x, y = random.uniform(0, side * 0.8, 2)
    draw.text((float(x), float(y)), text, _color(random, palette), font)


def _light(random: np.random.Generator, picture: NDArray[np.float32]) -> Picture:
    """Uneven light, contrast and gamma of a camera."""
    size = len(picture)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    slope = random.normal(0.0, 0.12, 2)
    light = np.exp(x * slope[0] + y * slope[1])[..., None]
    level = np.clip(picture / 255.0 * light, 0.0, 1.0) ** random.uniform(0.75, 1.4)
    return _uint8(level * 255.0)


def _uint8(levels: NDArray[np.float64]) -> Picture:
    return np.asarray(np.rint(np.clip(levels, 0.0, 255.0)), np.uint8)
