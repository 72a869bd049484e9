"""The official sizes, 1717.6 million parameters: ``make full`` prints what it measured."""

import json
import os
import shutil
import sys
import time
from dataclasses import replace

import click
import numpy as np
import onnx
import pytest
import torch

from dossr.export.checkpoint.config import OFFICIAL
from dossr.export.checkpoint.layout import layout
from dossr.export.checkpoint.synthetic import synthetic_state
from dossr.runtime.bundle import TARGETS, open_bundle
from dossr.runtime.errors import EngineError

pytestmark = pytest.mark.full

GIB = 2**30
GPUS = ("sm86", "sm89", "sm120")
PRECISIONS = ("fp32", "fp16")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    path = tmp_path_factory.mktemp("full") / "full.ckpt"
    torch.save(synthetic_state(layout(OFFICIAL), shared_encoder=True), path)
    return path


@pytest.fixture(scope="module")
def exported(checkpoint):
    """exported(precision) exports once; returns the bundle's folder, seconds and peak memory."""
    done = {}

    def export(precision):
        if precision not in done:
            out = checkpoint.with_name(precision)
            done[precision] = (
                out,
                *_export(checkpoint, out, *(["--fp16"] if precision == "fp16" else [])),
            )
        return done[precision]

    return export


def _export(checkpoint, out, *options):
    """Run dossr-export in its own process; return its seconds and its peak memory in bytes."""
    command = [sys.executable, "-m", "dossr.export.cli", str(checkpoint), "-o", str(out), *options]
    began = time.perf_counter()
    _, status, usage = os.wait4(os.spawnv(os.P_NOWAIT, sys.executable, command), 0)
    assert status == 0
    return time.perf_counter() - began, usage.ru_maxrss * 1024


@pytest.mark.parametrize("precision", PRECISIONS)
def test_an_export_fits_a_workstation_and_holds_its_weights_once(exported, precision):
    """The export itself compares every graph with torch, up to the size of a tile."""
    out, seconds, peak = exported(precision)
    manifest = open_bundle(out).manifest
    size = sum(record.size for record in manifest.files.values())
    graphs = sum(r.size for name, r in manifest.files.items() if name.endswith(".onnx"))
    worst = {}
    for row in manifest.verification:
        key = f"{row['target']} {row['output']}"
        worst[key] = max(row["error"], worst.get(key, 0.0))
    click.echo(
        f"\n{precision}: export {seconds:.0f} s, peak {peak / GIB:.1f} GiB, bundle {size / 1e9:.2f} GB, "
        f"of which {graphs / 1e6:.1f} MB are the graphs of {', '.join(manifest.targets)}\n"
        + "\n".join(f"  {key}: {error:.1e}" for key, error in worst.items())
    )
    assert peak <= 16 * GIB
    assert size <= (2.8e9 if precision == "fp16" else 5.6e9)
    for target in TARGETS:
        assert worst[f"{target} eps"] <= (2e-3 if precision == "fp16" else 1e-4)


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_graphs_of_every_target_give_the_references_image(
    exported, golden, golden_errors, precision, target
):
    out, *_ = exported(precision)
    data = np.load(golden / "full_o3_s5_wavelet.npz")
    worst, _, image = golden_errors(out, data, 3, "wavelet", target=target)
    psnr = -10.0 * np.log10(np.mean((image - data["image"]) ** 2))
    click.echo(
        f"\n{precision} {target}: {psnr:.1f} dB; "
        + ", ".join(f"{name} {error:.1e}" for name, error in worst.items())
    )
    assert psnr >= 45.0
    assert worst["latent"] <= (2e-2 if precision == "fp16" else 1e-4)


@pytest.mark.parametrize("sides", [None, (64, 128, 192)])
@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_stage_compiles_for_three_generations_of_gpus(exported, precision, sides):
    """The real compiler, without a GPU; a refusal is one line and fails for float16 only."""
    from dossr.runtime.engines.tensorrt.aot import build_ahead
    from dossr.runtime.engines.tensorrt.options import BuildOptions

    bundle = open_bundle(exported(precision)[0])
    shutil.rmtree(bundle.folder / "engines", ignore_errors=True)
    click.echo(f"\n{precision}, {', '.join(GPUS)}, sides {sides or 128}:")
    refused = {}
    for stage, record in bundle.manifest.stages.items():
        alone = replace(bundle, manifest=replace(bundle.manifest, stages={stage: record}))
        graph = onnx.load(bundle.path(stage, "tensorrt"), load_external_data=False).graph
        attentions = sum(node.op_type == "Attention" for node in graph.node)
        try:
            (plan,) = build_ahead(alone, GPUS, BuildOptions(sides=sides))
        except EngineError as error:
            refused[stage] = str(error)
            click.echo(f"| {stage} | refused: {error} |")
            continue
        notes = json.loads(plan.with_suffix(".json").read_text())["notes"]
        click.echo(
            f"| {stage} | {attentions} | {notes['seconds']:.0f} s | {plan.stat().st_size / 1e6:.0f} MB "
            f"| {notes['activation_memory'] / 1e6:.0f} MB |"
        )
        plan.unlink()  # 2.5 GB
    if precision == "fp16":
        assert refused == {}
