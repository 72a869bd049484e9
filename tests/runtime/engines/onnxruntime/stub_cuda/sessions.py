"""Opens .onnx files with the CUDA provider over the stubs and prints what became of them, as JSON.

Runs in a process whose onnxruntime is the GPU build: ``python sessions.py REQUEST``, where REQUEST is
``{"files": [...], "sizes": {"batch": 1, ...}, "options": {...}}``; ``options`` of the provider replace
those of the runtime.
"""

import collections
import json
import sys
import tempfile
from pathlib import Path

import click
import onnx
import onnxruntime as ort

from dossr.runtime.engines.onnxruntime.cuda_provider import cuda_provider

_VIEWS = {"Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"}
_CUDA = cuda_provider(stream=1, device=0, tf32=False)
_SETTINGS = {
    "session.record_ep_graph_assignment_info": "1",
    "session.optimized_model_external_initializers_file_name": "weights",
    "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
}


def partition(path: Path, sizes: dict[str, int], options: dict[str, str]) -> dict[str, object]:
    """Return what runs where in ONNX Runtime's optimised graph.

    ``operators`` and ``copies`` (between host and device) on the GPU, operators on the CPU (``cpu``),
    and ``launches``: the nodes on the GPU that are no views, which change a shape and no memory.
    """
    session, nodes = _optimised(path, sizes, options)
    on_cpu = [
        (node.op_type, node.name)
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != _CUDA.name
        for node in part.get_nodes()
    ]
    on_gpu = [n.op_type for n in nodes if not n.name or (n.op_type, n.name) not in on_cpu]
    return {
        "operators": dict(collections.Counter(on_gpu).most_common()),
        "cpu": dict(collections.Counter(operator for operator, _ in on_cpu)),
        "copies": sum(operator.startswith("Memcpy") for operator in on_gpu),
        "launches": sum(operator not in _VIEWS for operator in on_gpu),
    }


def _optimised(
    path: Path, sizes: dict[str, int], options: dict[str, str]
) -> tuple[ort.InferenceSession, list[onnx.NodeProto]]:
    """Open a session; return it and the nodes that it runs."""
    with tempfile.TemporaryDirectory() as folder:
        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        settings.optimized_model_filepath = f"{folder}/optimised.onnx"
        for name, text in _SETTINGS.items():
            settings.add_session_config_entry(name, text)
        for name, size in sizes.items():
            settings.add_free_dimension_override_by_name(name, size)
        provider = (_CUDA.name, {**_CUDA.options, **options})
        session = ort.InferenceSession(path, settings, providers=[provider], enable_fallback=0)
        assert session.get_providers()[0] == _CUDA.name, "the provider did not start"
        optimised = onnx.load(settings.optimized_model_filepath, load_external_data=False)
    return session, list(optimised.graph.node)


def main() -> None:
    """Print one partition a file; a session that ONNX Runtime refuses gives its reason instead."""
    request = json.loads(sys.argv[1])
    found = []
    for path in request["files"]:
        try:
            found.append(partition(Path(path), request["sizes"], request["options"]))
        except Exception as error:  # what ONNX Runtime raises has no common class
            found.append({"refused": str(error)})
    click.echo(json.dumps(found))


if __name__ == "__main__":
    main()
