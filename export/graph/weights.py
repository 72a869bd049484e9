"""Writes the graphs of one stage over one file of weights."""

from collections.abc import Callable, Mapping
from pathlib import Path

import onnx_ir as ir

_INLINE = 1024  # bytes; smaller tensors stay in the graph, as shape inference reads them
_ALIGNMENT = 4096  # bytes; a memory map starts at a page


def write_graphs(
    graphs: Mapping[Path, ir.Model], weights: Path, advance: Callable[[int], None]
) -> dict[Path, Path]:
    """Write each graph to its path, and all weights to one file in the same folder.

    Weights of one name are written once: the passes of all targets name equal tensors equally. So are
    equal graphs, at the path of the first. Return the file of each path. ``advance`` is called with the
    number of bytes written.
    """
    places: dict[str, ir.ExternalTensor] = {}
    with weights.open("wb") as file:
        for model in graphs.values():
            for name, value in model.graph.initializers.items():
                tensor = value.const_value
                assert tensor is not None
                if tensor.nbytes <= _INLINE:
                    continue
                if name not in places:
                    file.write(bytes(-file.tell() % _ALIGNMENT))
                    places[name] = _external(tensor, name, weights, file.tell())
                    file.write(tensor.tobytes())
                    advance(tensor.nbytes)
                place = places[name]
                assert (place.dtype, place.shape) == (tensor.dtype, tensor.shape), name
                value.const_value = place
    files: dict[bytes, Path] = {}
    found = {}
    for path, model in graphs.items():
        content = ir.to_proto(model).SerializeToString()  # the weights stay in their file
        found[path] = files.setdefault(content, path)
        if found[path] == path:
            path.write_bytes(content)
    return found


def weights_size(graphs: Mapping[Path, ir.Model]) -> int:
    """Return the size of the weights that ``write_graphs`` will write, in bytes."""
    sizes = {
        name: value.const_value.nbytes
        for model in graphs.values()
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }
    return sum(size for size in sizes.values() if size > _INLINE)


def _external(
    tensor: ir.TensorProtocol, name: str, weights: Path, offset: int
) -> ir.ExternalTensor:
    return ir.ExternalTensor(
        weights.name,
        offset,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=name,
        base_dir=weights.parent,
    )
