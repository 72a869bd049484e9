"""Fixtures: golden data, synthetic checkpoints, exported bundles, and a bundle of toy networks.

Tests may run in several processes (pytest -n 2). Each process then gets its own core, because torch
and ONNX Runtime would otherwise use all cores in each. Slow fixtures are shared.
"""

import json
import os
import signal
from pathlib import Path

import numpy as np
import onnx
import pytest
from filelock import FileLock
from onnx import TensorProto, helper

from dossr.runtime import Pipeline, load_pipeline
from dossr.runtime.bundle import FileRecord, Manifest, StageRecord, open_bundle, sha256
from dossr.runtime.tensors import TensorSpec
from dossr.solvers import NoiseLevels

GOLDEN = Path(__file__).parent / "golden"


def pytest_configure(config):
    worker = os.environ.get("PYTEST_XDIST_WORKER")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(scope="session")
def common(tmp_path_factory):
    """A folder shared by all processes of a test run."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "common"
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def user_cache(common):
    """The user's cache folder, shared by all processes of a test run and by no other."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
            patch.setenv(name, str(common / "cache"))
        yield common / "cache" / "dossr"


@pytest.fixture(scope="session")
def golden():
    """The folder of golden data."""
    return GOLDEN


@pytest.fixture(scope="session")
def tiny_state():
    """The synthetic weights of the tiny model; cond_encoder and VAE encoder differ."""
    from dossr.export.checkpoint.synthetic import synthetic_state

    return synthetic_state(json.loads((GOLDEN / "tiny_layout.json").read_text()))


@pytest.fixture(scope="session")
def checkpoints(common, tiny_state):
    """Files with the tiny model's weights: separate encoders (bare), shared ones (state_dict)."""
    import torch

    from dossr.export.checkpoint.synthetic import synthetic_state

    folder = common / "checkpoints"
    with FileLock(common / "checkpoints.lock"):
        if not folder.exists():
            folder.mkdir()
            torch.save(tiny_state, folder / "separate.ckpt")
            shapes = {name: tensor.shape for name, tensor in tiny_state.items()}
            shared = synthetic_state(shapes, shared_encoder=True)
            renamed = {f"module.{name}": tensor for name, tensor in shared.items()}
            torch.save({"state_dict": renamed, "epoch": 3}, folder / "shared.ckpt")
    return folder


@pytest.fixture(scope="session")
def bundles(checkpoints, common):
    """bundles(name, fp16=...) exports a tiny checkpoint once and returns its folder."""
    from dossr.export import export_bundle

    def export(name, fp16=False):
        out = common / f"{name}-{'fp16' if fp16 else 'fp32'}"
        with FileLock(f"{out}.lock"):
            if not out.exists():
                checkpoint = checkpoints / f"{name}.ckpt"
                config = GOLDEN / "tiny.yaml"
                export_bundle(checkpoint, out, config=config, fp16=fp16, tile=32)
        return out

    return export


@pytest.fixture(scope="session")
def golden_errors():
    """golden_errors(bundle, data, order, color_fix, target, device) runs graphs on a golden file's inputs.

    On a device they run as a user runs them, in float32; without one, as ``_on_cpu`` says.
    """
    return _errors


@pytest.fixture(scope="session")
def toy_bundle(tmp_path_factory):
    """A bundle of toy networks with the real inputs and outputs: enlarge, shrink, scale, enlarge."""
    return _toy_bundle(tmp_path_factory.mktemp("toy") / "bundle")


@pytest.fixture
def fresh_bundle(tmp_path):
    """A toy bundle that a test may modify."""
    return _toy_bundle(tmp_path / "bundle")


def _relative(result, expected):
    expected = np.asarray(expected, np.float64)
    return np.linalg.norm(result - expected) / np.linalg.norm(expected)


def _on_cpu(bundle, target):
    """A pipeline of the graphs of any target on ONNX Runtime's CPU, rounded as the target rounds."""
    from dossr.export.rounded_engine import RoundedEngine

    opened = open_bundle(bundle)
    if target == "cpu":
        return load_pipeline(bundle)
    paths = {name: opened.path(name, target) for name in opened.manifest.stages}
    return Pipeline({n: RoundedEngine(path) for n, path in paths.items()}, opened.manifest)


def _errors(bundle, data, order, color_fix, target="cpu", device=None):
    """The relative error of each intermediate against a golden file, and the 8-bit image's."""
    seen = {}
    pipeline = (
        load_pipeline(bundle, device, precision="fp32", log=lambda line: None)
        if device
        else _on_cpu(bundle, target)
    )
    hr = pipeline.upscale(
        data["lr"],
        steps=len(data["x_t"]),
        order=order,
        color_fix=color_fix,
        noise=data["noise"],
        observe=lambda name, array: seen.setdefault(name, []).append(array),
    )
    found = {
        "x": np.stack(seen["x"]),
        "eps": np.stack(seen["eps"]),
        "x0": np.stack(seen["x0"]),
        "restored": seen["restored"][0],
        "hint": seen["hint"][0],
        "latent": seen["latent"][0],
        "decoded": 2.0 * seen["decoded"][0] - 1.0,
        "image": seen["image"][0],
    }
    keys = {"x": "x_t", "x0": "pred_x0", "restored": "preprocessed", "hint": "control_latent",
            "latent": "final_latent"}  # fmt: skip
    worst = {name: _relative(array, data[keys.get(name, name)]) for name, array in found.items()}
    levels = np.abs(hr.astype(int) - data["image_u8"].astype(int)).max()
    return worst, levels, seen["image"][0]


def _toy_bundle(folder):
    folder.mkdir(parents=True)
    four = helper.make_tensor("four", TensorProto.FLOAT, [4], [1, 1, 4, 4])
    eight = helper.make_tensor("eight", TensorProto.FLOAT, [4], [1, 1, 8, 8])
    widen = helper.make_tensor(
        "widen", TensorProto.FLOAT, [4, 3, 1, 1], [*np.eye(3).ravel(), 1 / 3, 1 / 3, 1 / 3]
    )
    narrow = helper.make_tensor("narrow", TensorProto.FLOAT, [3, 4, 1, 1], np.eye(3, 4).ravel())
    tenth = helper.make_tensor("tenth", TensorProto.FLOAT, [], [0.1])
    networks = {
        "restorer": _graph(
            [helper.make_node("Resize", ["lr", "", "four"], ["restored"], mode="nearest")],
            {"lr": 3}, {"restored": 3}, [four],
        ),
        "encoder": _graph(
            [
                helper.make_node("AveragePool", ["restored"], ["p"], kernel_shape=[8, 8], strides=[8, 8]),
                helper.make_node("Conv", ["p", "widen"], ["mean"]),
                helper.make_node("Mul", ["mean", "tenth"], ["std"]),
            ],
            {"restored": 3}, {"mean": 4, "std": 4}, [widen, tenth],
        ),
        "denoiser": _graph(
            [
                helper.make_node("Sub", ["x", "hint"], ["d"]),
                helper.make_node("Mul", ["d", "tenth"], ["s"]),
                helper.make_node("ReduceMean", ["time"], ["t"], keepdims=0),
                helper.make_node("Mul", ["t", "tiny"], ["u"]),
                helper.make_node("Add", ["s", "u"], ["eps"]),
            ],
            {"x": 4, "hint": 4, "time": None}, {"eps": 4},
            [tenth, helper.make_tensor("tiny", TensorProto.FLOAT, [], [1e-6])],
        ),
        "decoder": _graph(
            [
                helper.make_node("Conv", ["x", "narrow"], ["n"]),
                helper.make_node("Resize", ["n", "", "eight"], ["image"], mode="linear"),
            ],
            {"x": 4}, {"image": 3}, [narrow, eight],
        ),
    }  # fmt: skip
    stages, files = {}, {}
    for name, graph in networks.items():
        path = folder / f"{name}.cpu.onnx"
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
        onnx.checker.check_model(model)
        onnx.save(model, path)
        specs = [
            tuple(
                TensorSpec(
                    v.name,
                    "float32",
                    tuple(d.dim_param or d.dim_value for d in v.type.tensor_type.shape.dim),
                )
                for v in values
            )
            for values in (graph.input, graph.output)
        ]
        stages[name] = StageRecord({"cpu": path.name, "openvino": path.name}, *specs)
        files[path.name] = FileRecord(path.stat().st_size, sha256(path))
    Manifest(
        toolkit_version="0", checkpoint="toy", checkpoint_sha256="0", precision="fp32",
        prompt="", latent_scale=1.0, latent_channels=4, vae_factor=8, size_multiple=16,
        schedule=NoiseLevels(), model={}, stages=stages, files=files,
    ).write(folder)  # fmt: skip
    return folder


def _graph(nodes, inputs, outputs, weights):
    def values(channels):
        return [
            helper.make_tensor_value_info(
                name,
                TensorProto.FLOAT,
                ["batch"] if c is None else ["batch", c, f"{name}_h", f"{name}_w"],
            )
            for name, c in channels.items()
        ]

    return helper.make_graph(nodes, "toy", values(inputs), values(outputs), weights)


@pytest.fixture
def heeding():
    """Processes receive Ctrl-C, even if the tests run in the background and inherit that it is ignored."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)
