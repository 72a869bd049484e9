"""SeeSR's loop: its steps are diffusers' DDPM, its guidance weighs two halves of a batch."""

import pytest

torch = pytest.importorskip("torch")

from diffusers import DDPMScheduler  # noqa: E402

from dossr.bench.systems import load_system  # noqa: E402
from dossr.bench.systems.networks import ram  # noqa: E402
from dossr.bench.systems.seesr import TIMES, guided  # noqa: E402
from dossr.bench.systems.system import Noise  # noqa: E402

SIZE = 64
SIDE = SIZE * 4 // 8
POSTERIOR_MEAN = 2.0


@pytest.fixture
def scheduler():
    """What SD 2-base's scheduler settings make, on the 50 steps of the script."""
    scheduler = DDPMScheduler(
        num_train_timesteps=1000,
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="epsilon",
        timestep_spacing="leading",
        steps_offset=1,
    )
    scheduler.set_timesteps(50)
    return scheduler


class Recorder:
    """Stands in for the networks: gives constants, keeps what it was passed."""

    def __init__(self, unconditional=0.0, conditional=0.0):
        self.seen = {}
        self._eps = torch.stack(
            [torch.full((4, SIDE, SIDE), value) for value in (unconditional, conditional)]
        )

    def __call__(self, network, /, **inputs):
        self.seen.setdefault(network, []).append(inputs)
        answer = getattr(self, f"_{network}")
        return answer(**inputs)

    def _ram(self, image):
        return (torch.full((1, ram.TOKENS, 8), float(len(self.seen["ram"]))),)

    def _tags(self, tokens):
        return (torch.zeros(1, 3),)

    def _text(self, tokens):
        return (tokens[..., None].float(),)

    def _encoder(self, image):
        shape = (2, 4, SIDE, SIDE)
        return torch.full(shape, POSTERIOR_MEAN), torch.ones(shape)

    def _control(self, **inputs):
        return (torch.zeros(2, 1), torch.ones(2, 1))

    def _unet(self, **inputs):
        return (self._eps,)

    def _decoder(self, latent):
        self.latent = latent
        return (torch.rand(1, 3, 4 * SIZE, 4 * SIZE),)


def run(recorder, seed=0):
    lr = torch.rand(1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    load_system("seesr-50", SIZE, reduced=True).upscale(recorder, lr, Noise(seed))
    return recorder.seen, lr


def test_the_times_are_those_of_the_scheduler(scheduler):
    assert TIMES[::-1].tolist() == scheduler.timesteps.tolist()
    assert (len(TIMES), TIMES[-1], TIMES[0]) == (50, 981, 1)


def test_control_and_unet_are_called_once_at_every_time(scheduler):
    seen, _ = run(Recorder())
    for network in ("control", "unet"):
        assert [i["time"].item() for i in seen[network]] == scheduler.timesteps.tolist()


def test_guidance_is_the_unconditional_plus_5_5_times_the_difference():
    eps = torch.stack([torch.full((4, 2, 2), 2.0), torch.full((4, 2, 2), 3.0)])
    assert torch.equal(guided(eps), torch.full((1, 4, 2, 2), 2.0 + 5.5 * (3.0 - 2.0)))


def test_the_whole_loop_is_the_scheduler_s_along_the_guided_noise(scheduler):
    unconditional, conditional = 0.5, 0.75
    recorder = Recorder(unconditional, conditional)
    seen, _ = run(recorder)
    eps = torch.full((1, 4, SIDE, SIDE), unconditional + 5.5 * (conditional - unconditional))
    generator = torch.Generator().manual_seed(0)
    for batch in (2, 1):  # of the posterior's draw, of the start's
        torch.randn((batch, 4, SIDE, SIDE), generator=generator)
    x = seen["unet"][0]["x"][:1]
    for time in scheduler.timesteps:
        x = scheduler.step(eps, time, x, generator=generator).prev_sample
    torch.testing.assert_close(recorder.latent * 0.18215, x, rtol=1e-4, atol=1e-4)


def test_the_first_half_of_the_batch_is_the_negative_prompt():
    seen, _ = run(Recorder())
    positive, negative = (inputs["tokens"] for inputs in seen["text"])
    assert (positive != 0).sum() > (negative != 0).sum()
    for network in ("control", "unet"):
        for inputs in seen[network]:
            assert torch.equal(inputs["text"][:1, :, 0], negative.float())
            assert torch.equal(inputs["text"][1:, :, 0], positive.float())


def test_both_halves_see_the_same_state_hint_and_image_tokens_of_the_second_ram_call():
    seen, lr = run(Recorder())
    for inputs in seen["control"]:
        for name in ("x", "hint", "image"):
            assert torch.equal(inputs[name][0], inputs[name][1])
        assert (inputs["image"] == 2.0).all()
    hint = seen["control"][0]["hint"]
    assert hint.shape == (2, 3, 4 * SIZE, 4 * SIZE)
    assert 0.0 <= hint.min() < hint.max() <= 1.0
    torch.testing.assert_close(seen["encoder"][0]["image"], 2.0 * hint - 1.0)
    assert hint.mean() == pytest.approx(lr.mean().item(), abs=1e-2)


def test_the_loop_starts_at_the_first_posterior_sample_noised_at_time_999(scheduler):
    seen, _ = run(Recorder(), seed=5)
    noise = Noise(5)
    x_lr = 0.18215 * (POSTERIOR_MEAN + noise.normal(2, 4, SIDE, SIDE)[:1])
    start = scheduler.add_noise(x_lr, noise.normal(1, 4, SIDE, SIDE), torch.tensor([999]))
    torch.testing.assert_close(seen["unet"][0]["x"], torch.cat([start] * 2))


def test_ram_is_shown_a_normalized_384_pixel_image():
    grey = ram.prepare(torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1).expand(1, 3, 64, 64))
    assert grey.shape == (1, 3, 384, 384)
    torch.testing.assert_close(grey, torch.zeros_like(grey), atol=1e-5, rtol=0.0)
