"""Damaged bundles of toy networks: opened, and what opens is run once."""

import json
import math
import os
import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import spoil
import subject
from workers import Report

_REFUSALS = (subject.BundleError, subject.EngineError)
_NUMBERS = (int, float)


class Manifests:
    name, limit_s, per_fork, address_space = "manifests", 8.0, 50, 4 << 30

    def __init__(self) -> None:
        self._sound = Path(os.environ["RELIABILITY_SHARED"]) / "toy"
        subject.make_toy_bundle(self._sound)
        self._document = json.loads((self._sound / spoil.MANIFEST).read_text(encoding="utf-8"))

    def build(self, seed: int, folder: Path) -> str:
        """Write the damaged bundle of a seed, ``folder / "bundle"``; return what was done to it."""
        rng = random.Random(f"manifest {seed}")
        bundle = folder / "bundle"
        shutil.copytree(self._sound, bundle)
        if rng.random() < 0.01:
            return "sound"
        return spoil.spoiled(rng, bundle)

    def check(self, seed: int, folder: Path) -> Report:
        report = Report(seed)
        what, bundle = self.build(seed, folder), folder / "bundle"
        low_memory = random.Random(seed).random() < 0.5
        report.outcome = open_and_run(report, bundle, low_memory)
        if report.outcome == "run":
            misfit = self._misfit(bundle)
            if misfit:
                report.fault(f"accepted: {misfit}", what)
        elif what == "sound":
            report.fault("a sound bundle is not run", report.outcome)
        return report

    def _misfit(self, bundle: Path) -> str | None:
        """What in a bundle that was accepted does not fit its networks; None where all does."""
        if not (bundle / spoil.MANIFEST).is_file():
            return "manifest is no file"
        document = json.loads((bundle / spoil.MANIFEST).read_text(encoding="utf-8"))
        for name in ("format_version", "latent_channels", "vae_factor"):
            value = document.get(name)
            if type(value) is not int or value != self._document[name]:
                return f"{name} is wrong"
        multiple = document.get("size_multiple")
        if type(multiple) is not int or multiple < 1 or multiple * 4 % document["vae_factor"]:
            return "size_multiple is wrong"
        scale = document.get("latent_scale")
        if type(scale) not in _NUMBERS or not math.isfinite(scale) or scale <= 0:
            return "latent_scale is wrong"
        missing = self._document.keys() - document.keys() - {"verification", "golden"}
        if missing:
            return f"{min(missing)} is missing"
        return _schedule_misfit(document["schedule"]) or self._stage_misfit(bundle, document)

    def _stage_misfit(self, bundle: Path, document: Any) -> str | None:
        for name, right in self._document["stages"].items():
            stage = document["stages"].get(name)
            if not stage:
                return f"{name} is missing"
            for side in ("inputs", "outputs"):
                if _specs(stage[side]) != _specs(right[side]):
                    return f"{name}'s {side} are wrong"
            path = bundle / stage["graphs"]["cpu"]
            if not os.path.normpath(path).startswith(f"{os.path.normpath(bundle)}{os.sep}"):
                return f"{name} lies outside"  # by its name; links may lead out
            if path.read_bytes() != (self._sound / right["graphs"]["cpu"]).read_bytes():
                return f"{name} is another network"
            if stage["graphs"]["cpu"] not in document["files"]:
                return f"{name}'s file has no SHA-256"
        return None


def open_and_run(report: Report, bundle: Path, low_memory: bool) -> str:
    """Open a bundle and upscale 8 x 8 pixels; return how far that went, and report faults."""
    try:
        pipeline = subject.load_pipeline(bundle, low_memory=low_memory)
    except _REFUSALS as error:
        report.check_message(error)
        return f"{type(error).__name__} at opening"
    except Exception as error:
        report.foreign("load_pipeline", error)
        return "fault at opening"
    image = np.arange(192, dtype=np.uint8).reshape(8, 8, 3)
    try:
        large = pipeline.upscale(image, steps=1)
    except _REFUSALS as error:
        report.check_message(error)
        return f"{type(error).__name__} in the run"
    except Exception as error:
        report.foreign("upscale", error)
        return "fault in the run"
    if large.shape != (32, 32, 3) or large.dtype != np.uint8:
        report.fault("wrong result", f"{large.dtype} {large.shape}")
    return "run"


def _schedule_misfit(schedule: Any) -> str | None:
    names = ("linear_start", "linear_end", "timesteps")
    for name in names:
        if name not in schedule:
            return f"schedule's {name} is missing"
        if type(schedule[name]) not in _NUMBERS or not math.isfinite(schedule[name]):
            return f"schedule's {name} is no number"
    start, end, times = (schedule[name] for name in names)
    if type(times) is not int or times < 500:
        return "schedule's timesteps is wrong"
    return None if 0 < start <= end < 1 else "schedule's levels are wrong"


def _specs(signature: Any) -> list[tuple]:
    return [(tensor["name"], tensor["dtype"], list(tensor["shape"])) for tensor in signature]
