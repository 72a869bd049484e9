"""Degrades a sharp image in one stage, after Real-ESRGAN (Wang et al. 2021).

The steps are blur, reduction by four, noise and JPEG.
"""

import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from ...runtime.tensors import SCALE

Pixels = NDArray[np.uint8]  # (height, width, 3), sRGB

_FILTERS = (
    Image.Resampling.BOX,
    Image.Resampling.BILINEAR,
    Image.Resampling.BICUBIC,
    Image.Resampling.LANCZOS,
)


@dataclass(frozen=True)
class Degradation:
    """Ranges from which the strengths are drawn for each image, both ends included."""

    blur: tuple[float, float] = (0.5, 2.0)
    """Standard deviation of the Gaussian blur, in pixels of the sharp image."""

    noise: tuple[float, float] = (2.0, 12.0)
    """Standard deviation of the noise in the small image, on a scale of 255."""

    jpeg: tuple[int, int] = (50, 90)
    """JPEG quality of the small image."""

    grey_noise: float = 0.4
    """Fraction of images with the same noise in all channels."""

    clean: float = 0.0
    """Fraction of images that are reduced and nothing else: drawings, screenshots, rendered images."""

    def __call__(self, hr: Pixels, random: np.random.Generator) -> Pixels:
        """Return the small image, uint8 (height / 4, width / 4, 3).

        Raise ValueError unless sides are multiples of 4.
        """
        height, width = hr.shape[:2]
        if height % SCALE or width % SCALE:
            raise ValueError(f"sides must be multiples of {SCALE}, got {height} x {width}")
        sharp, size = Image.fromarray(hr), (width // SCALE, height // SCALE)
        if self.clean and random.random() < self.clean:
            return np.asarray(sharp.resize(size, _drawn_filter(random)))
        blurred = sharp.filter(ImageFilter.GaussianBlur(random.uniform(*self.blur)))
        small = np.asarray(blurred.resize(size, _drawn_filter(random)), np.float32)
        channels = 1 if random.random() < self.grey_noise else 3
        noise = random.normal(0.0, random.uniform(*self.noise), (*small.shape[:2], channels))
        noisy = np.rint(np.clip(small + noise, 0.0, 255.0)).astype(np.uint8)
        file = io.BytesIO()
        quality = int(random.integers(self.jpeg[0], self.jpeg[1] + 1))
        Image.fromarray(noisy).save(file, "JPEG", quality=quality)
        return np.asarray(Image.open(file))


def _drawn_filter(random: np.random.Generator) -> Image.Resampling:
    return _FILTERS[random.integers(len(_FILTERS))]
