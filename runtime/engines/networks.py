"""The open networks of a bundle, and how each process comes to its own.

A session of ONNX Runtime or OpenVINO has threads, which a forked process does not inherit, and it
cannot be pickled. What is passed on is therefore the settings; each process opens the bundle itself.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ..bundle import DEMO, MANIFEST, Bundle, Manifest, open_bundle, sha256
from ..errors import BundleError, EngineError
from ..terminal import log as log_to_terminal
from .auto import choose_device
from .device import Device, load_device
from .engine import Engine
from .lazy import EngineSlot, LazyEngine
from .precision import parse_precision
from .tensorrt.options import BuildOptions

_SURVIVE_FORK = ("cpu", "openvino", "openvino:CPU")  # CUDA cannot be used after a fork
_inherited: list["Networks"] = []  # kept: what a parent opened cannot be closed in its child


@dataclass(frozen=True)
class Settings:
    """What ``load_pipeline`` was called with, but ``log``, and what it found."""

    bundle: Path | None
    device: str
    low_memory: bool
    build: BuildOptions | None
    tf32: bool | None
    precision: tuple[str, ...]
    verify: bool
    threads: int | None = None
    manifest: str | None = None
    """The SHA-256 that ``manifest.json`` must have, as it holds those of all files; None: any."""

    @property
    def folder(self) -> Path:
        """The folder of the bundle."""
        return self.bundle or DEMO


@dataclass(frozen=True)
class Networks:
    """The networks of one bundle on one device."""

    stages: Mapping[str, Engine]
    manifest: Manifest
    device: Device
    precision: Mapping[str, str]
    """The precision in which each stage computes."""


class NetworkSource:
    """Gives networks to a pipeline: opened when first needed, and again in a forked process.

    With ``settings`` None, the networks stay those given.
    """

    def __init__(self, settings: Settings | None, networks: Networks | None = None) -> None:
        self.settings = settings
        self._networks, self._process = networks, os.getpid()

    @property
    def is_inherited(self) -> bool:
        """Whether another process made this source, before it forked this one."""
        return self._process != os.getpid()

    def get(self) -> Networks:
        """Return the networks of this process. Raise as ``open_networks`` does."""
        if self._networks is None or (self.settings and self.is_inherited):
            assert self.settings is not None
            if self._networks is not None:
                _inherited.append(self._networks)
                _check_forked(self._networks.device)
            self._networks, self._process = open_networks(self.settings), os.getpid()
        return self._networks


_shared: dict[Settings, NetworkSource] = {}


def loaded_source(settings: Settings, log: Callable[[str], None]) -> NetworkSource:
    """Return a source of networks that are open, and that are opened again from the same bundle only."""
    networks = open_networks(settings, log)
    return NetworkSource(replace(settings, manifest=sha256(settings.folder / MANIFEST)), networks)


def shared_source(settings: Settings) -> NetworkSource:
    """Return a source that is the same for equal settings, so that a worker opens networks once.

    Those of a bundle that was replaced in its folder are dropped, unless a parent process opened them.
    """
    for other, source in list(_shared.items()):
        is_replaced = other.bundle == settings.bundle and other.manifest != settings.manifest
        if is_replaced and not source.is_inherited:
            del _shared[other]
    return _shared.setdefault(settings, NetworkSource(settings))


def open_networks(settings: Settings, log: Callable[[str], None] = log_to_terminal) -> Networks:
    """Open all networks of a bundle, see ``load_pipeline``, whose errors these are."""
    asked = parse_precision(settings.precision)
    opened = open_bundle(settings.folder, again=settings.verify)
    if settings.manifest not in (None, sha256(settings.folder / MANIFEST)):
        raise BundleError(
            f"bundle {settings.folder} is another one than the pipeline was loaded from; "
            "call load_pipeline again"
        )
    if settings.device == "auto" and settings.build is None:
        asked.check_fixed(settings.device)
        place, reason = choose_device(opened, settings.tf32, log, settings.threads)
        log(f"device {place.name}: {reason}")
    else:
        place = load_device(
            settings.device, settings.build, settings.tf32, log, asked, settings.threads
        )
    if place.target not in ("cpu", "openvino") and opened.manifest.precision == "fp32":
        log("this bundle is float32; a GPU is faster with one exported with --fp16")
    taken = place.precisions(opened)
    slot = EngineSlot()
    stages: dict[str, Engine] = {}
    for name, record in opened.manifest.stages.items():
        if settings.low_memory:
            reopen = partial(_reopen_stage, place, opened, name)
            stages[name] = LazyEngine(slot, reopen, *record.signature)
        else:
            stages[name] = _open_stage(place, opened, name)
    return Networks(stages, opened.manifest, place, taken)


def _open_stage(place: Device, bundle: Bundle, stage: str) -> Engine:
    engine, record = place.open(bundle, stage), bundle.manifest.stages[stage]
    signature = (*engine.inputs.values(), *engine.outputs.values())
    if signature != (*record.inputs, *record.outputs):
        raise BundleError(
            f"the inputs/outputs of {bundle.path(stage, place.target)} do not match the manifest; "
            "export the checkpoint again"
        )
    return engine


def _reopen_stage(place: Device, bundle: Bundle, stage: str) -> Engine:
    """Open a stage long after its bundle; raise BundleError if its files were replaced meanwhile."""
    bundle.check(stage, place.target)
    return _open_stage(place, bundle, stage)


def _check_forked(device: Device) -> None:
    """Raise EngineError if a device that the parent process used cannot be used here."""
    if device.name not in _SURVIVE_FORK:
        raise EngineError(
            f"a pipeline on {device.name} must not be used in a forked process; "
            "start workers with multiprocessing.get_context('spawn')"
        )
