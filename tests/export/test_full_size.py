"""The official sizes, 1717.6 million parameters: ``make full`` prints what it measured."""

import os
import sys
import time

import click
import numpy as np
import pytest
import torch

from dossr.export.checkpoint.config import OFFICIAL
from dossr.export.checkpoint.layout import layout
from dossr.export.checkpoint.synthetic import synthetic_state

pytestmark = pytest.mark.full

GIB = 2**30


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "full.ckpt"
    torch.save(synthetic_state(layout(OFFICIAL), shared_encoder=True), path)
    return path


def _export(checkpoint, out, *options):
    """Run dossr-export in its own process; return its seconds and its peak memory in bytes."""
    command = [sys.executable, "-m", "dossr.export.cli", str(checkpoint), "-o", str(out), *options]
    began = time.perf_counter()
    _, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.executable, command), 0)
    assert status == 0
    return time.perf_counter() - began, usage.ru_maxrss * 1024


@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-4), ("fp16", 2e-2)])
def test_the_full_size_bundle_gives_the_references_image(
    checkpoint, golden, golden_errors, precision, bound
):
    out = checkpoint.with_name(precision)
    seconds, peak = _export(checkpoint, out, *(["--fp16"] if precision == "fp16" else []))
    size = sum(file.stat().st_size for file in out.iterdir())
    data = np.load(golden / "full_o3_s5_wavelet.npz")
    worst, _, _ = golden_errors(out, data, 3, "wavelet")
    click.echo(
        f"\n{precision}: export {seconds:.0f} s, peak {peak / GIB:.1f} GiB, bundle {size / 1e9:.2f} GB; "
        + ", ".join(f"{name} {error:.1e}" for name, error in worst.items())
    )
    assert peak <= 16 * GIB
    assert worst["latent"] <= bound
    if precision == "fp32":
        assert max(worst.values()) <= bound
