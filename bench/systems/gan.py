"""BSRGAN, Real-ESRGAN and LDL: one call of one RRDBNet, no noise."""

from dataclasses import replace
from functools import partial

from torch import Tensor

from ...export.checkpoint.config import RestorerConfig
from ...export.networks.restorer import new_restorer
from .networks.sd import widths
from .system import Call, Component, Figures, Input, Network, Noise, Published, System

PARAMETERS = 16.697987
GMAC = 293.713


def restorer(config: RestorerConfig, size: int) -> Network:
    """Return RRDBNet x4 for square LR images in [0, 1]; the output is unclamped."""
    return Network(
        "restorer",
        partial(new_restorer, config),
        (Input("lr", (1, 3, size, size)),),
        ("restored",),
        1,
        Figures(PARAMETERS, GMAC),
    )


def bsrgan(size: int = 128, reduced: bool = False) -> System:
    """Return BSRGAN (Zhang et al. 2021), main_test_bsrgan.py."""
    config = widths(reduced).restorer
    network = restorer(config, size)

    def upscale(call: Call, lr: Tensor, _noise: Noise) -> Tensor:
        (restored,) = call("restorer", lr=lr)
        return restored.clamp(0.0, 1.0)

    return System(
        name="bsrgan",
        title="BSRGAN",
        networks=(network,),
        upscale=upscale,
        components=(Component("RRDBNet", network.build, PARAMETERS),),
        published=Published(parameters=16.70, latency=0.06, maniqa=0.3882),
        gmac=293.7,
    )


def real_esrgan(size: int = 128, reduced: bool = False) -> System:
    """Return Real-ESRGAN (Wang et al. 2021), inference_realesrgan.py, float16 by default."""
    return replace(
        bsrgan(size, reduced),
        name="real-esrgan",
        title="Real-ESRGAN",
        published=Published(parameters=16.70, latency=0.08, maniqa=0.3861),
    )


def ldl(size: int = 128, reduced: bool = False) -> System:
    """Return LDL (Liang et al. 2022), inference.py."""
    return replace(
        bsrgan(size, reduced),
        name="ldl",
        title="LDL",
        published=Published(parameters=16.70, latency=0.08, maniqa=0.3921),
    )
