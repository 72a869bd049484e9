"""The arrays that the stages exchange, and what is fixed about their sizes. Imports nothing of ours."""

from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

Array = NDArray[Any]
Image = NDArray[np.uint8]
"""An image at the edges of the pipeline: uint8 (height, width, 3), sRGB."""

Axis = Annotated[int, Meta(ge=1)] | Annotated[str, Meta(max_length=255)]
"""A fixed size, or the name of a size that may vary."""

SCALE = 4
"""How many times larger the networks make an image."""

LATENT_MULTIPLE = 8
"""Latent sides are multiples of this in every model: SD's UNet halves them three times."""


@dataclass(frozen=True)
class TensorSpec:
    """What one input or output of a network must look like."""

    name: str
    dtype: str
    """NumPy's name of it, such as float32."""

    shape: tuple[Axis, ...]

    def check(self, array: Array) -> None:
        """Raise ValueError unless the array fits."""
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
