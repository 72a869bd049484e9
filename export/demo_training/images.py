"""Procedural training images: dead leaves with textures, gradients, lines and text.

Shapes cover one another, and their sizes follow a power law. This gives the edges and the scale
invariance of photographs (Achddou, Gousseau, Ladjal, "Synthetic images as a regularity prior for
image restoration neural networks", 2021).
"""

import string

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from .plain_images import plain_image

Pixels = NDArray[np.uint8]  # (size, size, 3), sRGB
Palette = NDArray[np.float64]  # (count, 3) in [0, 255]

_OVERSAMPLING = 3  # drawing scale; reduction then smooths the edges
_LENS = 0.45  # standard deviation of the lens blur, in pixels; it avoids stair-step edges
_SMALLEST, _LARGEST = 2.5, 0.45  # radius in pixels, and as a fraction of the side
_EXPONENT = 3.0  # density of radii ~ r**-3: every scale covers the same area
_PLAIN = 6.0  # radius in pixels below which a shape has a single colour
_PLAIN_EVERY = 2  # images; the others are dead leaves
_CLUSTERED = 0.8  # fraction of small shapes in clusters, like detail in photographs


def procedural_image(random: np.random.Generator, size: int) -> Pixels:
    """Return one image, uint8 (size, size, 3), determined by the state of ``random``."""
    side = size * _OVERSAMPLING
    palette = _palette(random)
    canvas = Image.fromarray(_surface(random, side, side, _color(random, palette)))
    radii = np.concatenate([_radii(random, 300, size), _even_radii(random, 80, size)])
    radii = np.sort(radii[random.random(radii.size) < _density(random)])[::-1] * _OVERSAMPLING
    random.shuffle(radii[: radii.size // 2])  # small shapes are mostly, not always, on top
    clusters = random.uniform(0, side, (int(random.integers(1, 5)), 2))
    for radius in radii:
        _leaf(random, canvas, float(radius), clusters, palette)
    draw = ImageDraw.Draw(canvas)
    for _ in range(random.poisson(1.0)):
        _strands(random, draw, side, palette)
    for _ in range(random.poisson(2.0)):
        _line(random, draw, side, palette)
    for _ in range(random.poisson(0.8)):
        _text(random, draw, side, palette)
    seen = canvas.filter(ImageFilter.GaussianBlur(_LENS * _OVERSAMPLING))
    image = np.asarray(seen.resize((size, size), Image.Resampling.BOX), np.float32)
    return _light(random, image)


def numbered_image(seed: int, size: int, number: int) -> Pixels:
    """Return image ``number`` of a seed; it does not depend on order or process. Every other is plain."""
    make = plain_image if is_plain(number) else procedural_image
    return make(np.random.default_rng([seed, number]), size)


def is_plain(number: int) -> bool:
    """Return whether the image of this number is plain: flat, graded, checked, or of a few shapes."""
    return number % _PLAIN_EVERY == 0


def log_uniform(random: np.random.Generator, low: float, high: float) -> float:
    """Return a number whose logarithm is uniformly distributed."""
    return float(np.exp(random.uniform(np.log(low), np.log(high))))


def _radii(random: np.random.Generator, count: int, size: int) -> NDArray[np.float64]:
    """Draw radii in pixels from the power law, by inverting its distribution function."""
    low, high = _SMALLEST ** (1 - _EXPONENT), (_LARGEST * size) ** (1 - _EXPONENT)
    return np.asarray((low + random.random(count) * (high - low)) ** (1 / (1 - _EXPONENT)))


def _even_radii(random: np.random.Generator, count: int, size: int) -> NDArray[np.float64]:
    """Draw log-uniform radii in pixels, for large objects."""
    return np.asarray(np.exp(random.uniform(np.log(8.0), np.log(_LARGEST * size), count)))


def _density(random: np.random.Generator) -> float:
    """Draw the density of shapes; some images are nearly empty, like skies and walls."""
    return float(random.choice([0.08, 0.3, 0.6, 1.0]))


def _palette(random: np.random.Generator) -> Palette:
    """Draw an image's colours: wide in brightness, narrow in chroma, mostly warm or cold."""
    brightness = random.beta(1.1, 1.2, (16, 1)) * 255.0
    chroma = random.normal(0.0, 5.0, (1, 2)) + random.laplace(0.0, 4.0, (16, 2))
    warmth = random.normal(4.0, 8.0) + random.laplace(0.0, random.uniform(4.0, 22.0), (16, 1))
    chroma += warmth * np.array([[-0.9, 0.6]])
    blue, red = chroma[:, :1], chroma[:, 1:]
    green = brightness - 0.344 * blue - 0.714 * red
    rgb = np.concatenate([brightness + 1.402 * red, green, brightness + 1.772 * blue], axis=1)
    return np.asarray(np.clip(rgb, 0.0, 255.0))


def _color(random: np.random.Generator, palette: Palette) -> NDArray[np.float64]:
    """Draw a colour near one of the palette, (3,) in [0, 255]."""
    color = palette[random.integers(len(palette))] + random.normal(0.0, 8.0, 3)
    return np.asarray(np.clip(color, 0.0, 255.0))


def _leaf(
    random: np.random.Generator,
    canvas: Image.Image,
    radius: float,
    clusters: NDArray[np.float64],
    palette: Palette,
) -> None:
    """Draw one shape; large ones are shaded, and some are textured or out of focus."""
    side = canvas.width
    small = radius < _PLAIN * _OVERSAMPLING
    place = random.uniform(0, side, 2)
    if small and random.random() < _CLUSTERED:
        place = random.normal(clusters[random.integers(len(clusters))], side / 10)
    outline = _outline(random, radius) + place
    color = _color(random, palette)
    x, y = np.clip(place, 0, side - 1).astype(int)
    beneath = np.asarray(canvas.getpixel((int(x), int(y))), np.float64)
    color = beneath + random.uniform(0.1, 1.0) * (color - beneath)  # most contrasts are small
    if small:
        ImageDraw.Draw(canvas).polygon(_points(outline), fill=_fill(color))
        return
    blur = 0.0
    if random.random() < 0.4:
        blur = min(radius / 3, _OVERSAMPLING * log_uniform(random, 0.5, 8.0))
    corner = np.floor(outline.min(0) - 2 * blur).astype(int)
    width, height = (int(n) for n in np.ceil(outline.max(0) + 2 * blur).astype(int) - corner + 1)
    mask = Image.new("L", (width, height))
    ImageDraw.Draw(mask).polygon(_points(outline - corner), fill=255)
    if blur:
        mask = mask.filter(ImageFilter.GaussianBlur(blur))
    surface = Image.fromarray(_surface(random, width, height, color))
    canvas.paste(surface, (int(corner[0]), int(corner[1])), mask)


def _points(outline: NDArray[np.float64]) -> list[tuple[float, float]]:
    return [(float(x), float(y)) for x, y in outline]


def _fill(color: NDArray[np.float64]) -> tuple[int, int, int]:
    red, green, blue = np.clip(color, 0.0, 255.0).astype(int)
    return int(red), int(green), int(blue)


def _outline(random: np.random.Generator, radius: float) -> NDArray[np.float64]:
    """Draw a closed curve, an ellipse or a polygon around 0, rotated and stretched: (count, 2)."""
    kind = random.random()
    if 0.55 <= kind < 0.8:
        angle = np.sort(random.uniform(0, 2 * np.pi, int(random.integers(3, 8))))
    else:
        angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    reach = np.ones_like(angle)
    if kind < 0.55:
        for wave in range(2, 7):
            reach += random.normal(0.0, 0.35 / wave) * np.cos(
                wave * angle + random.uniform(0, 2 * np.pi)
            )
        reach = np.maximum(reach, 0.15)
    stretch = random.uniform(0.2, 1.0)
    circle = np.stack([np.cos(angle), stretch * np.sin(angle)], axis=1) * reach[:, None]
    turn = random.uniform(0, 2 * np.pi)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    return np.asarray(radius * circle @ rotation)


def _surface(
    random: np.random.Generator, width: int, height: int, color: NDArray[np.float64]
) -> Pixels:
    """Return a shaded rectangle, uint8 (height, width, 3).

    Half of them also have a grating, checks, grain or fibres.
    """
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    turn = random.uniform(0, 2 * np.pi)
    tilt, bulge = random.normal(0.0, 22.0), abs(random.normal(0.0, 22.0))
    shade = tilt * (x * np.cos(turn) + y * np.sin(turn)) - bulge * (x * x + y * y - 0.5)
    tint = random.normal(1.0, 0.15, 3)
    kind = random.random()
    if kind < 0.5:
        return _uint8(color + shade[..., None] * tint)
    if kind < 0.65:
        waves = np.pi * max(width, height) / (_OVERSAMPLING * random.uniform(3.0, 24.0))
        turn = random.uniform(0, 2 * np.pi)
        pattern = np.sin(waves * (x * np.cos(turn) + y * np.sin(turn)))
        if kind < 0.57:
            pattern = np.sign(pattern * np.sin(waves * (y * np.cos(turn) - x * np.sin(turn))))
    else:
        stretch = 1.0 if kind < 0.8 else log_uniform(random, 2.0, 16.0)
        pattern = texture(random, max(width, height), random.uniform(0.8, 1.8), stretch)
    strength = log_uniform(random, 1.5, 24.0)
    return _uint8(color + (shade + strength * pattern[:height, :width])[..., None] * tint)


def texture(
    random: np.random.Generator, side: int, slope: float, stretch: float
) -> NDArray[np.float64]:
    """Return noise of amplitude frequency**-slope: (side, side), mean 0, standard deviation 1.

    Its structures are stretched by ``stretch`` in a random direction.
    """
    angle = random.uniform(0.0, np.pi)
    fy, fx = np.meshgrid(np.fft.fftfreq(side), np.fft.rfftfreq(side), indexing="ij")
    along, across = fx * np.cos(angle) + fy * np.sin(angle), fy * np.cos(angle) - fx * np.sin(angle)
    fall = np.maximum(np.hypot(along * stretch, across), 1.0 / side) ** -slope
    noise = np.fft.irfft2(np.fft.rfft2(random.standard_normal((side, side))) * fall, (side, side))
    return np.asarray((noise - noise.mean()) / max(float(noise.std()), 1e-9))


def _strands(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, palette: Palette
) -> None:
    """Draw a bundle of thin curves, like hair, grass or fur."""
    color, other = _color(random, palette), _color(random, palette)
    count, spread = int(random.integers(15, 90)), random.uniform(0.02, 0.2) * side
    turn, bend = random.uniform(0, 2 * np.pi), random.normal(0.0, 1.2)
    length = random.uniform(0.1, 0.6) * side
    start = random.uniform(0, side, 2)
    for _ in range(count):
        heading = turn + random.normal(0.0, 0.08) + bend * np.linspace(0.0, 1.0, 12)
        steps = np.stack([np.cos(heading), np.sin(heading)], axis=1) * length / 12
        points = start + random.normal(0.0, spread, 2) + np.cumsum(steps, axis=0)
        mix = random.uniform(0.0, 1.0) ** 2
        width = int(random.integers(1, 2 * _OVERSAMPLING + 1))
        draw.line(_points(points), _fill(color + mix * (other - color)), width, "curve")


def _line(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, palette: Palette
) -> None:
    """Draw a thin curve across a part of the image, like a branch or a wire."""
    points = np.cumsum(random.normal(0.0, side / 40, (12, 2)), axis=0)
    heading = random.normal(0.0, side / 16, 2)
    points += random.uniform(0, side, 2) + np.arange(12)[:, None] * heading
    width = int(random.integers(1, 4)) * _OVERSAMPLING
    draw.line(_points(points), _fill(_color(random, palette)), width, "curve")


def _text(
    random: np.random.Generator, draw: ImageDraw.ImageDraw, side: int, palette: Palette
) -> None:
    """Draw a few letters in Pillow's built-in font."""
    text = "".join(random.choice(list(string.ascii_letters + string.digits + "  ."), 8))
    font = ImageFont.load_default(float(random.uniform(9, 40)) * _OVERSAMPLING)
    x, y = random.uniform(0, side * 0.8, 2)
    draw.text((float(x), float(y)), text, _fill(_color(random, palette)), font)


def _light(random: np.random.Generator, image: NDArray[np.float32]) -> Pixels:
    """Apply uneven light, and a camera's contrast and gamma."""
    size = len(image)
    y, x = np.mgrid[-1 : 1 : size * 1j, -1 : 1 : size * 1j]
    slope = random.normal(0.0, 0.12, 2)
    light = np.exp(x * slope[0] + y * slope[1])[..., None]
    level = np.clip(image / 255.0 * light, 0.0, 1.0) ** random.uniform(0.75, 1.4)
    return _uint8(level * 255.0)


def _uint8(levels: NDArray[np.float64]) -> Pixels:
    return np.asarray(np.rint(np.clip(levels, 0.0, 255.0)), np.uint8)
