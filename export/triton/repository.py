"""The model repository: configuration, program, sample of the warm-up, and the bundle itself."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ...runtime.bundle import MANIFEST, Bundle
from ...runtime.engines.tensorrt.profiles import ENGINES
from ...runtime.files import whole_folder
from ...runtime.serving.triton import BUNDLE
from .config import WARM_PIXELS, WARM_STEPS, config_text
from .serve_settings import RepositoryOptions

CONFIG = "config.pbtxt"
_PROGRAM = '''"""Serves a dossr bundle: this file only leads Triton to it."""

import triton_python_backend_utils as backend
from dossr.runtime.serving.triton import Model


class TritonPythonModel:
    """The class that Triton's Python backend looks for."""

    def initialize(self, args):
        """Open the bundle beside this file."""
        self.model = Model(backend, args)

    def execute(self, requests):
        """Answer requests."""
        return self.model.execute(requests)
'''


def check_repository(repository: Path, options: RepositoryOptions, *, overwrite: bool) -> None:
    """Raise FileExistsError unless the model's folder can be made, or is a model to be replaced."""
    folder = repository / options.name
    if not folder.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{folder} exists; pass --overwrite, or --serve name=MODEL")
    is_empty = folder.is_dir() and not any(folder.iterdir())
    if not is_empty and not (folder / CONFIG).is_file():
        raise FileExistsError(
            f"{folder} must be a model to be overwritten, and it has no {CONFIG}; choose another folder"
        )


def write_repository(
    bundle: Bundle, repository: Path, options: RepositoryOptions, *, overwrite: bool = False
) -> Path:
    """Write the model of a bundle below ``repository`` and return its folder.

    It is complete or absent, and other models of the repository stay as they are. The bundle's files
    are hard links where the file system allows, and copies elsewhere; nothing refers to the bundle
    outside. Raise ValueError if the options do not fit the bundle, and FileExistsError.
    """
    options.check(bundle.manifest)
    check_repository(repository, options, overwrite=overwrite)
    folder = repository / options.name
    with whole_folder(folder) as new:
        (new / CONFIG).write_text(config_text(bundle.manifest, options), encoding="utf-8")
        (new / "1").mkdir()
        (new / "1" / "model.py").write_text(_PROGRAM, encoding="utf-8")
        _write_warmup(new / "warmup", options.warm_side)
        for name in _files(bundle):
            _link(bundle.folder / name, new / "1" / BUNDLE / name)
        check_repository(repository, options, overwrite=overwrite)  # it may have come meanwhile
    return folder


def _write_warmup(folder: Path, side: int) -> None:
    """Write an image of smooth colours, and the number of steps, as Triton reads raw tensors."""
    folder.mkdir()
    ramp = np.linspace(0, 255, side)
    rows, columns = np.meshgrid(ramp, ramp, indexing="ij")
    pixels = np.stack([rows, columns, 255 - rows], axis=2).astype(np.uint8)
    (folder / WARM_PIXELS).write_bytes(pixels.tobytes())
    (folder / WARM_STEPS).write_bytes(np.array([1], "<i8").tobytes())


def _files(bundle: Bundle) -> Iterator[str]:
    """Yield the names of the bundle's files, and of the engines that were built for it."""
    yield MANIFEST
    yield from bundle.manifest.files
    for path in sorted((bundle.folder / ENGINES).glob("*")):
        if path.is_file():
            yield f"{ENGINES}/{path.name}"


def _link(source: Path, target: Path) -> None:
    """Make a hard link, or a copy on another file system, or where only reading is allowed."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if os.access(source, os.W_OK):
        try:
            target.hardlink_to(source.resolve())
        except OSError:  # another file system, or one without hard links
            pass
        else:
            return
    shutil.copyfile(source, target)
