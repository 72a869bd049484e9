"""What the reliability suite calls of dossr; nothing else in this folder imports it.

ONNX Runtime is not imported here: it starts a thread, and the workers are forked from this process.
"""

import importlib.util
import sys
from functools import cache
from pathlib import Path

import dossr
from dossr.runtime import load_pipeline
from dossr.runtime.bundle import DEMO, sha256
from dossr.runtime.errors import BundleError, EngineError, ImageError
from dossr.runtime.images.codecs.png import encode_png
from dossr.runtime.images.codecs.tiff import Page, encode_tiff
from dossr.runtime.images.formats import WRITABLE
from dossr.runtime.images.reader import read_image
from dossr.runtime.images.source import Metadata, WriteOptions
from dossr.runtime.images.writer import check_writable, write_image
from dossr.runtime.options import TILE

__all__ = [
    "DEMO",
    "PACKAGE",
    "SUFFIXES",
    "TILE",
    "BundleError",
    "EngineError",
    "ImageError",
    "Metadata",
    "Page",
    "WriteOptions",
    "check_writable",
    "dossr_run",
    "encode_png",
    "encode_tiff",
    "image_profiles",
    "load_pipeline",
    "make_toy_bundle",
    "read_image",
    "sha256",
    "write_image",
]

PACKAGE = Path(dossr.__file__).parent
SUFFIXES = tuple({kind: suffix for suffix, kind in reversed(WRITABLE.items())}.values())
"""One per format that can be written."""


def dossr_run() -> list[str]:
    """Return the start of a command line that runs dossr-run."""
    script = Path(sys.executable).with_name("dossr-run")
    if script.exists():
        return [str(script)]
    return [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]


def make_toy_bundle(folder: Path) -> None:
    """Write the bundle of toy networks that the other tests use; ``folder`` must not exist."""
    _conftest("conftest.py")._toy_bundle(folder)


def image_profiles():
    """Return the class that makes colour profiles for the image tests."""
    return _conftest("runtime/images/conftest.py").Profiles


@cache
def _conftest(name: str):
    path = Path(__file__).parent.parent / name
    spec = importlib.util.spec_from_file_location("reliability_conftest", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
