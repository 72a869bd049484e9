"""A network in OpenVINO: a compiled model of fixed shape for each of the last input shapes."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import numpy as np
import openvino as ov

from .... import __version__
from ...errors import OutOfMemoryError
from ...tensors import Array
from ...terminal import interruptible
from .blobs import BlobCache, BlobKey
from .buffers import Buffers
from .core import capabilities, core, processor, running, threads, version
from .graph import Graph, Signature, check_signature, read_model, read_signature
from .mapped_weights import dropping_pages

Shapes = Mapping[str, tuple[int, ...]]

SHAPES = 2
"""Compiled models that an engine holds: one of tiles and one of a smaller image."""

_HINTS = {"fp32": "f32", "bf16": "bf16"}  # by precision; any other leaves the choice to the device


class OvEngine:
    """A network on one of OpenVINO's devices. The file is read when a shape is first run.

    ``plugin`` is CPU, GPU or NPU. ``signature`` is what the file must take and give; None: what it says.
    """

    def __init__(
        self,
        graph: Graph,
        signature: Signature | None,
        plugin: str,
        precision: str,
        blobs: BlobCache,
        buffers: Buffers,
    ) -> None:
        self._graph, self._plugin, self._precision, self._blobs = graph, plugin, precision, blobs
        self._buffers = buffers
        self.inputs, self.outputs = signature or read_signature(graph.path)
        self._requests: dict[tuple[tuple[int, ...], ...], ov.InferRequest] = {}

    def run(self, **inputs: Array) -> dict[str, Array]:
        """Run the network on NumPy arrays; inputs are not copied, outputs are new arrays.

        Ctrl-C ends it after the operator in progress.
        """
        for name, spec in self.inputs.items():
            spec.check(inputs[name])
        try:
            with running(self._graph.path.name):
                self._buffers.pass_to(self)
                return self._run(inputs)
        except OutOfMemoryError:  # smaller tiles come next
            self._buffers.clear()
            raise

    def release(self) -> None:
        """Give back the memory of intermediate results; the next run takes it again."""
        for request in self._requests.values():
            request.get_compiled_model().release_memory()

    def clear(self) -> None:
        """Give back the compiled models; the next run compiles again."""
        self._requests.clear()

    def _run(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        request = self._request({name: tuple(inputs[name].shape) for name in self.inputs})
        for name in self.inputs:
            array = np.require(inputs[name], requirements=["C", "W"])
            request.set_tensor(name, ov.Tensor(array, shared_memory=True))
        found = {}
        for name, spec in self.outputs.items():
            shape = tuple(request.get_tensor(name).shape)
            found[name] = np.empty(shape, np.dtype(spec.dtype))
            request.set_tensor(name, ov.Tensor(found[name], shared_memory=True))
        interruptible(lambda: request.infer(share_outputs=True), request.cancel)
        return found

    def _request(self, shapes: Shapes) -> ov.InferRequest:
        """Return the request of a shape; the shape that ran longest ago makes room for a new one."""
        key = tuple(shapes.values())
        request = self._requests.pop(key, None)
        if request is None:
            while len(self._requests) >= SHAPES:
                del self._requests[next(iter(self._requests))]
            with dropping_pages(self._graph.weights):
                request = self._compiled(shapes).create_infer_request()
        self._requests[key] = request
        return request

    def _compiled(self, shapes: Shapes) -> ov.CompiledModel:
        """Import a compiled model from disk, else compile it and keep it there if that is possible."""
        key = self._key(shapes)
        blob = self._blobs.read(key) if key else None
        if blob:
            try:
                return core().import_model(blob, self._plugin, self._properties())
            except RuntimeError:  # it is compiled again
                pass
        with running(f"{self._graph.path.name} for {_size(shapes)}"):
            model = read_model(self._graph.path)
            check_signature(self._graph.path, model, (self.inputs, self.outputs))
            model.reshape({name: list(shape) for name, shape in shapes.items()})
            compiled = core().compile_model(model, self._plugin, self._properties())
        if key:
            with suppress(RuntimeError, MemoryError, ValueError):  # it runs all the same
                self._blobs.write(key, compiled.export_model().getvalue())
        return compiled

    def _properties(self) -> dict[str, Any]:
        """Return how to compile and import: all cores of this process, for one image at a time."""
        found: dict[str, Any] = {"PERFORMANCE_HINT": "LATENCY"}
        if self._precision in _HINTS:
            found["INFERENCE_PRECISION_HINT"] = _HINTS[self._precision]
        if self._plugin == "CPU" and self._graph.weights:
            found |= {"CACHE_MODE": "OPTIMIZE_SIZE", "WEIGHTS_PATH": str(self._graph.weights)}
        return found

    def _key(self, shapes: Shapes) -> BlobKey | None:
        """Return the key on disk; None where compiled models are not kept."""
        if not self._graph.files or self._plugin != "CPU":
            return None
        return BlobKey(
            files=self._graph.files,
            toolkit=__version__,
            version=version(),
            processor=processor(),
            capabilities=capabilities(),
            cores=threads(),
            precision=self._precision,
            shapes=shapes,
        )


def _size(shapes: Shapes) -> str:
    return " and ".join("x".join(map(str, shape)) for shape in shapes.values() if len(shape) > 1)
