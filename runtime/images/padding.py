"""Padding an LR image to the sizes that the networks take."""

import numpy as np

from ..tensors import Array


def pad_to_multiple(lr: Array, multiple: int) -> Array:
    """Pad (batch, channels, height, width) below and to the right to multiples of ``multiple``.

    By reflection, or, along a side that is not larger than its pad, by repeating the edge.
    """
    for axis in (2, 3):
        size = lr.shape[axis]
        extra = -size % multiple
        if extra:
            widths = [(0, extra if a == axis else 0) for a in range(lr.ndim)]
            lr = np.pad(lr, widths, mode="reflect" if extra < size else "edge")
    return lr
