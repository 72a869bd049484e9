"""What is known about TensorRT without importing it: versions, operator sets, its errors, its inspector.

Nothing of TensorRT was executed in the making of this toolkit so far: the facts are NVIDIA's
documentation (10.3 to 11.4.1), and the names those of the published bindings.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

OLDEST = (10, 3)
ATTENTION = (10, 14)  # the first parser that reads opset 23's Attention as one operator
JETSON_AGAIN = (11, 4, 1)  # 11.0 to 11.4.0 do not serve any JetPack
LEAST_FP16_SHARE = 0.5
"""The share of half layers below which an engine of a float16 network is refused. A network that
silently became float32 has none; float32 islands and fused layers take some from the rest."""

# What TensorRT says, and what it means. The first that fits counts; memory comes first, because
# running out of it ends in every other message too.
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
     "this TensorRT does not know an operator of the network; export the checkpoint with --opset 18"),
    (r"no CUDA-capable device|CUDA initialization failure|CUDA failure: (?:100|35)|insufficient driver",
     "TensorRT finds no GPU, or the driver is older than its CUDA; see dossr-doctor"),
    (r"does not satisfy any optimization profiles|out of bounds.*profile|profile.*out of",
     "the image's size is outside what the engine was built for"),
)  # fmt: skip


def numbers(version: str) -> tuple[int, ...]:
    """A version such as 10.16.1.11.post1 as numbers: (10, 16, 1, 11)."""
    found = re.match(r"\d+(?:\.\d+)*", version)
    return tuple(int(part) for part in found[0].split(".")) if found else ()


def refusal(version: str, jetpack: str | None) -> str | None:
    """Why this TensorRT cannot be used here, in one line, or None. ``jetpack`` is None off Jetson."""
    found = numbers(version)
    if found < OLDEST:
        return f"TensorRT must be 10.3 or newer, got {version}"
    if jetpack is None or found < (11,):
        return None
    if found < JETSON_AGAIN:
        return (
            f"TensorRT {version} does not serve Jetson: 11.0 to 11.4.0 have no JetPack; use the "
            "10.x of your JetPack, or 11.4.1 or newer with JetPack 7.2.2 or newer"
        )
    # Of the Linux release alone no more than the major number is known: take 7 for new enough.
    if numbers(jetpack) and numbers(jetpack) != (7,) and numbers(jetpack) < (7, 2, 2):
        return (
            f"TensorRT {version} needs JetPack 7.2.2 or newer, got JetPack {jetpack}; "
            "use the TensorRT 10.x that came with it"
        )
    return None


def best_opset(version: str) -> int:
    """The operator set to export for this TensorRT: 23 where Attention stays whole, else 18."""
    return 23 if numbers(version) >= ATTENTION else 18


def meaning(messages: Iterable[str]) -> str:
    """What TensorRT's error messages mean, in one line with TensorRT's own first words behind."""
    said = [" ".join(message.split()) for message in messages]
    whole = "\n".join(said)
    for pattern, text in _MEANINGS:
        if re.search(pattern, whole, re.IGNORECASE):
            line = next(m for m in said if re.search(pattern, m, re.IGNORECASE))
            return f"{text} (TensorRT: {_shortened(line)})"
    return _shortened(said[0]) if said else "TensorRT did not say why"


def fp16_share(inspected: str) -> float:
    """The share of an engine's layers that take or give float16, from the inspector's JSON.

    Only layers that take or give floating-point numbers and compute with them count: reformatting,
    constants and shapes do not. TensorRT 10 gives a tensor's type in ``Format/Datatype``
    ("Half", "Row major linear FP16 format"), 11 in a field of its own. Raises ValueError where no
    layer shows its types, which is so for an engine that was not built with detailed verbosity.
    """
    precisions = [_precision(layer) for layer in json.loads(inspected).get("Layers", [])]
    counted = [precision for precision in precisions if precision]
    if not counted:
        raise ValueError("the inspector shows no layer's types")
    return counted.count("half") / len(counted)


def _precision(layer: Any) -> str | None:
    """'half', 'float', or None for a layer that does not count."""
    if not isinstance(layer, Mapping) or layer.get("LayerType") in _MOVES:
        return None
    types = [_type(t) for side in ("Inputs", "Outputs") for t in layer.get(side, [])]
    if any(re.search(r"half|fp16|float16", name) for name in types):
        return "half"
    return "float" if any(re.search(r"float|fp32", name) for name in types) else None


_MOVES = ("Reformat", "NoOp", "Constant", "Shape", "ShapeHostToDevice", "Signal", "Wait")


def _type(tensor: Any) -> str:
    """The words of an inspected tensor that tell its type, in lower case."""
    if not isinstance(tensor, Mapping):
        return ""
    fields = {key.lower(): str(value).lower() for key, value in tensor.items()}
    return fields.get("datatype") or fields.get("format/datatype") or fields.get("format", "")


def _shortened(line: str, length: int = 200) -> str:
    return line if len(line) <= length else f"{line[: length - 3]}..."
