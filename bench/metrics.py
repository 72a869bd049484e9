"""How good an image is, measured against the sharp original. Images are uint8 (h, w, 3), sRGB."""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]

_LUMA = (65.481 / 255.0, 128.553 / 255.0, 24.966 / 255.0)  # ITU-R BT.601, 16 to 235
_BORDER = 4  # pixels left out on every side, as the field does for a scale of 4


@dataclass(frozen=True)
class Scores:
    """One image against its original."""

    psnr_y: float
    """dB, of BT.601 luma without a border of 4 pixels."""

    ssim: float
    """Of the same luma, Gaussian window of sigma 1.5 (Wang et al. 2004)."""

    detail: float
    """Gradient energy as a share of the original's: below 1 is softer, above 1 is harsher."""

    gradients: float
    """Distance between the distributions of gradient magnitudes (Wasserstein-1, in levels of luma).

    It does not ask whether an edge lies where it did, only whether there are as many edges of each
    strength as in the original; 0 is best.
    """

    lpips: float | None
    """AlexNet, version 0.1; None where its package or weights are not installed."""


def score(image: Pixels, original: Pixels) -> Scores:
    """All measures of one image. Raises ValueError where the shapes differ."""
    from skimage.metrics import structural_similarity

    if image.shape != original.shape:
        raise ValueError(f"an image of {original.shape} cannot be compared with {image.shape}")
    a, b = luma(image), luma(original)
    similarity = structural_similarity(
        a, b, data_range=255.0, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
    )
    found, wanted = gradients(a), gradients(b)
    distance = _lpips()
    return Scores(
        psnr_y=psnr(a, b),
        ssim=float(similarity),
        detail=float((found**2).mean() / (wanted**2).mean()),
        gradients=float(np.abs(np.sort(found.ravel()) - np.sort(wanted.ravel())).mean()),
        lpips=distance(image, original) if distance else None,
    )


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Peak signal-to-noise ratio in dB, of values up to 255; infinite where they are equal."""
    error = float(((a.astype(np.float64) - b) ** 2).mean())
    return 10.0 * float(np.log10(255.0**2 / error)) if error else float("inf")


def luma(image: Pixels) -> Plane:
    """BT.601 luma, 16 to 235, without the border."""
    plane = image[_BORDER:-_BORDER, _BORDER:-_BORDER].astype(np.float64) @ np.array(_LUMA)
    return np.asarray(plane + 16.0)


def gradients(plane: Plane) -> Plane:
    """Magnitudes of the forward differences."""
    down = np.diff(plane, axis=0)[:, :-1]
    right = np.diff(plane, axis=1)[:-1]
    return np.asarray(np.hypot(down, right))


@cache
def _lpips() -> Callable[[Pixels, Pixels], float] | None:
    """The LPIPS distance (Zhang et al. 2018), where nothing needs to be downloaded for it."""
    import torch

    backbone = Path(torch.hub.get_dir()) / "checkpoints" / "alexnet-owt-7be5be79.pth"
    if importlib.util.find_spec("lpips") is None or not backbone.is_file():
        return None
    import lpips

    network = lpips.LPIPS(net="alex", verbose=False).eval()

    def distance(image: Pixels, original: Pixels) -> float:
        with torch.inference_mode():
            tensors = [
                torch.from_numpy(np.array(p)).permute(2, 0, 1)[None].float() / 127.5 - 1.0
                for p in (image, original)
            ]
            return float(network(*tensors))

    return distance
