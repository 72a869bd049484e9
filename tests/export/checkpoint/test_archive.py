"""Pickles of strangers: tensors are read, and nothing else happens."""

import argparse
import collections
import functools
import io
import os
import pathlib
import pickle
import pickletools
import sys
import zipfile

import numpy as np
import pytest
import torch

from dossr.export import CheckpointError
from dossr.export.checkpoint.archive import Inert, read_archive
from dossr.export.checkpoint.reader import read_checkpoint


class Callback:
    """Of a training library that is not installed where the checkpoint is read."""

    def __init__(self):
        self.best, self.path = 0.5, pathlib.PurePosixPath("a/b")


class Settings(dict):
    """Such as Lightning's AttributeDict."""


class _Slots:
    __slots__ = ("size",)


def _archive(path, data, storages=(), **more):
    """Write an archive with this pickle, as torch does."""
    with zipfile.ZipFile(path, "w", **more) as archive:
        archive.writestr("archive/data.pkl", data)
        archive.writestr("archive/byteorder", "little")
        for number, storage in enumerate(storages):
            archive.writestr(f"archive/data/{number}", storage)
    return path


@pytest.fixture
def lightning(tiny_state):
    """What Lightning saves: the state dict beside callbacks, hyper-parameters and optimizers."""
    slots, settings = _Slots(), Settings(width=3)
    slots.size = 3
    settings.mode = "train"
    return {
        "epoch": 3,
        "state_dict": collections.OrderedDict(tiny_state),
        "callbacks": {Callback: {"best": 1.0}, Callback(): [slots], "EMA{'decay': 0.99}": None},
        "hyper_parameters": argparse.Namespace(lr=1e-4, levels=np.arange(3), rate=np.float64(2), other=settings),
        "optimizer_states": [{"state": {0: {"step": torch.zeros(()), "exp_avg": torch.ones(3)}}}],
        "lr_schedulers": [functools.partial(print, sep=""), {1, 2}, slice(3), Ellipsis, os.path.join],
        "loops": collections.defaultdict(list, a=[collections.deque([1])]),
    }  # fmt: skip


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_checkpoint_of_lightning_is_read(tmp_path, tiny_state, lightning, protocol):
    torch.save(lightning, tmp_path / "l.ckpt", pickle_protocol=protocol)
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / "l.ckpt", weights_only=True)
    checkpoint = read_checkpoint(tmp_path / "l.ckpt")
    assert all(torch.equal(t, tiny_state[n]) for n, t in checkpoint.tensors.items())
    assert checkpoint.weights == "state_dict"
    found = read_archive(tmp_path / "l.ckpt")
    assert found["epoch"] == 3
    assert isinstance(found["hyper_parameters"], Inert)
    assert not vars(found["hyper_parameters"])
    assert found["optimizer_states"][0]["state"][0]["exp_avg"].tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    "name",
    ["float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "int64", "int32", "int16", "int8",
     "uint8", "uint16", "bool"],
)  # fmt: skip
def test_tensors_come_back_as_torch_loads_them(tmp_path, name):
    """Views, transposed, shared, empty, scalar, and parameters."""
    base = torch.arange(24).to(getattr(torch, name)).reshape(2, 3, 4)
    state = {"whole": base, "part": base[1, :, ::2], "turned": base.transpose(0, 2), "empty": base[:0],
             "scalar": base[0, 0, 0], "parameter": torch.nn.Parameter(base, requires_grad=False)}  # fmt: skip
    torch.save(state, tmp_path / "x.ckpt")
    found = read_archive(tmp_path / "x.ckpt")
    assert found.keys() == state.keys()
    for key, tensor in state.items():
        assert (found[key].dtype, found[key].shape) == (tensor.dtype, tensor.shape)
        assert found[key].double().equal(tensor.double())


def test_tensors_are_mapped_not_read(tmp_path):
    """A file that is changed afterwards changes the tensors."""
    torch.save({"a": torch.zeros(1 << 20)}, tmp_path / "x.ckpt")
    found = read_archive(tmp_path / "x.ckpt")["a"]
    data = (tmp_path / "x.ckpt").read_bytes()
    with (tmp_path / "x.ckpt").open("r+b") as file:
        file.seek(len(data) // 2)
        file.write(np.float32(1).tobytes() * 4)
    assert found.count_nonzero() > 0


def test_an_archive_that_was_packed_again_is_read(tmp_path, tiny_state):
    torch.save(tiny_state, tmp_path / "x.ckpt")
    with (
        zipfile.ZipFile(tmp_path / "x.ckpt") as old,
        zipfile.ZipFile(tmp_path / "y.ckpt", "w", zipfile.ZIP_DEFLATED) as new,
    ):
        for name in old.namelist():
            new.writestr(name, old.read(name))
    tensors = read_checkpoint(tmp_path / "y.ckpt").tensors
    assert all(torch.equal(tensor, tiny_state[name]) for name, tensor in tensors.items())


class _Runs:
    """Reduces to a call."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def _opcodes(mark):
    """Pickles by hand that would run ``touch mark`` in Python's unpickler, or come near it."""
    command = f"touch {mark}".encode()
    text = b"X" + len(command).to_bytes(4, "little") + command
    rebuild = b"ctorch._utils\n_rebuild_tensor_v2\n"
    return {
        "reduce": b"\x80\x02cposix\nsystem\n" + text + b"\x85R.",
        "inst": b"(" + text + b"iposix\nsystem\n.",
        "obj": b"(cposix\nsystem\n" + text + b"o.",
        "stack_global": b"\x80\x04\x8c\x05posix\x8c\x06system\x93" + text + b"\x85R.",
        "dotted": b"\x80\x04\x8c\x02os\x8c\x11path.os.system.__call__\x93" + text + b"\x85R.",
        "newobj": b"\x80\x02csubprocess\nPopen\n](X\x05\x00\x00\x00touch"
        + b"X" + len(str(mark)).to_bytes(4, "little") + str(mark).encode() + b"e\x85\x81.",
        "eval": b"\x80\x02cbuiltins\neval\nX\x2c\x00\x00\x00"
        + f"__import__('os').system({'touch ' + str(mark)!r})".encode()[:44].ljust(44) + b"\x85R.",
        "chain": b"\x80\x02cbuiltins\ngetattr\ncos\n__dict__\nX\x06\x00\x00\x00system\x86R" + text + b"\x85R.",
        "build": b"\x80\x02" + rebuild + b"}X\x0c\x00\x00\x00__setstate__cposix\nsystem\nsb" + text + b"b.",
        "slots": b"\x80\x02" + rebuild + b"N}X\x08\x00\x00\x00__code__cposix\nsystem\ns\x86b.",
        "class": b"\x80\x02ccollections\nOrderedDict\nN}X\x0b\x00\x00\x00__reduce__Ns\x86b.",
        "persistent": b"\x80\x02(X\x07\x00\x00\x00storagecposix\nsystem\n" + text + b"NK\x01tQ.",
        "key": b"\x80\x02}(cposix\nsystem\n" + text + b"\x85RK\x01u.",
    }  # fmt: skip


@pytest.mark.parametrize("name", list(_opcodes("x")))
def test_no_opcode_runs_anything(tmp_path, name):
    mark = tmp_path / "m"
    data = _opcodes(mark)[name]
    path = _archive(tmp_path / "x.ckpt", data)
    before = dict(vars(torch._utils._rebuild_tensor_v2)), torch._utils._rebuild_tensor_v2.__code__
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert not mark.exists()
    now = torch._utils._rebuild_tensor_v2
    assert (dict(vars(now)), now.__code__) == before


def test_the_pickles_above_do_harm_elsewhere(tmp_path):
    """Python's own unpickler runs the plain ones, so that the test above can fail."""
    for name in ("reduce", "inst", "obj", "stack_global"):
        mark = tmp_path / name
        pickle.loads(_opcodes(mark)[name])
        assert mark.exists(), name
        list(pickletools.genops(_opcodes(mark)[name]))


def test_a_harmful_object_beside_the_weights_is_inert(tmp_path, tiny_state):
    mark = tmp_path / "mark"
    state = {**tiny_state, "extra": _Runs(os.system, f"touch {mark}"), "x": _Runs(eval, "1/0")}
    torch.save(state, tmp_path / "x.ckpt")
    assert read_checkpoint(tmp_path / "x.ckpt").tensors.keys() == tiny_state.keys()
    torch.save({"state_dict": _Runs(os.system, f"touch {mark}")}, tmp_path / "y.ckpt")
    with pytest.raises(CheckpointError, match="not a DoSSR checkpoint"):
        read_checkpoint(tmp_path / "y.ckpt")
    assert not mark.exists()


@pytest.mark.parametrize("how", ["legacy", "pickle"])
def test_harm_in_an_older_format_is_refused(tmp_path, tiny_state, how):
    mark, path = tmp_path / "mark", tmp_path / "harmful.ckpt"
    state = {**tiny_state, "extra": _Runs(os.system, f"touch {mark}")}
    if how == "pickle":
        path.write_bytes(pickle.dumps({"state_dict": state["extra"]}))
    else:
        torch.save(state, path, _use_new_zipfile_serialization=False)
    with pytest.raises(CheckpointError, match=r"must hold tensors only; .*loading could run code"):
        read_checkpoint(path)
    assert not mark.exists()


def test_nothing_that_is_named_is_imported(tmp_path):
    path = _archive(tmp_path / "x.ckpt", b"\x80\x02cthis\nd\ncantigravity\ngeohash\n\x86.")
    read_archive(path)
    assert not {"this", "antigravity"} & sys.modules.keys()


def test_a_whole_model_is_refused_with_what_to_save(tmp_path):
    torch.save(torch.nn.Linear(2, 2), tmp_path / "x.ckpt")
    with pytest.raises(
        CheckpointError,
        match=r"must hold a state dict, got an object; save the model's state_dict\(\)",
    ):
        read_checkpoint(tmp_path / "x.ckpt")


def _of_storage(size, count, stride=1, offset=0, key="0"):
    """A pickle of one float32 tensor over a storage."""
    tensor, mark = io.BytesIO(), object()

    class Writer(pickle.Pickler):
        def persistent_id(self, item):
            return ("storage", torch.FloatStorage, key, "cpu", count) if item is mark else None

    Writer(tensor, 2).dump({"a": _Runs(torch._utils._rebuild_tensor_v2, mark, offset, (size,), (stride,), False, {})})  # fmt: skip
    return tensor.getvalue()


@pytest.mark.parametrize(
    "pickled",
    [
        _of_storage(5, 4),
        _of_storage(2, 4, stride=4),
        _of_storage(4, 4, offset=1),
        _of_storage(4, 4, offset=-1),
        _of_storage(4, 5),
        _of_storage(4, 1 << 60),
        _of_storage(4, -4),
        _of_storage(4, 4, key="../data.pkl"),
        b"\x80\x02}",
        b"\x80\x02}r\xff\xff\xff\x7f.",  # a place in the memo for which 16 GB would be taken
        b"",
        b"\x80\xff.",
    ],
)
def test_what_reaches_beyond_a_storage_is_refused(tmp_path, pickled):
    storage = np.zeros(4, np.float32).tobytes()
    path = _archive(tmp_path / "x.ckpt", pickled, [storage])
    with pytest.raises(
        CheckpointError, match=r"cannot be read as a checkpoint|tensors only"
    ) as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)
    assert read_archive(_archive(tmp_path / "y.ckpt", _of_storage(4, 4), [storage]))["a"].shape == (
        4,
    )


def test_big_endian_numbers_and_foreign_archives_are_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "b.ckpt", "w") as archive:
        archive.writestr("archive/data.pkl", pickle.dumps({}))
        archive.writestr("archive/byteorder", "big")
    with zipfile.ZipFile(tmp_path / "c.ckpt", "w") as archive:
        archive.writestr("word/document.xml", "<x/>")
    for name, said in (("b", "must be little-endian"), ("c", r"has no data\.pkl")):
        with pytest.raises(CheckpointError, match=said):
            read_checkpoint(tmp_path / f"{name}.ckpt")
