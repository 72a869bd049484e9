"""``config.pbtxt``: what Triton must know of a model, in protobuf's text format."""

import json
from collections.abc import Mapping

from ...runtime.bundle import Manifest
from ...runtime.serving.inputs import INPUTS, Kind
from ...runtime.serving.triton import IMAGE, PIXELS
from .serve_settings import RepositoryOptions

WARM_PIXELS, WARM_STEPS = "pixels", "steps"
"""The files of the folder ``warmup``: uint8 (side, side, 3) and one int64."""

_TYPES: Mapping[Kind, str] = {
    "integer": "TYPE_INT64",
    "real": "TYPE_FP64",
    "text": "TYPE_STRING",
    "switch": "TYPE_BOOL",
}


def config_text(manifest: Manifest, options: RepositoryOptions) -> str:
    """Return the text of config.pbtxt."""
    tensors = [(IMAGE, "TYPE_STRING", "[ 1 ]"), (PIXELS, "TYPE_UINT8", "[ -1, -1, 3 ]")]
    single = [(each.name, _TYPES[each.kind], "[ 1 ]") for each in INPUTS]
    parts = [
        f"# {_quoted(manifest.checkpoint)}, {manifest.precision}, exported by dossr {manifest.toolkit_version}",
        f"name: {_quoted(options.name)}",
        'backend: "python"',
        "max_batch_size: 0  # images differ in size; tiles of one image are batched inside",
        *(_tensor("input", *each, optional=True) for each in (*tensors, *single)),
        *(_tensor("output", *each, optional=False) for each in tensors),
        _instances(options),
        "version_policy { latest { num_versions: 1 } }",
        "response_cache { enable: false }",
        *_queue(options),
        _warmup(options.warm_side),
        *(_parameter(*each) for each in options.service.as_parameters().items()),
    ]
    return "\n".join(parts) + "\n"


def _tensor(role: str, name: str, kind: str, dims: str, *, optional: bool) -> str:
    rest = " optional: true" if optional else ""
    return f"{role} {{ name: {_quoted(name)} data_type: {kind} dims: {dims}{rest} }}"


def _instances(options: RepositoryOptions) -> str:
    kind = "KIND_GPU" if options.service.is_on_gpu else "KIND_CPU"
    return f"instance_group {{ kind: {kind} count: {options.instances} }}"


def _queue(options: RepositoryOptions) -> list[str]:
    """Return the bounds of the queue; empty where there are none.

    Triton has them in its batcher, which batches nothing here, but may let a request wait half a second
    for it, as measured with server 2.51.
    """
    if not (options.queue or options.timeout):
        return []
    return [
        "dynamic_batching {\n  default_queue_policy {\n    timeout_action: REJECT\n"
        f"    default_timeout_microseconds: {round(options.timeout * 1e6)}\n"
        f"    allow_timeout_override: true\n    max_queue_size: {options.queue}\n  }}\n}}"
    ]


def _warmup(side: int) -> str:
    """Return the sample that each instance upscales before it counts as ready."""
    pixels = (
        f"data_type: TYPE_UINT8 dims: [ {side}, {side}, 3 ] input_data_file: {_quoted(WARM_PIXELS)}"
    )
    steps = f"data_type: TYPE_INT64 dims: [ 1 ] input_data_file: {_quoted(WARM_STEPS)}"
    return (
        'model_warmup {\n  name: "one tile, one step"\n  batch_size: 1\n'
        f"  inputs {{ key: {_quoted(PIXELS)} value {{ {pixels} }} }}\n"
        f'  inputs {{ key: "steps" value {{ {steps} }} }}\n}}'
    )


def _parameter(name: str, value: str) -> str:
    return f"parameters {{ key: {_quoted(name)} value {{ string_value: {_quoted(value)} }} }}"


def _quoted(text: str) -> str:
    return json.dumps(text)
