"""dossr-export --debug: names the layer at which a graph departs, on real graphs in ONNX Runtime."""

import subprocess
import sys

import numpy as np
import onnx_ir as ir
import pytest
import torch
from click.testing import CliRunner
from onnx import TensorProto, helper, numpy_helper

from dossr.export.cli import main
from dossr.export.debug import Debugger, table
from dossr.export.graph.lower import lower
from dossr.export.graph.weights import write_graphs
from dossr.runtime.bundle import DEMO, TARGETS, GoldenCase
from dossr.runtime.engines.tensorrt.library import select_library
from dossr.runtime.hardware import Gpu, GpuError

IMAGE = [1, 16, 6, 6]


def _canonical(loudness):
    """Return conv -> * loudness -> square -> sigmoid -> conv, with weights large enough to be external."""
    random = np.random.default_rng(0)
    weights = {
        name: (random.normal(size=(16, 16, 3, 3)) / 12).astype(np.float32) for name in ("w1", "w2")
    }
    nodes = [
        helper.make_node("Conv", ["x", "w1"], ["first"], pads=[1] * 4),
        helper.make_node("Mul", ["first", "loudness"], ["loud"]),
        helper.make_node("Mul", ["loud", "loud"], ["square"]),
        helper.make_node("Sigmoid", ["square"], ["gate"]),
        helper.make_node("Conv", ["gate", "w2"], ["y"], pads=[1] * 4),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, IMAGE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, IMAGE)],
        [
            *(numpy_helper.from_array(array, name) for name, array in weights.items()),
            helper.make_tensor("loudness", TensorProto.FLOAT, [], [loudness]),
        ],
    )
    opsets = [helper.make_opsetid("", 23)]
    return ir.serde.deserialize_model(helper.make_model(graph, opset_imports=opsets, ir_version=10))


def _departure(folder, precision, loudness=1.0, change=lambda model: None):
    """Write the graphs for the CPU and for TensorRT, the latter changed, and compare them."""
    canonical = _canonical(loudness)
    models = {target: lower(canonical, target, precision) for target in ("cpu", "tensorrt")}
    change(models["tensorrt"])
    graphs = {target: folder / f"stage.{target}.onnx" for target in models}
    write_graphs(
        {graphs[target]: model for target, model in models.items()},
        folder / "stage.weights",
        lambda _count: None,
    )
    x = np.random.default_rng(1).normal(size=IMAGE).astype(np.float32)
    case = GoldenCase({"x": x}, {"y": np.ones(IMAGE, np.float32)})
    debugger = Debugger(precision)
    before = sorted(folder.iterdir())
    _, found, *_ = results = list(debugger.departures("stage", graphs, case))
    assert sorted(folder.iterdir()) == before  # nothing is written beside the graphs
    return found, table(results, debugger)


def test_the_layer_that_overflows_float16_is_named(tmp_path):
    found, text = _departure(tmp_path, "fp16", loudness=300.0)
    assert found.is_over
    assert (found.layer.operator, found.layer.name) == ("Mul", "square")
    assert np.isnan(found.layer.error)
    assert 0 < found.layer.inputs < 1e-3
    assert "OVER: Mul square " in text


def test_float16_is_rounded_at_every_layer(tmp_path):
    found, _ = _departure(tmp_path, "fp16")
    assert not found.is_over
    assert found.compared == (5, 5)
    assert 1e-4 < found.layer.error < 1e-3  # half a unit in the last of 11 bits: 4.9e-4 at most


def test_a_wrong_layer_is_named_and_not_those_behind_it(tmp_path):
    def change(model):
        (gate,) = (node for node in model.graph if node.op_type == "Sigmoid")
        gate.op_type = "Tanh"

    found, text = _departure(tmp_path, "fp32", change=change)
    assert (found.is_over, found.layer.operator, found.layer.name) == (True, "Sigmoid", "gate")
    assert found.layer.inputs == 0.0
    assert found.output > 1e-4
    assert "OVER: Sigmoid gate " in text


def test_a_tensor_of_one_graph_alone_is_left_out_and_counted(tmp_path):
    def change(model):
        for node in model.graph:
            if node.outputs[0].name == "loud":
                node.outputs[0].name = "renamed"

    found, _ = _departure(tmp_path, "fp32", change=change)
    assert (found.is_over, found.compared) == (False, (4, 5))


def test_a_graph_that_cannot_run_has_its_reason_in_the_table(tmp_path):
    def change(model):
        next(iter(model.graph)).op_type = "Nonsense"

    found, text = _departure(tmp_path, "fp32", change=change)
    assert found.layer is None
    assert "stage     tensorrt " in text
    assert "Nonsense" in text


def test_an_engine_that_cannot_be_built_has_the_compilers_reason(tmp_path, monkeypatch):
    """The real TensorRT-RTX, told of a GPU that this machine lacks."""
    select_library("tensorrt-rtx")
    from dossr.runtime.engines.tensorrt import build

    try:
        build.find_gpu(0)
    except GpuError:
        gpu = Gpu("NVIDIA GeForce RTX 4090", "8.9", 24 << 30, False, "13.0", "580.65.06")
        monkeypatch.setattr(build, "find_gpu", lambda index: gpu)
    else:
        pytest.skip("this machine has a GPU")
    _, text = _departure(tmp_path, "fp16")
    *_, line = text.splitlines()
    assert line.startswith("stage     tensorrt-rtx ")
    assert "TensorRT cannot build stage.tensorrt.onnx" in line
    assert "finds no GPU" in line


def _without(module, *arguments):
    """Run dossr-export in a process without a package."""
    code = f"import sys; sys.modules['{module}'] = None; from dossr.export.cli import main; main(sys.argv[1:])"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)], capture_output=True, text=True
    )


def test_no_layer_of_the_demo_is_over_and_no_torch_is_needed():
    before = sorted(DEMO.iterdir())
    result = _without("torch", DEMO, "--debug")
    assert (result.returncode, result.stderr) == (0, "")
    head, *lines = result.stdout.splitlines()
    assert head.startswith("stage     target ")
    found = {tuple(line.split()[:2]) for line in lines}
    stages = ("restorer", "encoder", "denoiser", "decoder")
    assert {(stage, target) for stage in stages for target in TARGETS} <= found
    assert "OVER" not in result.stdout
    assert len([line for line in lines if " most: " in line]) >= len(stages) * (len(TARGETS) - 1)
    assert sorted(DEMO.iterdir()) == before


def test_without_polygraphy_the_error_names_the_command():
    result = _without("polygraphy", DEMO, "--debug")
    assert result.returncode == 2
    (line,) = result.stderr.splitlines()
    assert line.startswith("dossr-export: ")
    assert "polygraphy" in line
    assert "pip install 'dossr[export,cpu]'" in line


def _run(*arguments):
    return CliRunner().invoke(main, list(map(str, arguments)))


def test_a_failed_export_prints_the_report_and_fails(tmp_path, tiny_state):
    first, last = "preprocess_model.conv_first.weight", "preprocess_model.conv_last.weight"
    loud = {first: torch.full_like(tiny_state[first], 6e4), last: tiny_state[last] * 1e-6}
    torch.save({**tiny_state, **loud}, tmp_path / "model.ckpt")
    result = _run(tmp_path / "model.ckpt", "-o", tmp_path / "bundle", "--fp16", "--debug")
    assert result.exit_code == 1
    head, *lines = result.stdout.splitlines()
    assert "first layer over 1e-02" in head
    rows = {line.split()[1]: line for line in lines if line.startswith("restorer")}
    assert rows.keys() >= set(TARGETS)
    over = {target for target, row in rows.items() if " OVER: Conv conv2d " in row}
    assert over == {"cuda", "tensorrt", "tensorrt-10.3"}  # the others compute in float32
    assert result.stderr.splitlines()[-1].startswith("dossr-export: restorer.cpu.onnx ")
    assert [path.name for path in tmp_path.iterdir()] == ["model.ckpt"]


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (
            [DEMO, "--debug", "--fp16"],
            "a finished bundle takes --engine (with it --build and --tile), --int8, --debug",
        ),
        ([DEMO, "--debug", "-o", "x"], "a finished bundle takes"),
        ([DEMO.parent, "--debug"], "is not a bundle"),
    ],
)
def test_wrong_use_is_one_line(arguments, reason):
    result = _run(*arguments)
    assert result.exit_code == 2
    (line,) = result.stderr.splitlines()
    assert reason in line


def test_the_graph_for_the_cpu_and_golden_vectors_are_needed(tmp_path, fresh_bundle):
    checkpoint = tmp_path / "model.ckpt"
    checkpoint.write_bytes(b"")
    result = _run(checkpoint, "-o", tmp_path / "bundle", "--target", "cuda", "--debug")
    assert result.exit_code == 2
    assert "--debug compares with the graph for cpu, got graphs for cuda" in result.stderr
    result = _run(fresh_bundle, "--debug")
    assert result.exit_code == 2
    assert "has no golden vectors of the restorer" in result.stderr
