"""Measures by pyiqa: with a module of the tests in its place, and with itself where it is installed."""

import importlib.util
import subprocess
import sys

import numpy as np
import pytest

from dossr.runtime.seeds.iqa import MeasureError, open_metric
from dossr.runtime.seeds.measures import open_measure

STAND_IN = """
import socket, urllib.request
import numpy as np

KNOWN = {"brightness": ("NR", False), "darkness": ("NR", True), "distance": ("FR", True),
         "musiq": ("NR", False), "broken": ("NR", False), "lacking": ("NR", False), "hub": ("NR", False)}

def list_models():
    return list(KNOWN)

class LocalEntryNotFoundError(FileNotFoundError):
    pass

def create_metric(name, device):
    print("Downloading: something to somewhere")
    assert device == "cpu"
    if name == "musiq":
        urllib.request.urlopen("https://example.org/musiq.pth")
    if name == "broken":
        raise RuntimeError("first line\\nsecond line")
    if name == "lacking":
        raise ModuleNotFoundError("No module named 'timm'", name="timm")
    if name == "hub":
        raise LocalEntryNotFoundError("not in the cache")
    return Metric(name)

class Metric:
    def __init__(self, name):
        self.metric_mode, self.lower_better = KNOWN[name]

    def __call__(self, image, reference=None):
        pixels = np.asarray(image, float)
        assert image.mode == "RGB"
        if pixels.max() < 1:
            raise MemoryError
        other = 0.0 if reference is None else np.asarray(reference, float)
        score = np.abs(pixels - other).mean()[None]
        return score if score < 200 else score * float("nan")
"""
_KEPT = {}  # a library of operators lives as long as its object
GREY = np.full((8, 8, 3), 100, np.uint8)


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    (tmp_path / "pyiqa.py").write_text(STAND_IN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "pyiqa", raising=False)
    yield
    sys.modules.pop("pyiqa", None)


def test_a_metric_tells_its_direction_and_what_it_compares(stand_in, capsys):
    bright, dark, distance = map(open_metric, ("brightness", "darkness", "distance"))
    assert (bright.lower_better, dark.lower_better) == (False, True)
    assert (bright.needs_original, distance.needs_original) == (False, True)
    assert bright(GREY) == 100.0
    assert bright(GREY.astype(np.uint16) * 257) == 100.0
    assert distance(GREY, GREY + np.uint8(3)) == 3.0
    assert capsys.readouterr().out == ""  # standard output is for results


def test_the_best_follows_the_direction_of_the_metric(stand_in):
    bright, dark = open_measure("brightness"), open_measure("darkness")
    assert bright.is_better(2.0, 1.0)
    assert dark.is_better(1.0, 2.0)
    assert dark.score(GREY, GREY[:2, :2]) == 100.0


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("musik", "'musik' is none of pyiqa's 7 measures; did you mean musiq"),
        ("musiq", "measure musiq: its weights from example.org are not on this machine; to download it: "
                  "python -c \"import pyiqa; pyiqa.create_metric('musiq')\""),
        ("hub", "measure hub: its weights are not in Hugging Face's cache on this machine; to download"),
        ("lacking", "measure lacking needs the module timm, which is not installed: pip install"),
        ("broken", "measure broken of pyiqa fails: first line second line"),
    ],
)  # fmt: skip
def test_what_is_missing_is_one_line(stand_in, name, message):
    with pytest.raises(MeasureError) as caught:
        open_metric(name)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_score_that_is_not_finite_is_refused(stand_in):
    with pytest.raises(MeasureError, match="brightness must give a finite score, got nan"):
        open_metric("brightness")(np.full((8, 8, 3), 255, np.uint8))


def test_memory_that_runs_out_is_no_fault_of_the_metric(stand_in):
    with pytest.raises(MemoryError):
        open_metric("brightness")(np.zeros((8, 8, 3), np.uint8))


def test_a_comparison_with_an_original_cannot_choose_the_best(stand_in):
    with pytest.raises(MeasureError, match="'distance' compares an image with its original"):
        open_measure("distance")


def test_the_network_is_back_afterwards(stand_in):
    import socket

    before = socket.getaddrinfo
    with pytest.raises(MeasureError):
        open_metric("musiq")
    assert socket.getaddrinfo is before


def test_pyiqa_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MeasureError, match=r"pip install 'dossr\[iqa\]'; agreement needs nothing$"):
        open_measure("musiq")


def test_nothing_of_it_is_loaded_unless_asked_for():
    program = (
        "import sys; sys.modules['torch'] = sys.modules['pyiqa'] = None\n"
        "import dossr.runtime.seeds.written as w, dossr.runtime.seeds.measures as m\n"
        "m.open_measure('agreement')"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def pyiqa():
    """The real one, or a skip."""
    pytest.importorskip("pyiqa", exc_type=ImportError) if _declared() else pytest.skip(
        "no torchvision"
    )


def _declared():
    """Declare the compiled operators that torchvision lacks beside torch's CPU build; no metric needs them."""
    if importlib.util.find_spec("torchvision") is None:
        return False
    import torch

    if not hasattr(torch.ops.torchvision, "nms"):
        library = _KEPT.setdefault("library", torch.library.Library("torchvision", "DEF"))
        for name in ("nms", "qnms"):
            library.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    return True


def test_real_metrics_without_weights_score(pyiqa):
    from skimage.metrics import peak_signal_noise_ratio

    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (96, 96, 3), np.uint8)
    other = np.clip(image + rng.normal(0, 9, image.shape), 0, 255).astype(np.uint8)
    psnr, piqe = open_metric("psnr"), open_metric("piqe")
    assert psnr.needs_original
    assert not psnr.lower_better
    assert psnr(other, image) == pytest.approx(peak_signal_noise_ratio(image, other), abs=0.01)
    assert piqe.lower_better
    assert 0 <= open_measure("piqe").score(image, image[:24, :24]) <= 100


def test_real_weights_that_are_absent_are_named_with_their_place(pyiqa, tmp_path, monkeypatch):
    monkeypatch.setattr("pyiqa.utils.download_util.DEFAULT_CACHE_DIR", str(tmp_path))
    with pytest.raises(MeasureError) as caught:
        open_metric("musiq")
    assert f"{tmp_path}/musiq_koniq_ckpt-e95806b9.pth is not on this machine (from https" in str(
        caught.value
    )
    assert str(caught.value).endswith("""python -c "import pyiqa; pyiqa.create_metric('musiq')\"""")
    assert not list(tmp_path.iterdir())
    with pytest.raises(MeasureError, match="did you mean musiq"):
        open_metric("musik")
