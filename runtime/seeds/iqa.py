"""Measures of image quality by pyiqa. The only file that imports it, and with it torch.

Nothing is downloaded: where a measure's weights are not on the machine, the error says how to get them.
"""

import difflib
import importlib
import importlib.util
import io
import math
import os
import socket
import sys
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from typing import Any, NoReturn

import numpy as np
from PIL import Image

from ..errors import one_line, reason
from ..tensors import Array

INSTALL = "pip install 'dossr[iqa]'"
_NEAR = 3  # names that an error proposes


class MeasureError(ValueError):
    """A measure is unknown, or something that it needs is not on this machine."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class _DownloadRefused(OSError):
    """A library asked for a file from the network."""


@dataclass(frozen=True)
class Metric:
    """A measure of pyiqa, ready to use on the CPU."""

    name: str
    lower_better: bool
    needs_original: bool
    """Whether it compares an image with its original (a full-reference metric)."""

    _model: Any

    def __call__(self, image: Array, original: Array | None = None) -> float:
        """Return the score of an image, uint8 or uint16 (h, w, 3), sRGB; it is rounded to 8 bits.

        Raise MeasureError if pyiqa fails or its score is not finite.
        """
        images = [_pil(each) for each in (image, original) if each is not None]
        with _quiet_and_offline(self.name):
            score = float(self._model(*images).reshape(-1)[0])
        if not math.isfinite(score):
            raise MeasureError(f"measure {self.name} must give a finite score, got {score}")
        return score


def open_metric(name: str) -> Metric:
    """Load a measure of pyiqa, such as musiq. Raise MeasureError where that is impossible."""
    if importlib.util.find_spec("pyiqa") is None:
        raise MeasureError(f"'{name}' is a measure of pyiqa, which is not installed: {INSTALL}")
    with _quiet_and_offline(name):
        pyiqa = importlib.import_module("pyiqa")
        known = pyiqa.list_models()
    if name not in known:
        near = difflib.get_close_matches(name, known, _NEAR) or known[:_NEAR]
        raise MeasureError(
            f"'{name}' is none of pyiqa's {len(known)} measures; did you mean {', '.join(near)}?"
        )
    with _quiet_and_offline(name):
        model = pyiqa.create_metric(name, device="cpu")
    return Metric(name, bool(model.lower_better), model.metric_mode == "FR", model)


@contextmanager
def _quiet_and_offline(name: str) -> Iterator[None]:
    """Keep pyiqa's text off standard output and it off the network; errors become MeasureError."""
    before = {"HF_HUB_OFFLINE": os.environ.get("HF_HUB_OFFLINE")}
    os.environ["HF_HUB_OFFLINE"] = "1"  # huggingface_hub reads it when it is imported
    places = _downloads()
    kept = [(place, attribute, getattr(place, attribute)) for place, attribute in places]
    for place, attribute in places:
        setattr(place, attribute, _refuse_name if place is socket else _refuse)
    try:
        with redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except (MeasureError, MemoryError):
        raise
    except Exception as error:
        raise MeasureError(_explained(name, error)) from error
    finally:
        for place, attribute, value in kept:
            setattr(place, attribute, value)
        _restore(before)


def _downloads() -> list[tuple[Any, str]]:
    """Return where files come from the network: torch's and pyiqa's download, and any host's address."""
    modules = [sys.modules.get(name) for name in ("torch.hub", "pyiqa.utils.download_util")]
    places: list[tuple[Any, str]] = [(each, "download_url_to_file") for each in modules if each]
    return [*places, (socket, "getaddrinfo")]


def _refuse(url: str, dst: str, *_: Any, **__: Any) -> NoReturn:
    raise _DownloadRefused(f"{dst} is not on this machine (from {url})")


def _refuse_name(host: Any, *_: Any, **__: Any) -> NoReturn:
    raise _DownloadRefused(f"its weights from {host} are not on this machine")


def _explained(name: str, error: BaseException) -> str:
    """Return an error of pyiqa in one line, with what to do."""
    if isinstance(error, ModuleNotFoundError):
        return f"measure {name} needs the module {error.name}, which is not installed: {INSTALL}"
    get = f"""python -c "import pyiqa; pyiqa.create_metric('{name}')\""""
    for cause in _causes(error):
        if isinstance(cause, _DownloadRefused):
            return f"measure {name}: {cause}; to download it: {get}"
        if type(cause).__name__ in ("LocalEntryNotFoundError", "OfflineModeIsEnabled"):
            return f"measure {name}: its weights are not in Hugging Face's cache on this machine; to download them: {get}"
    return f"measure {name} of pyiqa fails: {reason(error)}"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those behind it."""
    while error is not None:
        yield error
        behind = getattr(error, "reason", None)
        error = (
            behind if isinstance(behind, BaseException) else error.__cause__ or error.__context__
        )


def _restore(variables: Mapping[str, str | None]) -> None:
    for name, value in variables.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def _pil(image: Array) -> Image.Image:
    if image.dtype == np.uint16:
        image = np.rint(image / 257.0).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(image))
