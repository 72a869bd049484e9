"""Image quality against a sharp original. Images are uint8 (h, w, 3), sRGB."""

import importlib.util
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..runtime.seeds.iqa import Metric

Pixels = NDArray[np.uint8]
Plane = NDArray[np.float64]

_LUMA = (65.481 / 255.0, 128.553 / 255.0, 24.966 / 255.0)  # ITU-R BT.601, 16 to 235
_BORDER = 4  # pixels excluded on every side, as is usual for a scale of 4


@dataclass(frozen=True)
class Scores:
    """Scores of one image against its original."""

    psnr_y: float
    """PSNR in dB of BT.601 luma, without a border of 4 pixels."""

    ssim: float
    """SSIM of the same luma with a Gaussian window of sigma 1.5 (Wang et al. 2004)."""

    detail: float
    """Gradient energy relative to the original: below 1 is blurrier, above 1 is sharper."""

    gradients: float
    """Wasserstein-1 distance between the distributions of gradient magnitudes, in levels of luma.

    Compares how many edges of each strength there are, not where they are; 0 is best.
    """

    lpips: float | None
    """LPIPS with AlexNet, version 0.1; None if the package or its weights are not installed."""

    metrics: Mapping[str, float] = field(default_factory=dict)
    """Scores by pyiqa, by the names of its metrics."""


def score(image: Pixels, original: Pixels, metrics: Sequence[Metric] = ()) -> Scores:
    """Compute all scores of one image, and ``metrics`` of pyiqa. Raises ValueError if the shapes differ."""
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
        metrics={
            each.name: each(image, original) if each.needs_original else each(image)
            for each in metrics
        },
    )


def psnr(a: NDArray[Any], b: NDArray[Any]) -> float:
    """Return the peak signal-to-noise ratio in dB for values up to 255; infinite for equal images."""
    error = float(((a.astype(np.float64) - b) ** 2).mean())
    return 10.0 * float(np.log10(255.0**2 / error)) if error else float("inf")


def luma(image: Pixels) -> Plane:
    """Return BT.601 luma, 16 to 235, without the border."""
    plane = image[_BORDER:-_BORDER, _BORDER:-_BORDER].astype(np.float64) @ np.array(_LUMA)
    return np.asarray(plane + 16.0)


def gradients(plane: Plane) -> Plane:
    """Return the magnitudes of the forward differences."""
    down = np.diff(plane, axis=0)[:, :-1]
    right = np.diff(plane, axis=1)[:-1]
    return np.asarray(np.hypot(down, right))


@cache
def _lpips() -> Callable[[Pixels, Pixels], float] | None:
    """Return the LPIPS distance (Zhang et al. 2018), or None if it needs a download."""
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
