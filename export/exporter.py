"""Exports a checkpoint to a bundle, stage by stage, so that memory holds one network at a time."""

import gc
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import onnx_ir as ir
import torch
from torch import nn

from .. import __version__
from ..runtime.bundle import MANIFEST, FileRecord, Manifest, Precision, StageRecord, sha256
from ..runtime.files import whole_folder
from ..runtime.tensors import TensorSpec
from ..runtime.terminal import Progress, Silent
from .checkpoint.config import TEXT, ModelConfig, TextConfig
from .checkpoint.reader import Checkpoint, read_checkpoint
from .graph.fp16 import to_fp16
from .graph.trace import OPSETS, trace
from .networks.text import DEFAULT_PROMPT, embed_prompt, tokenize
from .probe_inputs import ProbeInputs, example
from .stages import Stage, stages
from .verify import BOUNDS, Case, Row, compare, grid, reference

DEFAULT_STEPS = (1, 3, 5, 7)
DEFAULT_OPSET = 23


@dataclass(frozen=True)
class Options:
    """How a checkpoint is exported."""

    precision: Precision
    opset: int
    prompt: str
    steps: tuple[int, ...]
    verify: bool


def export_bundle(
    checkpoint: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    config: str | os.PathLike[str] | None = None,
    fp16: bool = False,
    opset: int = DEFAULT_OPSET,
    steps: Sequence[int] = DEFAULT_STEPS,
    prompt: str = DEFAULT_PROMPT,
    tokenizer: str | os.PathLike[str] | None = None,
    verify: bool = True,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Manifest:
    """Export a DoSSR checkpoint to the bundle folder ``out`` and return its manifest.

    ``config``: the official YAML file; without it, the configuration is derived from the tensors.
    ``fp16``: use float16 weights and activations (see export/graph/fp16.py). ``opset``: 23 or 18.
    ``steps``: step counts at whose times the denoiser is verified. ``prompt``: the text to fold in;
    any other than the default and '' needs ``tokenizer``, a folder with a CLIP tokenizer.
    ``verify``: compare every stage in ONNX Runtime with torch.

    Raise CheckpointError, Fp16Error, VerificationError (an error above the bound), ValueError (a
    wrong argument) or FileExistsError (``out`` exists and ``overwrite`` is not set). After any
    error, ``out`` is unchanged.
    """
    out, progress = Path(out), progress or Silent()
    if opset not in OPSETS:
        raise ValueError(f"opset must be {' or '.join(map(str, OPSETS))}, got {opset}")
    tokens = tokenize(prompt, TextConfig.positions, Path(tokenizer) if tokenizer else None)
    options = Options("fp16" if fp16 else "fp32", opset, prompt, tuple(steps), verify)
    with _replacing(out, overwrite) as folder:
        source = _read(Path(checkpoint), Path(config) if config else None, progress)
        embedded = embed_prompt(source.part(TEXT), source.config.text, tokens)
        manifest = _export(source, embedded, folder, options, progress)
        manifest.write(folder)
    return manifest


def _read(path: Path, config: Path | None, progress: Progress) -> Checkpoint:
    """Read a checkpoint, and print a note where numbers of heads are inferred."""
    with progress.phase(f"reading {path.name}", _size(path)) as advance:
        source = read_checkpoint(path, config, advance)
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
    rows: list[Row] = []
    probes = ProbeInputs(source.config, grid(options.steps, source.config.levels))
    for stage in stages(source.shares_encoder):
        path = folder / f"{stage.name}.onnx"
        network, cases = _run_torch(stage, source, embedded, probes, options, progress)
        stage_records[stage.name] = _write(stage, network, source.config, path, options, progress)
        del network
        gc.collect()
        if options.verify:
            with progress.phase(f"{stage.name}: verifying", len(cases)) as advance:
                rows += compare(stage, path, cases, BOUNDS[options.precision], advance)
    return Manifest(
        toolkit_version=__version__,
        checkpoint=source.path.name,
        checkpoint_sha256=source.sha256,
        precision=options.precision,
        opset=options.opset,
        prompt=options.prompt,
        latent_scale=source.config.latent_scale,
        latent_channels=source.config.vae.latent_channels,
        vae_factor=source.config.vae.factor,
        size_multiple=source.config.size_multiple,
        schedule=source.config.levels,
        model=source.config.as_dict(),
        stages=stage_records,
        files=_records(folder, progress),
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
    options: Options,
    progress: Progress,
) -> tuple[nn.Module, list[Case]]:
    """Return the network and its outputs for the inputs of the verification."""
    runs = probes.runs(stage) if options.verify else []
    with progress.phase(f"{stage.name}: running torch", len(runs)) as advance:
        network = stage.build(source, embedded)
        cases = []
        for inputs, time in runs:
            cases.append(reference(stage, network, inputs, time))
            advance(1)
    probes.follow(cases)
    return network, cases


def _write(
    stage: Stage,
    network: nn.Module,
    config: ModelConfig,
    path: Path,
    options: Options,
    progress: Progress,
) -> StageRecord:
    """Trace a network, and write its graph and its weights to two files."""
    with progress.phase(f"{stage.name}: tracing"):
        model = trace(stage, network, example(stage, config), options.opset)
        if options.precision == "fp16":
            to_fp16(model)
    with progress.phase(f"{stage.name}: writing", len(model.graph.initializers)) as advance:
        ir.save(model, path, external_data=f"{path.name}.data", callback=lambda *_: advance(1))
    return StageRecord(path.name, _specs(model.graph.inputs), _specs(model.graph.outputs))


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
