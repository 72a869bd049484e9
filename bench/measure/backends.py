"""Run networks in torch, or in the runtime after an export with this project's exporter."""

import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import msgspec
import onnx_ir as ir
import torch
from torch import Tensor, nn
from torch.utils.dlpack import from_dlpack

from ...export.graph.lower import lower
from ...export.graph.trace import trace
from ...runtime.bundle import Precision, Target
from ...runtime.engines.device import OnnxDevice, load_onnx_device
from ...runtime.engines.precision import Choice, PrecisionOptions, parse_precision
from ..systems.system import Network
from .calls import Variant
from .weights import fill

Runner = Callable[..., tuple[Tensor, ...]]
"""A loaded network: takes tensors, returns outputs in order; float32 or int64 on both sides."""


class Backend(Protocol):
    """Load the networks of a system, one at a time or all at once."""

    @property
    def device(self) -> torch.device:
        """Device of the networks and of the loop's tensors."""
        ...

    def open(self, network: Network) -> AbstractContextManager[Runner]:
        """Build a network with synthetic weights and keep it loaded inside the block."""
        ...

    def synchronize(self) -> None:
        """Wait for the device to finish its work."""
        ...


PRECISIONS = {
    "fp32": torch.float32,
    "tf32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
}


def allow_tf32(allowed: bool) -> None:
    """Set whether a GPU may use TF32 in float32 matrix products and convolutions."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = allowed


@dataclass(frozen=True)
class TorchBackend:
    """torch in eager mode or compiled. TF32 is off unless the precision is ``tf32``."""

    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: str = "fp32"
    compiled: bool = False

    @contextmanager
    def open(self, network: Network) -> Iterator[Runner]:
        run = self.load(built(network, self.device))
        if self.device.type == "cuda":  # the weights were in float32 first
            torch.cuda.reset_peak_memory_stats(self.device)
        names = [spec.name for spec in network.inputs]
        yield lambda **inputs: run(*(inputs[name] for name in names))

    def load(self, network: nn.Module) -> Runner:
        """Move a network to the device in the precision. Its inputs are positional."""
        allow_tf32(self.precision == "tf32")
        module: nn.Module = network.to(self.device, PRECISIONS[self.precision])
        run: Any = torch.compile(module) if self.compiled else module

        @torch.inference_mode()
        def call(*inputs: Tensor) -> tuple[Tensor, ...]:
            found = run(*map(self._inside, inputs))
            outputs = (found,) if isinstance(found, Tensor) else found
            return tuple(tensor.float() for tensor in outputs)

        return call

    def synchronize(self) -> None:
        _synchronize(self.device)

    def _inside(self, tensor: Tensor) -> Tensor:
        """Cast activations to the precision; token ids and times stay as they are.

        bfloat16 cannot represent the time 499, for example.
        """
        is_activation = tensor.is_floating_point() and tensor.ndim > 1
        return tensor.to(PRECISIONS[self.precision]) if is_activation else tensor


@dataclass(frozen=True)
class OnnxBackend:
    """Networks exported by this project, in an engine of the runtime.

    Tensors pass between torch and the runtime by DLPack, without copies. On a GPU torch and CuPy have a
    stream each, and every ``from_dlpack`` makes the consumer's stream wait for the producer's. This also
    orders the reuse of freed memory: torch's stream has waited for the outputs of a call before it
    writes to memory of the inputs, CuPy's for torch before the next call writes to memory of the outputs.
    """

    engine: str = "cpu"
    """A device of the runtime that opens ``.onnx`` files: ``cpu``, ``cuda`` or ``openvino``."""

    precision: Precision = "fp32"
    """Of the graphs; ``cpu`` computes in float32 whatever its weights are stored in."""

    computed: Choice = "auto"
    """What ``openvino`` computes in."""

    files: Mapping[str, Path] = field(default_factory=dict)
    """Exported networks, by name; others are exported to a temporary folder when opened."""

    @property
    def device(self) -> torch.device:
        return torch.device("cuda" if self.engine == "cuda" else "cpu")

    @contextmanager
    def open(self, network: Network) -> Iterator[Runner]:
        place = self._place
        with self._exported(network, place.target) as path:
            engine = place.open_file(path)

            def call(**inputs: Tensor) -> tuple[Tensor, ...]:
                with place.active():
                    arrays = {
                        name: place.from_dlpack(inputs[name].detach().contiguous())
                        for name in engine.inputs
                    }
                    found = engine.run(**arrays)
                    return tuple(from_dlpack(found[name]) for name in engine.outputs)

            yield call

    def synchronize(self) -> None:
        _synchronize(self.device)

    @contextmanager
    def _exported(self, network: Network, target: Target) -> Iterator[Path]:
        if network.name in self.files:
            yield self.files[network.name]
            return
        with tempfile.TemporaryDirectory(prefix="dossr-bench-") as folder:
            path = Path(folder) / f"{network.name}.onnx"
            write_onnx(network, target, self.precision, path)
            yield path

    @cached_property
    def _place(self) -> OnnxDevice:
        return load_onnx_device(self.engine, precision=PrecisionOptions(self.computed))


def _synchronize(device: torch.device) -> None:
    """Wait for the work of every library on the device."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def open_backend(variant: Variant, device: str, files: Mapping[str, Path]) -> Backend:
    """Return the backend of a variant on a device; ``files`` are exported networks."""
    if variant.is_exported:
        computed = parse_precision(variant.computed)
        engine, precision = variant.engine(device), graph_precision(variant)
        return OnnxBackend(engine, precision, computed.default, files)
    return torch_backend(variant, device)


def graph_precision(variant: Variant) -> Precision:
    """Return the precision of a variant's graphs. Raises ValidationError if graphs cannot have it."""
    precision: Precision = msgspec.convert(variant.graph_precision, Precision)
    return precision


def torch_backend(variant: Variant, device: str) -> TorchBackend:
    """Return the backend of a variant that runs in torch."""
    compiled = variant.backend == "torch-compile"
    return TorchBackend(torch.device(device), variant.precision, compiled)


_IN_FLOAT32 = (
    "onnx-fp16 must run on a GPU, got the CPU, where its graphs compute in float32; use onnx"
)


def missing(variant: Variant, device: str) -> str:
    """Return why a variant cannot run on a device; empty if no reason is known.

    For ``openvino``, and for ``onnx`` on a GPU, the runtime has to be asked as well.
    """
    if variant.backend == "onnx":
        return _IN_FLOAT32 if device == "cpu" and variant.precision == "fp16" else ""
    if variant.backend == "openvino":
        return "" if device == "cpu" else f"OpenVINO must run on the CPU, got {device}"
    if device == "cpu" and variant.precision == "tf32":
        return "TF32 must run on a GPU, got the CPU; omit torch-tf32"
    if device == "cuda" and not torch.cuda.is_available():
        return f"torch {torch.__version__} sees no CUDA device"
    return "" if device in ("cpu", "cuda") else f"torch has no device {device}"


def built(network: Network, device: torch.device | str = "cpu") -> nn.Module:
    """Build a network in float32 with synthetic weights, in inference mode; by default on the CPU.

    A GPU draws other weights than the CPU, in a hundredth of the time.
    """
    with torch.device(device):
        module = network.build().eval().requires_grad_(False)
    fill(module)
    return module


@dataclass(frozen=True)
class _Signature:
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]


def write_onnx(network: Network, target: Target, precision: Precision, path: Path) -> None:
    """Export a network with fixed shapes; the weights are stored next to the graph."""
    names = tuple(spec.name for spec in network.inputs)
    signature = _Signature(network.name, names, network.outputs)
    example = [torch.zeros(spec.shape, dtype=spec.dtype) for spec in network.inputs]
    model = lower(trace(signature, built(network), example, dynamic=False), target, precision)
    ir.save(model, path, external_data=f"{path.name}.data")
