"""Diagnostics: what TensorRT's error messages and its engine inspector mean. Does not import it."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

LEAST_FP16_SHARE = 0.5
"""Share of float16 layers below which an engine of a float16 network is rejected. A network that
became float32 has none; float32 islands and fused layers account for the rest."""

# Patterns of messages and their meaning. The first match counts; memory comes first, because running
# out of it causes the other messages too.
_MEANINGS: tuple[tuple[str, str], ...] = (
    (r"out of memory|OutOfMemory|cudaErrorMemoryAllocation|insufficient memory|FAILED_ALLOCATION",
     "out of memory; close other programs, give the builder less workspace, or use smaller tiles"),
    (r"could not find any implementation for node",
     "TensorRT found no kernel, which nearly always means that memory or workspace ran out while it "
     "measured; close other programs, allow more workspace, or use smaller tiles"),
    (r"magic ?tag|kPLAN_MAGIC_TAG",
     "the plan is damaged, or was built on another system or by an incompatible TensorRT; build it again"),
    (r"version tag|not compatible with this version|incompatible serialization|safeSerializationVersion"
     r"|kSERIALIZATION_VERSION|serializationVersion",
     "the plan was built by another version of TensorRT; build it again"),
    (r"different compute|generated on incompatible device|incompatible device|Target GPU SM",
     "the plan was built on another kind of GPU; build it again"),
    (r"\bSerialization (?:assertion|error|\()",
     "the plan is damaged; build it again"),
    (r"no importer registered|plugin not found|Unsupported ONNX|UNSUPPORTED_NODE",
     "this TensorRT does not support an operator of the network; export the checkpoint with --opset 18"),
    (r"no CUDA-capable device|CUDA initialization failure|CUDA failure: (?:100|35)|insufficient driver",
     "TensorRT finds no GPU, or the driver is older than its CUDA; see dossr-doctor"),
    (r"does not satisfy any optimization profiles|out of bounds.*profile|profile.*out of",
     "the image's size is outside what the engine was built for"),
)  # fmt: skip


def meaning(messages: Iterable[str]) -> str:
    """Explain TensorRT's error messages in one line that quotes the first of them."""
    lines = [" ".join(message.split()) for message in messages]
    joined = "\n".join(lines)
    for pattern, text in _MEANINGS:
        if re.search(pattern, joined, re.IGNORECASE):
            quoted = next(line for line in lines if re.search(pattern, line, re.IGNORECASE))
            return f"{text} (TensorRT: {_shortened(quoted)})"
    return _shortened(lines[0]) if lines else "TensorRT gave no reason"


def fp16_share(inspected: str) -> float:
    """Return the share of an engine's layers with float16 inputs or outputs.

    ``inspected`` is the inspector's JSON. Only layers that compute with floating-point numbers
    count; reformatting, constants and shapes do not. TensorRT 10 stores a tensor's type in
    ``Format/Datatype`` ("Half", "Row major linear FP16 format"), 11 in a field of its own. Raise
    ValueError if no layer shows its types, as in an engine built without detailed verbosity.
    """
    precisions = [_precision(layer) for layer in json.loads(inspected).get("Layers", [])]
    counted = [precision for precision in precisions if precision]
    if not counted:
        raise ValueError("the inspector shows no layer's types")
    return counted.count("half") / len(counted)


def _precision(layer: Any) -> str | None:
    """Return 'half', 'float', or None for a layer that does not count."""
    if not isinstance(layer, Mapping) or layer.get("LayerType") in _MOVES:
        return None
    types = [_type(t) for side in ("Inputs", "Outputs") for t in layer.get(side, [])]
    if any(re.search(r"half|fp16|float16", name) for name in types):
        return "half"
    return "float" if any(re.search(r"float|fp32", name) for name in types) else None


_MOVES = ("Reformat", "NoOp", "Constant", "Shape", "ShapeHostToDevice", "Signal", "Wait")


def _type(tensor: Any) -> str:
    """Return the type description of an inspected tensor in lower case."""
    if not isinstance(tensor, Mapping):
        return ""
    fields = {key.lower(): str(value).lower() for key, value in tensor.items()}
    return fields.get("datatype") or fields.get("format/datatype") or fields.get("format", "")


def _shortened(line: str, length: int = 200) -> str:
    return line if len(line) <= length else f"{line[: length - 3]}..."
