"""Arrays, images and tensor specifications that every file shares, and their fixed sizes."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Array = NDArray[Any]
Image = NDArray[np.uint8]
"""An image at the edges of the pipeline: uint8 (height, width, 3), sRGB."""

Axis = Annotated[int, Meta(ge=1)] | Annotated[str, Meta(max_length=255)]
"""A fixed size, or the name of a variable size."""

SCALE = 4
"""The factor by which the networks enlarge an image."""

MAX_PIXELS = 1 << 24
"""Default limit on the size of an input: 4096 x 4096 pixels, which become 16384 x 16384."""

LATENT_MULTIPLE = 8
"""Latent sides are multiples of this in every model: SD's UNet halves them three times."""


@dataclass(frozen=True)
class TensorSpec:
    """Name, dtype and shape of one input or output of a network."""

    name: str
    dtype: str
    """Its name in NumPy, such as float32."""

    shape: tuple[Axis, ...]

    def check(self, array: Array) -> None:
        """Raise ValueError unless the array matches."""
        fits = array.dtype == np.dtype(self.dtype) and array.ndim == len(self.shape)
        if not fits or any(
            isinstance(axis, int) and axis != size
            for axis, size in zip(self.shape, array.shape, strict=True)
        ):
            wanted = ", ".join(str(axis) for axis in self.shape)
            raise ValueError(
                f"tensor '{self.name}' must be {self.dtype}[{wanted}], "
                f"got {array.dtype}{list(array.shape)}"
            )
