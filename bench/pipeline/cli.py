"""``dossr-bench pipeline``: DoSSR as released, in torch, against its exported bundles."""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from ...runtime.bundle import CONDITION, Manifest, open_bundle
from ...runtime.engines.device import DEVICES
from ...runtime.errors import BundleError
from ...runtime.files import write_whole
from ...runtime.terminal import Command, Terminal
from ..folders import make_folders
from ..measure.process import Job, JobError, run
from ..measure.variants import VARIANTS
from ..metrics import psnr
from .comparison import Comparison, Contender

if TYPE_CHECKING:
    from ...export.checkpoint.reader import Checkpoint

_REFERENCE = "torch"
_TORCH = tuple(name for name, variant in VARIANTS.items() if variant.backend != "onnx")
_COUNTS = {"cpu": (1, 3), "gpu": (5, 50)}
"""Images of the warm-up and counted ones. On a GPU the second of a size records CUDA graphs, and
those after it replay them."""

_LEAST_WARMUP = 3  # on a GPU

Plan = Sequence[tuple[Contender, Job]]


def compare(plan: Plan, progress: Terminal) -> Iterator[Contender]:
    """Each contender in a process of its own, one after the other; one that fails has its reason in it.

    The images are held against that of the first contender that runs.
    """
    from ..measure.backends import missing

    base = None
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
        image = Path(folder) / "image.npy"
        for contender, job in plan:
            try:
                if reason := missing(VARIANTS[job.variant], job.device):
                    raise JobError(reason)
                job = replace(job, files={**job.files, "image": str(image)})
                with progress.phase(
                    contender.name, 2 + job.warmup + 2 * job.repetitions
                ) as advance:
                    contender = replace(contender, **run(job, advance))
            except JobError as error:
                yield replace(contender, failed=str(error))
                continue
            pixels = np.load(image).astype(np.int64)
            if base is None:
                base = pixels
                yield contender
                continue
            largest = int(np.abs(pixels - base).max())
            yield replace(contender, largest=largest, psnr=psnr(pixels, base) if largest else None)


def matrix_products(device: str, precisions: set[str], progress: Terminal) -> dict[str, float]:
    """1e12 multiply-accumulates per second by precision; empty, with a note, where this fails."""
    job = Job("machine", device=device, precisions=tuple(sorted(precisions)))
    try:
        with progress.phase("matrix products", len(precisions)) as advance:
            return dict(run(job, advance)["tmac_s"])
    except JobError as error:
        progress.note(f"no matrix products: {error}")
        return {}


@click.command("pipeline", cls=Command)
@click.argument("checkpoint", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("-b", "--bundle", "bundles", required=True, multiple=True,
              type=click.Path(exists=True, path_type=Path),
              help="Bundle that dossr-export made of CHECKPOINT; may be repeated.")  # fmt: skip
@click.option("--device", type=click.Choice(DEVICES), default="cpu", show_default=True,
              help="Where the bundles run; torch runs on cuda unless this is cpu.")  # fmt: skip
@click.option("--torch", "variants", type=click.Choice(_TORCH), multiple=True, default=(_REFERENCE,),
              show_default=True, help=f"How the released procedure runs; may be repeated. {_REFERENCE} "
              "(eager, fp32, TF32 off) always does, as the first.")  # fmt: skip
@click.option("--config", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="YAML",
              help="The model's official YAML file, as it was given to dossr-export.")  # fmt: skip
@click.option("--size", type=click.IntRange(16), default=128, show_default=True,
              help="Side of the LR image; a multiple of the model's size multiple.")  # fmt: skip
@click.option("--steps", type=click.IntRange(1, 499), default=5, show_default=True)
@click.option("--warmup", type=click.IntRange(0),
              help="Images after the first that are not counted; at least 3 on a GPU, where the second "
              "records CUDA graphs.  [default: 1; on a GPU 5]")  # fmt: skip
@click.option("--repetitions", type=click.IntRange(1),
              help="Images that are, and as many more that are timed by stage.  "
              "[default: 3; on a GPU 50]")  # fmt: skip
@click.option("--json", "file", type=click.Path(dir_okay=False, path_type=Path),
              help="Also write the figures and where they come from to this file.")  # fmt: skip
def pipeline(
    checkpoint: Path,
    bundles: tuple[Path, ...],
    device: str,
    variants: tuple[str, ...],
    config: Path | None,
    size: int,
    steps: int,
    warmup: int | None,
    repetitions: int | None,
    file: Path | None,
) -> None:
    """Compare DoSSR as released (torch, every pass that the script makes and throws away) with its
    exported bundles: same weights, same noise, one run. Prints latency, whole and by stage, memory,
    arithmetic and how far the images are apart.

    \b
    Examples:
      python -m dossr.export.checkpoint.synthetic full.ckpt
      dossr-export full.ckpt -o bundle
      dossr-bench pipeline full.ckpt -b bundle
      dossr-bench pipeline full.ckpt -b bundle -b bundle16 --device tensorrt --torch torch-fp16

    Exit code: 0 done, 1 some contenders failed (each says why), 2 wrong use.
    """
    from ...export.checkpoint.reader import read_checkpoint
    from ...export.errors import CheckpointError
    from .report import comparison_text

    names = tuple(dict.fromkeys((_REFERENCE, *variants)))
    _check_torch(names, device)
    make_folders(file and file.parent)
    try:
        manifests = {path: open_bundle(path).manifest for path in bundles}
        source = read_checkpoint(checkpoint, config)
    except (BundleError, CheckpointError) as error:
        raise click.UsageError(str(error)) from error
    for path, manifest in manifests.items():
        _check_bundle(path, manifest, source, size)
    usual = _COUNTS["cpu" if device == "cpu" else "gpu"]
    job = Job(
        "reference",
        size=size,
        steps=steps,
        warmup=usual[0] if warmup is None else warmup,
        repetitions=usual[1] if repetitions is None else repetitions,
        device=device,
        files={"checkpoint": str(checkpoint), "config": str(config or "")},
    )
    if device != "cpu" and job.warmup < _LEAST_WARMUP:
        raise click.UsageError(
            f"--warmup must be {_LEAST_WARMUP} or more on a GPU, where the second image records CUDA "
            f"graphs, got {job.warmup}"
        )
    progress = Terminal()
    with progress.phase("counting"):
        plan = [*_torch_contenders(names, source, job), *_bundle_contenders(manifests, source, job)]
    rates = matrix_products(device, {contender.precision for contender, _ in plan}, progress)
    contenders = tuple(compare(plan, progress))
    found = Comparison(size, steps, job.warmup, job.repetitions, contenders, rates)
    click.echo(comparison_text(found))
    if file is not None:
        from ..measure.provenance import provenance

        document = {"provenance": provenance(), **found.as_dict()}
        write_whole(file, f"{json.dumps(document, indent=1)}\n".encode())
    if any(contender.failed for contender in contenders):
        sys.exit(1)


def _check_torch(names: Sequence[str], device: str) -> None:
    """Raise UsageError for a precision that the device never has."""
    from ..measure.backends import missing

    for name in names if device == "cpu" else ():
        if reason := missing(VARIANTS[name], device):
            raise click.UsageError(reason)


def _check_bundle(path: Path, manifest: Manifest, source: "Checkpoint", size: int) -> None:
    if size % manifest.size_multiple:
        raise click.UsageError(
            f"--size must be a multiple of {manifest.size_multiple}, which the released script needs, "
            f"got {size}"
        )
    if source.sha256 != manifest.checkpoint_sha256:
        raise click.UsageError(
            f"{path} must be the export of {source.path}, and it is of another file "
            f"({manifest.checkpoint}); export the checkpoint again"
        )


def _torch_contenders(
    names: Sequence[str], source: "Checkpoint", job: Job
) -> Iterator[tuple[Contender, Job]]:
    from ..measure.count import count_image
    from ..systems.dossr import networks

    device = "cpu" if job.device == "cpu" else "cuda"
    gmac = count_image(networks(source.config, job.steps, job.size))
    need = source.path.stat().st_size
    for name in names:
        contender = Contender(name, "torch", device, VARIANTS[name].precision, gmac)
        yield contender, replace(job, device=device, variant=name, need=need)


def _bundle_contenders(
    manifests: dict[Path, Manifest], source: "Checkpoint", job: Job
) -> Iterator[tuple[Contender, Job]]:
    from ..measure.count import count_image
    from ..systems.dossr import bundled_networks

    has_condition = any(CONDITION in manifest.stages for manifest in manifests.values())
    gmac = count_image(bundled_networks(source.config, job.steps, job.size, has_condition))
    for path, manifest in manifests.items():
        contender = Contender(str(path), "bundle", job.device, manifest.precision, gmac)
        files, need = {"bundle": str(path)}, sum(file.size for file in manifest.files.values())
        yield contender, replace(job, kind="bundle", variant="onnx", files=files, need=need)
