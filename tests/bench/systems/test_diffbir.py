"""What DiffBIR's loop does around its networks."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from PIL import Image  # noqa: E402

from dossr.bench.systems import load_system  # noqa: E402
from dossr.bench.systems.diffbir import enlarge  # noqa: E402
from dossr.bench.systems.system import Noise  # noqa: E402

SIZE = 64


def test_the_image_is_enlarged_as_pillow_does():
    image = np.random.default_rng(0).integers(64, 192, (24, 32, 3), dtype=np.uint8)
    wanted = np.asarray(Image.fromarray(image).resize((128, 96), Image.Resampling.BICUBIC))
    lr = torch.from_numpy(image / np.float32(255.0)).permute(2, 0, 1)[None]
    found = enlarge(lr)[0].permute(1, 2, 0).numpy() * 255.0
    assert np.abs(found - wanted).max() < 1.2  # Pillow rounds after each of its two passes


class ExactDenoiser:
    """Networks that know the clean latent: eps follows from x and the time, the decoder enlarges."""

    def __init__(self, clean, levels):
        self.clean, self.levels, self.times = clean, levels, []

    def __call__(self, network, /, **inputs):
        if network == "swinir":
            return (inputs["image"],)
        if network == "unet":
            self.times.append(int(inputs["time"]))
            level = self.levels[self.times[-1]]
            return ((inputs["x"] - level**0.5 * self.clean) / (1.0 - level) ** 0.5,)
        if network == "decoder":
            self.latent = inputs["latent"]
            return (torch.zeros(1, 3, 4 * SIZE, 4 * SIZE),)
        if network == "condition":
            return self.clean, self.clean
        if network == "text":
            return (inputs["tokens"].float(),)
        return (inputs["hint"],)


def test_fifty_steps_from_noise_reach_the_clean_latent():
    levels = torch.linspace(0.00085**0.5, 0.0120**0.5, 1000, dtype=torch.float64) ** 2
    levels = (1.0 - levels).cumprod(0).tolist()
    clean = torch.randn(1, 4, SIZE // 2, SIZE // 2, generator=torch.Generator().manual_seed(0))
    networks = ExactDenoiser(clean, levels)
    lr = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    image = load_system("diffbir-50", SIZE, reduced=True).upscale(networks, lr, Noise(0))
    assert len(networks.times) == 50
    assert (networks.times[0], networks.times[-1]) == (999, 0)
    assert torch.allclose(networks.latent * 0.18215, clean, rtol=0.0, atol=1e-4)
    # a constant has no details, so what is left are the coarse parts of the enlarged image
    assert image.mean() == pytest.approx(lr.mean().item(), abs=0.01)
    assert image.std() < lr.std()
