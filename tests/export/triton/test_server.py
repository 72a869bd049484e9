"""A real tritonserver serves what ``dossr-export --triton`` writes, with the results of dossr-run."""

import importlib.util
import io
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.bench.serve.server import ServerError, running
from dossr.export.cli import main as export_main
from dossr.runtime import load_pipeline

ROOT = Path(__file__).parents[3]
SERVER = ROOT / ".triton" / "pytriton" / "tritonserver" / "bin" / "tritonserver"
NUMPY = ROOT / ".triton" / "numpy"
MISSING = (
    "no tritonserver beside the checkout; make .triton/installed"
    if not (SERVER.is_file() and NUMPY.is_dir())
    else "no tritonclient; pip install 'tritonclient[http]'"
    if importlib.util.find_spec("tritonclient") is None
    else ""
)
pytestmark = pytest.mark.skipif(bool(MISSING), reason=MISSING)
