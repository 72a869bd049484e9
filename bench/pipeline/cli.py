"""``dossr-bench pipeline``: DoSSR as released in torch, compared with its exported bundles."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...runtime.bundle import Manifest, open_bundle
from ...runtime.errors import BundleError
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..measure.calls import VARIANTS, least_warmup, runs_on_host
from ..sides import Side, device_option, find_sides, precision_option

if TYPE_CHECKING:
    from ...export.checkpoint.reader import Checkpoint
    from .comparison import Comparison
    from .measuring import Settings

_REFERENCE = "torch"
_TORCH = tuple(name for name, variant in VARIANTS.items() if not variant.is_exported)
_COUNTS = {"cpu": (1, 3), "gpu": (5, 50)}
"""Warm-up images and timed images. On a GPU the second image of a size records CUDA graphs."""


@click.command("pipeline", cls=Command)
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-b", "--bundle", "bundles", required=True, multiple=True,
              type=click.Path(exists=True, path_type=Path),
              help="Bundle that dossr-export made from CHECKPOINT; may be repeated.")  # fmt: skip
@device_option
@precision_option
@click.option("--torch", "variants", type=click.Choice(_TORCH), multiple=True, default=(_REFERENCE,),
              show_default=True, help=f"Variant of the released procedure; may be repeated. {_REFERENCE} "
              "(eager, fp32, TF32 off) always runs first.")  # fmt: skip
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="YAML",
              help="Official YAML file of the model, as given to dossr-export.")  # fmt: skip
@click.option("--size", type=click.IntRange(16), default=128, show_default=True,
              help="Side of the LR image; a multiple of the model's size multiple.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True,
              help="Number of denoising steps.")  # fmt: skip
@click.option("--warmup", type=click.IntRange(0),
              help="Untimed images after the first; at least 3 on a GPU, where the second image "
              "records CUDA graphs.  [default: 1; on a GPU 5]")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1),
              help="Timed images; the same number of additional images is timed by stage.  "
              "[default: 3; on a GPU 50]")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and their provenance to this file.")  # fmt: skip
def pipeline(
    checkpoint: Path,
    bundles: tuple[Path, ...],
    variants: tuple[str, ...],
    devices: tuple[str, ...],
    precisions: tuple[str, ...],
    config: Path | None,
    file: Path | None,
    **settings: Any,
) -> None:
    """Compare DoSSR as released with its exported bundles: same weights, same noise, one run.

    The released script runs in torch with all its passes, including those whose results it
    discards; on cuda if the bundles' devices are GPUs of NVIDIA, else on the CPU. Every bundle runs
    on every --device in every --precision. Prints latency (of an image and by stage), cold and warm
    starts, memory, GMACs and image differences.

    \b
    Examples:
      python -m dossr.export.checkpoint.synthetic full.ckpt
      dossr-export full.ckpt -o bundle
      dossr-bench pipeline full.ckpt -b bundle
      dossr-bench pipeline full.ckpt -b bundle --torch torch-bf16 --torch torch-compile-bf16
      dossr-bench pipeline full.ckpt -b bundle -b bundle16 --device tensorrt --torch torch-fp16

    Exit code: 0 done, 1 some contenders failed (each says why), 2 wrong use.
    """
    from ..measure.provenance import save
    from .report import comparison_text

    sides = find_sides(devices, precisions)
    chosen = _settings(_torch_device(devices), **settings)
    names = tuple(dict.fromkeys((_REFERENCE, *variants)))
    _check_torch(names, chosen.torch_device)
    make_folders(file and file.parent)
    manifests, source = _read(bundles, checkpoint, config, chosen.size)
    found = _compared(names, manifests, sides, source, config, chosen)
    click.echo(comparison_text(found))
    if file is not None:
        save(found.as_dict(), file)
    if any(contender.failed for contender in found.contenders):
        sys.exit(1)


def _read(
    bundles: Sequence[Path], checkpoint: Path, config: Path | None, size: int
) -> "tuple[dict[Path, Manifest], Checkpoint]":
    """Read bundles and their checkpoint. Raises UsageError where one is damaged or does not fit."""
    from ...export.checkpoint.reader import read_checkpoint
    from ...export.errors import CheckpointError

    try:
        manifests = {path: open_bundle(path).manifest for path in bundles}
        source = read_checkpoint(checkpoint, config)
    except (BundleError, CheckpointError) as error:
        raise click.UsageError(str(error)) from error
    for path, manifest in manifests.items():
        _check_bundle(path, manifest, source, size)
    return manifests, source


def _torch_device(devices: Sequence[str]) -> str:
    """Return the device of torch. Raises UsageError where there is not one for all contenders."""
    on_gpu = [device for device in devices if not runs_on_host(device)]
    if on_gpu and len(on_gpu) < len(devices):
        host = next(device for device in devices if runs_on_host(device))
        raise click.UsageError(
            f"--device must be all of CPUs or all of NVIDIA's GPUs, because torch runs on one, got "
            f"{host} and {on_gpu[0]}; run the command once for each"
        )
    return "cuda" if on_gpu else "cpu"


def _settings(
    device: str, size: int, steps: int, warmup: int | None, repetitions: int | None
) -> "Settings":
    """Fill in the defaults of the device. Raises UsageError for a warm-up too short for a GPU."""
    from .measuring import Settings

    usual = _COUNTS["cpu" if device == "cpu" else "gpu"]
    warmup = usual[0] if warmup is None else warmup
    if warmup < (least := least_warmup(device)):
        raise click.UsageError(
            f"--warmup must be {least} or more on a GPU, where the second image records CUDA "
            f"graphs, got {warmup}"
        )
    return Settings(device, size, steps, warmup, usual[1] if repetitions is None else repetitions)


def _compared(
    names: Sequence[str],
    manifests: dict[Path, Manifest],
    sides: Sequence[Side],
    source: "Checkpoint",
    config: Path | None,
    settings: "Settings",
) -> "Comparison":
    from .comparison import Comparison
    from .measuring import (
        bundle_contenders,
        compare,
        matrix_products,
        precisions_of,
        torch_contenders,
    )

    progress = Terminal()
    with progress.phase("counting"):
        plan = [
            *torch_contenders(names, source, config, settings),
            *bundle_contenders(manifests, sides, source, settings),
        ]
    contenders = tuple(compare(plan, progress))
    rates = matrix_products(settings.torch_device, precisions_of(contenders), progress)
    return Comparison(
        size=settings.size,
        steps=settings.steps,
        warmup=settings.warmup,
        repetitions=settings.repetitions,
        contenders=contenders,
        matmul_tmac_s=rates,
    )


def _check_torch(names: Sequence[str], device: str) -> None:
    """Raise UsageError for a precision that the device never supports."""
    from ..measure.backends import missing

    for name in names if device == "cpu" else ():
        if reason := missing(VARIANTS[name], device):
            raise click.UsageError(reason)


def _check_bundle(path: Path, manifest: Manifest, source: "Checkpoint", size: int) -> None:
    if size % manifest.size_multiple:
        raise click.UsageError(
            f"--size must be a multiple of {manifest.size_multiple}, as the released script requires, "
            f"got {size}"
        )
    if source.sha256 != manifest.checkpoint_sha256:
        raise click.UsageError(
            f"{path} must be the export of {source.path}, got the export of another file "
            f"({manifest.checkpoint}); export the checkpoint again"
        )
