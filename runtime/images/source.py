"""An image file in memory: its frames, and everything that the result must keep."""

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..tensors import Array

Pixels = NDArray[np.uint8] | NDArray[np.uint16]
"""uint8 or uint16 (height, width, 3), sRGB."""


@dataclass(frozen=True)
class Frame:
    """One still image: a photograph, a frame of an animation as a viewer shows it, or a page."""

    pixels: Pixels
    """sRGB, upright. Where the image is transparent, colours are continued from the edge."""

    alpha: Array | None = None
    """(height, width) in the dtype of ``pixels``; None: opaque everywhere."""

    duration: float | None = None
    """Milliseconds for which an animation shows the frame; None: not timed."""

    disposal: int = 0
    """What an animation does afterwards, as in GIF: 2 clears the frame, 3 restores the one before."""

    beyond: Array | None = None
    """(height, width, channels) in the source's profile: what sRGB cannot hold of its colours, in levels,
    continued from the edge as ``pixels`` are; None: nothing."""

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self.pixels.shape[1], self.pixels.shape[0]


@dataclass(frozen=True)
class Metadata:
    """What a file says about its image. Orientation is normal, sizes and thumbnails are removed."""

    exif: bytes | None = None
    """A TIFF directory that starts with ``Exif\\0\\0``."""

    xmp: bytes | None = None
    iptc: bytes | None = None
    """IPTC-IIM records, without the Photoshop resource around them."""

    text: tuple[tuple[str, str], ...] = ()
    """Keys and values of a PNG's text chunks."""

    comment: bytes | None = None
    """Comment of a JPEG or GIF."""

    dpi: tuple[float, float] | None = None


@dataclass(frozen=True)
class SourceImage:
    """The content of an image file."""

    frames: tuple[Frame, ...]
    """One or more; of one size, except for the pages of a TIFF."""

    depth: int = 8
    """Bits a channel: 8 or 16."""

    is_grey: bool = False
    has_alpha: bool = False
    """Whether the file has an alpha channel, even if it is opaque everywhere."""

    profile: bytes | None = None
    """The file's ICC profile, for RGB or grey. The frames were converted from it to sRGB."""

    metadata: Metadata = field(default_factory=Metadata)
    loop: int | None = None
    """How often an animation is shown, 0 for ever; None: the file does not say."""

    notes: tuple[str, ...] = ()
    """What a user should know about the file, each one sentence without the file's name."""

    @property
    def is_animated(self) -> bool:
        """Whether there are several frames, which are shown one after the other."""
        return len(self.frames) > 1 and self.frames[0].duration is not None

    @property
    def is_opaque(self) -> bool:
        """Whether no pixel of any frame is transparent."""
        return all(frame.alpha is None for frame in self.frames)


@dataclass(frozen=True)
class WriteOptions:
    """How results are written."""

    format: str | None = None
    """Suffix of the format to write, such as .jpg; None: by the target's name."""

    quality: int | None = None
    """1 to 100, for JPEG, WebP, AVIF, HEIC and JPEG XL; None: a high one."""

    depth: str = "auto"
    """Bits a channel: auto (as the source where the format has them), 8 or 16."""

    background: tuple[int, int, int] | None = None
    """sRGB colour to put under transparent pixels; None: transparency is kept."""

    strip: bool = False
    """Leave out all metadata but the colour profile."""

    profile: str = "keep"
    """keep: write in the source's colour profile; srgb: write sRGB."""
