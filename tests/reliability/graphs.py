"""Damaged networks, with the manifest corrected: opened by ONNX Runtime, and what opens is run once."""

import json
import os
import random
import shutil
from pathlib import Path

import mutate
import onnx
import subject
from manifests import open_and_run
from onnx import TensorProto
from spoil import MANIFEST
from workers import Report

_LOCATIONS = (
    b"\xff\xfe", b"../x", b"/etc/hostname", b"/dev/zero", b"", b".", b"x" * 5000, b"a\nb", b"\0", b"*/_ORT",
    b"manifest.json", "é".encode(),
)  # fmt: skip
_NUMBERS = (-1, 0, 1, 2, 3, 7, 1 << 20, 1 << 31, 1 << 40, (1 << 63) - 1, -(1 << 63))
_OPERATORS = ("Loop", "If", "NoSuch", "Relu", "Add", "Sin", "Conv", "Reshape", "Identity", "")


class Graphs:
    name, limit_s, per_fork, address_space = "graphs", 60.0, 1, 8 << 30

    def __init__(self) -> None:
        shared = Path(os.environ["RELIABILITY_SHARED"])
        self._toy = shared / "toy"
        subject.make_toy_bundle(self._toy)
        for path in self._toy.glob("*.onnx"):
            _make_external(path)
            _correct(self._toy, path)
            _correct(self._toy, path.with_name(_weights(path.name)))
        self._demo = shared / "demo"
        self._demo.mkdir()
        for path in subject.DEMO.iterdir():
            shutil.copy(path, self._demo)

    def build(self, seed: int, folder: Path) -> str:
        """Write the changed files of a seed into ``folder / "bundle"``; return what was done.

        The files that did not change are left out; see ``complete``.
        """
        rng = random.Random(f"graph {seed}")
        sound, bundle = self._sound(seed), folder / "bundle"
        bundle.mkdir()
        shutil.copy(sound / MANIFEST, bundle)
        name = rng.choice(sorted(path.name for path in sound.glob("*.cpu.onnx")))
        if rng.random() < 0.15:
            name = _weights(name)
        how, data = _damaged(rng, name, (sound / name).read_bytes())
        (bundle / name).write_bytes(data)
        _correct(bundle, bundle / name)
        return f"{sound.name} {name}: {how}"

    def complete(self, seed: int, bundle: Path) -> None:
        """Add the files that are as in the sound bundle."""
        for path in self._sound(seed).iterdir():
            if not (bundle / path.name).exists():
                os.link(path, bundle / path.name)

    def check(self, seed: int, folder: Path) -> Report:
        report = Report(seed)
        self.build(seed, folder)
        self.complete(seed, folder / "bundle")
        low_memory = random.Random(seed).random() < 0.5
        report.outcome = open_and_run(report, folder / "bundle", low_memory)
        return report

    def _sound(self, seed: int) -> Path:
        """The small bundle, where nearly every byte matters, mostly."""
        return self._demo if seed % 4 == 3 else self._toy


def _make_external(path: Path) -> None:
    """Move the weights of a network to a file beside it."""
    model, weights = onnx.load(path), _weights(path.name)
    onnx.save(model, path, save_as_external_data=True, location=weights, size_threshold=0)
    path.with_name(weights).touch()  # of a network without weights


def _weights(graph: str) -> str:
    """The name of a graph's file of weights."""
    return f"{graph.partition('.')[0]}.weights"


def _correct(bundle: Path, path: Path) -> None:
    """Give a file its size and SHA-256 in the manifest."""
    document = json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))
    record = {"size": path.stat().st_size, "sha256": subject.sha256(path)}
    document["files"][path.name] = record
    (bundle / MANIFEST).write_text(json.dumps(document), encoding="utf-8")


def _damaged(rng: random.Random, name: str, data: bytes) -> tuple[str, bytes]:
    """What is done to a file, and the file after it."""
    if name.endswith(".weights"):
        how = rng.choice(("cut", "empty", "mutated"))
        changed = {"cut": mutate.cut(rng, data), "empty": b"", "mutated": None}[how]
        return how, mutate.mutated(rng, data, mutate.ANY) if changed is None else changed
    location = _weights(name).encode()
    how = rng.choice(
        ("mutated", "mutated", "mutated", "empty", "location", "names", "model", "model")
    )
    if how == "mutated":
        return how, mutate.mutated(rng, data, mutate.ANY)
    if how == "empty":
        return how, rng.choice((b"", b"\0", b"\n" * 100, b"onnx", rng.randbytes(1000)))
    if how == "location":
        return how, data.replace(location, _fitted(rng.choice(_LOCATIONS), len(location)))
    if how == "names":
        old = rng.choice(
            (b"restored", b"mean", b"eps", b"image", b"hint", b"time", b"batch", b"lr")
        )
        new = rng.choice((b"\xff\xfe", b"\n", b"\0", b"x"))
        return f"{how} {old!r} {new!r}", data.replace(old, _fitted(new, len(old)))
    model = onnx.load_from_string(data)
    changes = [rng.choice(_CHANGES) for _ in range(rng.choice((1, 1, 2)))]
    for change in changes:
        change(rng, model)
    return " ".join(change.__name__ for change in changes), model.SerializeToString()


def _fitted(new: bytes, length: int) -> bytes:
    """The bytes at a given length, since lengths are written in the file."""
    return (new + b"." * length)[:length]


def _location(rng: random.Random, model: onnx.ModelProto) -> None:
    """Change where the weights of a tensor lie."""
    tensors = [t for t in model.graph.initializer if t.external_data]
    if tensors:
        entry = rng.choice(rng.choice(tensors).external_data)
        texts = [new for new in _LOCATIONS if new.isascii()]
        number = str(rng.choice(_NUMBERS))
        entry.value = rng.choice(texts).decode() if entry.key == "location" else number


def _tensor(rng: random.Random, model: onnx.ModelProto) -> None:
    """Change shape or type of a tensor of weights."""
    if model.graph.initializer:
        tensor = rng.choice(model.graph.initializer)
        if rng.random() < 0.3:
            tensor.data_type = rng.choice((*range(25), 99))
        elif tensor.dims and rng.random() < 0.7:
            tensor.dims[rng.randrange(len(tensor.dims))] = rng.choice(_NUMBERS)
        else:
            tensor.dims.append(rng.choice(_NUMBERS))


def _operator(rng: random.Random, model: onnx.ModelProto) -> None:
    """Change operator, domain or one number of a node."""
    node = rng.choice(model.graph.node)
    what = rng.randrange(3)
    if what == 0 or not node.attribute:
        node.op_type = rng.choice(_OPERATORS)
    elif what == 1:
        node.domain = rng.choice(("com.microsoft", "x", "ai.onnx.ml"))
    else:
        attribute = rng.choice(node.attribute)
        attribute.i = rng.choice(_NUMBERS)
        if attribute.ints:
            attribute.ints[rng.randrange(len(attribute.ints))] = rng.choice(_NUMBERS)


def _wires(rng: random.Random, model: onnx.ModelProto) -> None:
    """Join the nodes in another way, also to a ring."""
    node, other = rng.choice(model.graph.node), rng.choice(model.graph.node)
    node.input[rng.randrange(len(node.input))] = rng.choice((*other.output, *other.input, "x", ""))


def _nodes(rng: random.Random, model: onnx.ModelProto) -> None:
    """Remove or repeat a node."""
    index = rng.randrange(len(model.graph.node))
    if rng.random() < 0.5:
        del model.graph.node[index]
    else:
        model.graph.node.append(model.graph.node[index])
    if not model.graph.node:
        model.graph.node.add(op_type="Identity")


def _versions(rng: random.Random, model: onnx.ModelProto) -> None:
    """Change the version of the operators, or of the format."""
    if rng.random() < 0.5 and model.opset_import:
        model.opset_import[0].version = rng.choice((*_NUMBERS[:8], 6, 12, 99))
    else:
        model.ir_version = rng.choice((0, 1, 2, 3, 99, 1 << 40))


def _spec(rng: random.Random, model: onnx.ModelProto) -> None:
    """Change name, type or shape of an input or output of the graph."""
    value = rng.choice((*model.graph.input, *model.graph.output))
    tensor = value.type.tensor_type
    what = rng.randrange(4)
    if what == 0:
        value.name = rng.choice(("x", "", "a\nb", "é" * 400))
    elif what == 1:
        tensor.elem_type = rng.choice((0, TensorProto.DOUBLE, TensorProto.STRING, 99))
    elif what == 2 and tensor.shape.dim:
        tensor.shape.dim[rng.randrange(len(tensor.shape.dim))].dim_value = rng.choice(_NUMBERS)
    else:
        tensor.ClearField("shape")


_CHANGES = (_location, _location, _tensor, _tensor, _operator, _wires, _nodes, _versions, _spec)
