"""What the rows of Tables 5 and 6 are, and how they differ from the paper's."""

QUALITY = "the paper's figures are of trained weights; the weights here are synthetic, so that only cost is measured"

_PROCEDURE = (
    "Procedure",
    "Every row is the released DoSSR procedure with another sampler: Real-ESRGAN's restorer, text tower and condition "
    "encoder (each twice; the second result is discarded), the encoder of x_lr, ControlNet and UNet at each step, the "
    "decoder, the wavelet colour fix. Calls, parameters and GMAC are counted on the networks themselves.",
)

NOTES: dict[str, tuple[tuple[str, str], ...]] = {
    "samplers": (
        _PROCEDURE,
        (
            "DDIM",
            "Song et al. 2021, Eqs. 12 and 16 with η = 1, through diffusers. Times 999, 799, 599, 399, 199; x0 is returned.",
        ),
        (
            "EDM",
            "Karras et al. 2022, Algorithm 2 without Heun's correction, so that five steps are five calls. Karras's σ "
            "(ρ = 7) come from diffusers; the step is ours, because diffusers adds the churn after the network has seen "
            "the state. S_churn 40, S_min 0.05, S_noise 1.003 are EDM's for ImageNet-64; S_max is 10, because the "
            "network knows no σ above 14.6. The paper states none of them.",
        ),
        (
            "DPM-Solver++-3",
            "Lu et al. 2022, the multistep ODE solver of order 3, through diffusers. Times as DDIM; the orders of the five "
            "steps are 1, 2, 3, 2, 1.",
        ),
        (
            "DoS SDE-Solver",
            "Orders 1, 2 and 3 of the paper (Eqs. 42, 44, 47) as released, from x_lr with noise at T/2.",
        ),
    ),
    "formulations": (
        _PROCEDURE,
        (
            "ColdDiff-5",
            "Bansal et al. 2022. State: D(x0, s), s Gaussian blurs of the latent, one after the other. Target: x0, L1. "
            "Sampler: Algorithm 2, x ← x − D(x̂0, s) + D(x̂0, s′), from x_lr. The paper gives no blur; this is "
            "ColdDiff's for CIFAR-10: 50 levels of 11 × 11 kernels with σ = 0.35 to 0.84.",
        ),
        (
            "ResShift-5",
            "Yue et al. 2023. State: x0 + η (x_lr − x0) + κ √η ε, κ = 2 (Eq. 2). Target: x0, L2. Sampler: the "
            "posterior with five levels of η.",
        ),
        (
            "FlowIE-1",
            "Zhu et al. 2024 after Liu et al. 2022. State: t x_lr + (1 − t) x0. Target: x0 − x_lr, L2. Sampler: one Euler "
            "step from x_lr. FlowIE itself starts from noise; the paper replaces it by x_lr. Its figures are those of the "
            "paper's retrained FlowIE*; the published FlowIE has 61.63, 0.3611, 56.51, 0.3284.",
        ),
        (
            "DoSSR",
            "State: α (η x_lr + (1 − η) x0) + σ ε (Eqs. 1, 2). Target: x0 by the DDPM inversion, L1, which is "
            "ε + α η (x_lr − x0) / σ for the network's output. Sampler: order 3, as released.",
        ),
    ),
}
"""Names and texts by table."""
