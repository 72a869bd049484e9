"""Exports a checkpoint to a bundle, stage by stage, so that memory holds one network at a time."""

import gc
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from .. import __version__
from ..runtime.bundle import (
    GOLDEN,
    MANIFEST,
    TARGETS,
    FileRecord,
    GoldenCase,
    Manifest,
    Precision,
    StageRecord,
    Target,
    sha256,
)
from ..runtime.bundle.golden import largest_image, write_golden
from ..runtime.files import whole_folder
from ..runtime.options import TILE
from ..runtime.tensors import TensorSpec
from ..runtime.terminal import Progress, Silent
from .activations import count_activations
from .checkpoint.config import TEXT, ModelConfig, TextConfig
from .checkpoint.reader import Checkpoint, read_checkpoint
from .graph.lower import lower
from .graph.trace import trace
from .graph.weights import weights_size, write_graphs
from .networks.text import DEFAULT_PROMPT, embed_prompt, tokenize
from .probe_inputs import ProbeInputs, example, reference
from .stages import Stage, stages
from .verify import BOUNDS, Row, check_installed, compare

DEFAULT_STEPS = (1, 3, 5, 7)

Inspect = Callable[[str, Mapping[Target, Path], GoldenCase], None]
"""Called with a stage's name, its graphs and its smallest golden vectors."""


@dataclass(frozen=True)
class Options:
    """How a checkpoint is exported."""

    precision: Precision
    targets: tuple[Target, ...]
    prompt: str
    steps: tuple[int, ...]
    tile: int
    verify: bool
    inspect: Inspect | None


def export_bundle(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    ema: bool = False,
    fp16: bool = False,
    targets: Sequence[Target] = TARGETS,
    steps: Sequence[int] = DEFAULT_STEPS,
    tile: int = TILE,
    prompt: str = DEFAULT_PROMPT,
    tokenizer: str | os.PathLike[str] | None = None,
    verify: bool = True,
    overwrite: bool = False,
    inspect: Inspect | None = None,
    progress: Progress | None = None,
) -> Manifest:
    """Export a DoSSR checkpoint to the bundle folder ``out`` and return its manifest.

    ``config``: the official YAML file; without it, the configuration is derived from the tensors. ``ema``:
    take the moving average of the weights. ``fp16``: use float16 weights, and on GPUs float16 activations
    (see export/graph/fp16.py). ``targets``: what graphs are written for; all share the weights. ``steps``: step counts at whose
    times the denoiser is verified. ``tile``: LR side of the largest golden vectors, against which
    engines of fixed size are checked. ``prompt``: the text to fold in; any other than the default and
    '' needs ``tokenizer``, a folder with a CLIP tokenizer. ``verify``: compare every graph in ONNX
    Runtime with torch. ``inspect``: called with the graphs of each stage before they are verified.

    Raise CheckpointError, Fp16Error, VerificationError (an error above the bound), ValueError,
    FileExistsError (``out`` exists and ``overwrite`` is not set), or ModuleNotFoundError (``verify`` without
    ONNX Runtime). After any error, ``out`` is unchanged.
    """
    out, progress = Path(out), progress or Silent()
    if verify:
        check_installed()
    tokens = tokenize(prompt, TextConfig.positions, Path(tokenizer) if tokenizer else None)
    options = Options(
        "fp16" if fp16 else "fp32", _chosen(targets), prompt, tuple(steps), tile, verify, inspect
    )
    with _replacing(out, overwrite) as folder:
        source = _read(Path(checkpoint), Path(config) if config else None, ema, progress)
        _check_tile(tile, source.config.size_multiple)
        embedded = embed_prompt(source.part(TEXT), source.config.text, tokens)
        manifest = _export(source, embedded, folder, options, progress)
        manifest.write(folder)
    return manifest


def _chosen(targets: Sequence[Target]) -> tuple[Target, ...]:
    """Return the targets in their usual order; raise ValueError if one is unknown or none is given."""
    unknown = [target for target in targets if target not in TARGETS]
    if unknown or not targets:
        got = unknown[0] if unknown else "none"
        raise ValueError(f"target must be {', '.join(TARGETS)}, got {got}")
    return tuple(target for target in TARGETS if target in targets)


def _read(path: Path, config: Path | None, ema: bool, progress: Progress) -> Checkpoint:
    """Read a checkpoint; print which weights were taken, and where numbers of heads are inferred."""
    with progress.phase(f"reading {path.name}", _size(path)) as advance:
        source = read_checkpoint(path, config, advance, ema=ema)
    progress.note(f"weights of {path.name}: {source.weights}")
    if source.heads_inferred:
        progress.note(
            f"numbers of attention heads are inferred: {source.config.unet.heads} in the UNet, "
            f"{source.config.text.heads} in the text tower; give --config if they differ"
        )
    return source


def _export(
    source: Checkpoint,
    embedded: torch.Tensor,
    folder: Path,
    options: Options,
    progress: Progress,
) -> Manifest:
    """Export, verify and hash every stage."""
    stage_records: dict[str, StageRecord] = {}
    golden: dict[str, list[GoldenCase]] = {}
    rows: list[Row] = []
    probes = ProbeInputs(source.config, options.steps, options.tile)
    for stage in stages(source.shares_encoder):
        network, golden[stage.name] = _run_torch(stage, source, embedded, probes, progress)
        record = _write(stage, network, source.config, folder, options, progress)
        activations = count_activations(stage, network, source.config)
        stage_records[stage.name] = record = replace(record, activations=activations)
        del network
        gc.collect()
        if options.inspect:
            graphs = {target: folder / name for target, name in record.graphs.items()}
            options.inspect(stage.name, graphs, golden[stage.name][0])
        if options.verify:
            rows += _verify(stage, record, folder, golden[stage.name], options, progress)
    golden_records = write_golden(folder / GOLDEN, golden)
    return Manifest(
        toolkit_version=__version__,
        checkpoint=source.path.name,
        checkpoint_sha256=source.sha256,
        precision=options.precision,
        prompt=options.prompt,
        latent_scale=source.config.latent_scale,
        latent_channels=source.config.vae.latent_channels,
        vae_factor=source.config.vae.factor,
        size_multiple=source.config.size_multiple,
        schedule=source.config.levels,
        model=source.config.as_dict(),
        stages=stage_records,
        files=_records(folder, progress),
        golden=golden_records,
        verification=[row.as_dict() for row in rows],
    )


def _records(folder: Path, progress: Progress) -> dict[str, FileRecord]:
    """Return the size and SHA-256 of every file."""
    paths = sorted(folder.iterdir())
    with progress.phase("hashing the bundle", sum(p.stat().st_size for p in paths)) as advance:
        return {p.name: FileRecord(p.stat().st_size, sha256(p, advance)) for p in paths}


def _run_torch(
    stage: Stage,
    source: Checkpoint,
    embedded: torch.Tensor,
    probes: ProbeInputs,
    progress: Progress,
) -> tuple[nn.Module, list[GoldenCase]]:
    """Return the network and its outputs for the probe inputs."""
    runs = probes.runs(stage)
    with progress.phase(f"{stage.name}: running torch", len(runs)) as advance:
        network = stage.build(source, embedded)
        cases = []
        for run in runs:
            cases.append(reference(stage, network, run.inputs, run.time))
            advance(1)
    probes.follow(runs, cases)
    return network, cases


def _write(
    stage: Stage,
    network: nn.Module,
    config: ModelConfig,
    folder: Path,
    options: Options,
    progress: Progress,
) -> StageRecord:
    """Trace a network, lower its graph for every target, write the graphs and their weights."""
    with progress.phase(f"{stage.name}: tracing"):
        model = trace(stage, network, example(stage, config))
    with progress.phase(f"{stage.name}: lowering", len(options.targets)) as advance:
        paths = {target: folder / f"{stage.name}.{target}.onnx" for target in options.targets}
        graphs = {}
        for target, path in paths.items():
            graphs[path] = lower(model, target, options.precision)
            advance(1)
    weights = folder / f"{stage.name}.weights"
    with progress.phase(f"{stage.name}: writing", weights_size(graphs)) as advance:
        files = write_graphs(graphs, weights, advance)
    return StageRecord(
        {target: files[path].name for target, path in paths.items()},
        _specs(model.graph.inputs),
        _specs(model.graph.outputs),
        weights.name,
    )


def _verify(
    stage: Stage,
    record: StageRecord,
    folder: Path,
    cases: Sequence[GoldenCase],
    options: Options,
    progress: Progress,
) -> list[Row]:
    """Compare the graphs of a stage with torch; those for other targets than the CPU on small images only."""
    rows: list[Row] = []
    large = largest_image(cases)
    small = [case for case in cases if case not in large] or list(cases)
    total = sum(len(cases if target == "cpu" else small) for target in record.graphs)
    with progress.phase(f"{stage.name}: verifying", total) as advance:
        for target, name in record.graphs.items():
            chosen, bound = cases if target == "cpu" else small, BOUNDS[options.precision]
            rows += compare(stage.name, target, folder / name, chosen, bound, advance)
    return rows


def _check_tile(tile: int, multiple: int) -> None:
    if tile < multiple or tile % multiple:
        raise ValueError(f"tile must be a multiple of {multiple} above 0, got {tile}")


def _specs(values: Sequence[ir.Value]) -> tuple[TensorSpec, ...]:
    """Return inputs or outputs as the manifest records them; all are float32."""
    return tuple(
        TensorSpec(
            str(value.name),
            "float32",
            tuple(axis if isinstance(axis, int) else str(axis) for axis in value.shape or ()),
        )
        for value in values
    )


@contextmanager
def _replacing(out: Path, overwrite: bool) -> Iterator[Path]:
    """Yield a folder to fill; it replaces ``out`` only when the block succeeds."""
    _check_replaceable(out, overwrite)
    with whole_folder(out) as folder:
        yield folder
        _check_replaceable(out, overwrite)  # again: it may have been created meanwhile


def _check_replaceable(out: Path, overwrite: bool) -> None:
    if out.exists() and not overwrite:
        raise FileExistsError(f"{out} exists; choose another folder or pass --overwrite")
    is_empty = out.is_dir() and not any(out.iterdir())
    if out.exists() and not is_empty and not (out / MANIFEST).is_file():
        raise FileExistsError(
            f"{out} must be a bundle to be overwritten, and it is not; choose another folder"
        )


def _size(path: Path) -> int | None:
    return path.stat().st_size if path.is_file() else None
