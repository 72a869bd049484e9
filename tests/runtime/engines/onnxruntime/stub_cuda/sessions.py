"""Opens .onnx files with the CUDA provider over the stubs and prints what became of them, as JSON.

Runs in a process of its own, whose onnxruntime is the GPU build:
``python sessions.py {"files": [...], "sizes": {"batch": 1, ...}, "options": {...}}``.
"""

import collections
import json
import sys
import tempfile
from pathlib import Path

import onnx
import onnxruntime as ort

from dossr.runtime.engines.onnxruntime.session import CUDA

_VIEWS = {"Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"}
_WEIGHTS = "weights"


def partition(path: Path, sizes: dict[str, int], options: dict[str, str]) -> dict[str, object]:
    """Return the nodes of ONNX Runtime's optimised graph: operators, those on the CPU, copies, launches.

    A node launches if it runs on the GPU and is no view, which changes a shape and no memory.
    """
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        settings = ort.SessionOptions()
        settings.log_severity_level = 4
        settings.optimized_model_filepath = str(optimised)
        for name, text in {
            "session.record_ep_graph_assignment_info": "1",
            "session.optimized_model_external_initializers_file_name": _WEIGHTS,
            "session.optimized_model_external_initializers_min_size_in_bytes": "1024",
        }.items():
            settings.add_session_config_entry(name, text)
        for name, size in sizes.items():
            settings.add_free_dimension_override_by_name(name, size)
        session = ort.InferenceSession(
            path, settings, providers=[(CUDA, options)], enable_fallback=0
        )
        assert session.get_providers()[0] == CUDA
        nodes = onnx.load(optimised, load_external_data=False).graph.node
    on_cpu = {
        (node.op_type, node.name)
        for part in session.get_provider_graph_assignment_info()
        if part.ep_name != CUDA
        for node in part.get_nodes()
    }
    on_gpu = [n.op_type for n in nodes if not n.name or (n.op_type, n.name) not in on_cpu]
    return {
        "operators": dict(collections.Counter(on_gpu).most_common()),
        "cpu": dict(collections.Counter(operator for operator, _ in on_cpu)),
        "copies": sum(operator.startswith("Memcpy") for operator in on_gpu),
        "launches": sum(operator not in _VIEWS for operator in on_gpu),
    }


def main() -> None:
    """Print one partition a file; a session that ONNX Runtime refuses gives its reason instead."""
    request = json.loads(sys.argv[1])
    found = []
    for path in request["files"]:
        try:
            found.append(partition(Path(path), request["sizes"], request["options"]))
        except Exception as error:
            found.append({"refused": str(error)})
    print(json.dumps(found))  # noqa: T201


if __name__ == "__main__":
    main()
