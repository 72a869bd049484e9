"""Triton's Python backend: tensors of a request in, tensors of a response out.

``triton_python_backend_utils`` exists only inside the server, which gives it to this module.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import EngineError, OutOfMemoryError, one_line
from ..hardware import find_extra, usable_cores
from .inputs import INPUTS
from .service import RequestError, Service, open_service
from .settings import read_parameters

BUNDLE = "bundle"
"""The folder of the bundle in that of a version, and the parameter that may name another one."""

IMAGE, PIXELS = "image", "pixels"
"""The inputs of which a request has one, and the outputs that answer them."""


class Model:
    """One instance of a served model: a process that Triton starts, with networks of its own."""

    def __init__(self, backend: Any, arguments: Mapping[str, str]) -> None:
        """Open the bundle. ``backend``: Triton's module; ``arguments``: what it gives to ``initialize``.

        Raise an error of one line, which the server reports, if the bundle or a parameter does not fit.
        """
        self._backend = backend
        config = json.loads(arguments["model_config"])
        parameters = {name: each["string_value"] for name, each in config["parameters"].items()}
        version = Path(arguments["model_repository"]).absolute() / arguments["model_version"]
        bundle = version / parameters.pop(BUNDLE, BUNDLE)
        settings = read_parameters(parameters)
        if settings.threads is None:
            settings = replace(settings, threads=_share(config["instance_group"]))
        try:
            if settings.is_on_gpu:
                _select_gpu(int(arguments["model_instance_device_id"]))
            self._service: Service = open_service(bundle, settings, backend.Logger.log_info)
        except ModuleNotFoundError as error:
            extra = find_extra(settings.device)
            raise EngineError(f"{error}; install it with: pip install 'dossr[{extra}]'") from error

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Return a response to every request: its result, or an error of one line."""
        return [self._answer(request) for request in requests]

    def _answer(self, request: Any) -> Any:
        error = self._backend.TritonError
        try:
            return self._backend.InferenceResponse([self._result(request)])
        except RequestError as problem:
            code, message = error.INVALID_ARG, str(problem)
        except (OutOfMemoryError, MemoryError) as problem:
            text = str(problem) or "not enough memory for this size; send a smaller image"
            code, message = error.UNAVAILABLE, text
        except EngineError as problem:
            code, message = error.INTERNAL, str(problem)
        except Exception as problem:  # an error of ours: the instance goes on with the next request
            code, message = error.INTERNAL, f"{type(problem).__name__}: {problem}"
        if code != error.INVALID_ARG:
            self._backend.Logger.log_error(one_line(message))
        return self._backend.InferenceResponse(error=error(one_line(message), code))

    def _result(self, request: Any) -> Any:
        tensors = {tensor.name(): tensor.as_numpy() for tensor in request.inputs()}
        given = [name for name in (IMAGE, PIXELS) if name in tensors]
        if len(given) != 1:
            raise RequestError(
                f"a request has one of {IMAGE} and {PIXELS}, got {len(given)} of them"
            )
        name = given[0]
        if name not in request.requested_output_names():
            raise RequestError(
                f"the output {name} answers the input {name}; ask for it, or for none"
            )
        asked = {each.name: _value(tensors[each.name]) for each in INPUTS if each.name in tensors}
        if name == PIXELS:
            pixels = self._service.upscale_pixels(_checked(tensors[PIXELS]), asked)
            return self._backend.Tensor(PIXELS, np.ascontiguousarray(pixels))
        data = self._service.upscale(tensors[IMAGE].ravel()[0], asked)
        return self._backend.Tensor(IMAGE, np.array([data], np.object_))


def _share(groups: Sequence[Mapping[str, Any]]) -> int | None:
    """Return the cores of one instance where several share a processor; None: all."""
    instances = sum(int(group["count"]) for group in groups if group["kind"] == "KIND_CPU")
    return max(1, usable_cores() // instances) if instances > 1 else None


def _value(tensor: Any) -> Any:
    """Return the element of an optional input."""
    value = tensor.ravel()[0]
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value.item()


def _checked(pixels: Any) -> Any:
    """Return the array; raise EngineError if the server cannot pass arrays to this NumPy.

    Servers up to 2.52 (24.11) are built for NumPy 1: arrays of NumPy 2 arrive with wrong strides.
    """
    if pixels.size > 1 and not any(pixels.strides):
        raise EngineError(
            f"this server passes no arrays to NumPy {np.__version__}; pip install 'numpy<2', or run a "
            "server from 2025 on"
        )
    return pixels


def _select_gpu(index: int) -> None:
    """Let everything that this process opens run on one GPU of the machine."""
    from ..engines.cuda.cupy_device import select_gpu

    select_gpu(index)
