"""Diffusion processes on one network: DDPM, DoSSR, ColdDiff, ResShift and rectified flow, for training."""
