"""Diagnostics: what TensorRT's error messages and its engine inspector mean. Does not import it."""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

LEAST_FP16_SHARE = 0.5
"""Share of float16 layers below which a float16 engine gets a warning: it may have become float32,
or be fused into few layers with float32 ends, which is no fault."""

# Patterns of messages and their meaning. The first match counts. Memory comes first, because running
# out of it causes the other messages too; a missing driver last, because a build ahead of time
# reports it and goes on.
_NO_MEMORY = (
    r"out of memory|OutOfMemory|cudaErrorMemoryAllocation|insufficient memory|FAILED_ALLOCATION"
)
_MEANINGS: tuple[tuple[str, str], ...] = (
    (_NO_MEMORY,
     "out of memory; close other programs, give the builder less workspace, or use smaller tiles"),
    (r"FP32 GEMM is not supported",
     "GPUs of compute capability 7.5 (Turing) are not served: TensorRT-RTX computes no float32 products "
     "there; build for 8.0 and newer (RTX 30 and newer)"),
    (r"not supported by a dedicated kernel",
     "no fused kernel takes an attention of this network, which must be float16; "
     "export the checkpoint again with --fp16"),
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
     "this TensorRT does not support an operator of the network; export the checkpoint again, with "
     "the targets tensorrt and tensorrt-10.3"),
    (r"does not satisfy any optimization profiles|out of bounds.*profile|profile.*out of"
     r"|Dimension mismatch for tensor",
     "the image's size is outside what the engine is built for"),
    (r"MyelinCheckException|Error Code 1: Myelin",
     "TensorRT's compiler refuses the network; please report it"),
    (r"no CUDA-capable device|CUDA initialization failure|CUDA failure: (?:100|35)|cudaError 35|insufficient",
     "TensorRT finds no GPU, or the driver is older than its CUDA; see dossr-doctor"),
)  # fmt: skip
_CURE = "build it again"


def meaning(messages: Iterable[str]) -> str:
    """Explain TensorRT's error messages in one line that quotes the first of them."""
    lines = _lines(messages)
    found = _first(_MEANINGS, lines)
    if found:
        return f"{found[0]} (TensorRT: {_shortened(found[1])})"
    return _shortened(lines[0]) if lines else "TensorRT gave no reason"


def is_out_of_memory(messages: Iterable[str]) -> bool:
    """Return whether messages say that memory ran out."""
    return any(re.search(_NO_MEMORY, message) for message in messages)


def is_outdated(messages: Iterable[str]) -> bool:
    """Return whether a plan was refused because it is damaged or of another version or GPU."""
    found = _first(_MEANINGS, _lines(messages))
    return found is not None and found[0].endswith(_CURE)


def _lines(messages: Iterable[str]) -> list[str]:
    """Return each message on one line, without the name of the function that reports it."""
    return [re.sub(r"^I\w+::\w+: ", "", " ".join(message.split())) for message in messages]


def _first(meanings: Iterable[tuple[str, str]], lines: Iterable[str]) -> tuple[str, str] | None:
    """Return the first meaning that fits a line, and that line."""
    for pattern, text in meanings:
        for line in lines:
            if re.search(pattern, line, re.IGNORECASE):
                return text, line
    return None


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
