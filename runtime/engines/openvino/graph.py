"""An ``.onnx`` file as OpenVINO reads it: its identity, inputs and outputs."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import openvino as ov
from openvino.frontend import FrontEndManager

from ...errors import BundleError, EngineError
from ...tensors import TensorSpec
from .core import running

Signature = tuple[Mapping[str, TensorSpec], Mapping[str, TensorSpec]]
"""Inputs and outputs by name."""


@dataclass(frozen=True)
class Graph:
    """An ``.onnx`` file and what identifies it."""

    path: Path
    weights: Path | None = None
    """The file of its external weights."""

    files: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of both, by name; without them its compiled models are not kept on disk."""


_DECOMPRESSION = "decompression_0"
"""The key by which OpenVINO's intermediate representation marks a Convert of a stored weight."""


def read_model(path: Path) -> ov.Model:
    """Read an ``.onnx`` file; its weights are mapped, not read.

    Those stored in float16 are marked, so that OpenVINO orders them for its kernels as they are. Otherwise
    it would convert all of them to float32 first and keep both copies.
    """
    frontend = FrontEndManager().load_by_framework("onnx")  # read_model tries all on a damaged file
    model = frontend.convert(frontend.load(str(path)))
    for node in model.get_ops():
        if node.get_type_name() == "Convert" and _is_stored_weight(node.input_value(0)):
            node.get_rt_info()[_DECOMPRESSION] = True
    if not (model.inputs and model.outputs):  # an empty file is a valid model
        raise EngineError(f"{path} has no inputs or no outputs: it is damaged or no network")
    return model


def _is_stored_weight(value: ov.Output) -> bool:
    """Return whether a value is a constant in float16; numbers of shapes are converted too."""
    is_constant = value.get_node().get_type_name() == "Constant"
    return bool(is_constant and value.get_element_type() == ov.Type.f16)


def read_signature(path: Path) -> Signature:
    """Return the inputs and outputs of an ``.onnx`` file; free axes are named by their place."""
    with running(f"cannot open {path}"):
        model = read_model(path)
        return dict(_specs(model.inputs)), dict(_specs(model.outputs))


def check_signature(path: Path, model: ov.Model, signature: Signature) -> None:
    """Raise BundleError unless a file has these inputs and outputs, in any size of the free axes."""
    for ports, specs in zip((model.inputs, model.outputs), signature, strict=True):
        found = dict(_specs(ports))
        if found.keys() != specs.keys() or not all(_fits(found[n], specs[n]) for n in found):
            raise BundleError(
                f"the inputs/outputs of {path} do not match the manifest; "
                "export the checkpoint again"
            )


def _specs(ports: Iterable[ov.Output]) -> Iterator[tuple[str, TensorSpec]]:
    for port in ports:
        name = port.get_any_name()
        axes = [
            axis.get_length() if axis.is_static else f"{name}_{number}"
            for number, axis in enumerate(port.get_partial_shape())
        ]
        yield name, TensorSpec(name, port.get_element_type().to_dtype().name, tuple(axes))


def _fits(found: TensorSpec, wanted: TensorSpec) -> bool:
    """Return whether two specifications differ in the names of free axes only."""

    def fixed(spec: TensorSpec) -> list[int | None]:
        return [axis if isinstance(axis, int) else None for axis in spec.shape]

    return found.dtype == wanted.dtype and fixed(found) == fixed(wanted)
