"""Reads the tensors of a ``.ckpt`` file and runs nothing that it names.

Since torch 1.6 such a file is a zip archive: a pickle of the structure, and a file for each storage. A
pickle names classes and functions, which Python's unpickler imports and calls. Here nothing is imported.
The few names that make a tensor stand for functions of this file; any other, such as a callback or the
hyper-parameters of Lightning, becomes an inert object, which is empty but for its items.
"""

import io
import mmap
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_STORAGES = {
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "UntypedStorage": torch.uint8,
}
_DTYPES = {name: value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
_LARGEST_PICKLE = 1 << 30  # bytes; the official model's has 300 kB
_LOCAL_HEADER = 30  # bytes, before the name and the extra field


class Inert(dict[Any, Any]):
    """Stands for an object of an unknown class: takes every step of a pickle and keeps only items."""

    def __new__(cls, *_: Any, **__: Any) -> "Inert":
        return super().__new__(cls)

    def __init__(self, *_: Any, **__: Any) -> None:
        super().__init__()

    def __call__(self, *_: Any, **__: Any) -> "Inert":
        return Inert()

    def __setstate__(self, _state: Any) -> None:
        """Forget the state."""

    def append(self, _item: Any) -> None:
        """Forget an item of a list."""

    def extend(self, _items: Any) -> None:
        """Forget items of a list."""

    def add(self, _item: Any) -> None:
        """Forget an item of a set."""

    __hash__ = object.__hash__  # type: ignore[assignment]  # a dict has none, and it may be a key
    __eq__ = object.__eq__


def read_archive(path: Path) -> Any:
    """Return the object in a ``.ckpt`` archive, with memory-mapped tensors and ``Inert`` objects.

    Raise ValueError, or another exception of Python's zip and pickle modules, for a damaged file.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        entries = {info.filename: info for info in archive.infolist()}
        name = next((n for n in entries if n.endswith("/data.pkl") or n == "data.pkl"), None)
        if name is None:
            raise ValueError("the archive has no data.pkl")
        if entries[name].file_size > _LARGEST_PICKLE:
            raise ValueError(f"its data.pkl must be below {_LARGEST_PICKLE} bytes")
        folder = name.removesuffix("data.pkl")
        order = f"{folder}byteorder"
        if order in entries and archive.read(order).strip() != b"little":
            raise ValueError("its numbers must be little-endian")
        data = archive.read(name)
        _check_opcodes(data)
        mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
        try:
            return _Unpickler(archive, folder, mapped, data).load()
        except pickle.UnpicklingError as error:
            raise ValueError(f"its pickle is damaged: {error}") from error


def _check_opcodes(data: bytes) -> None:
    """Raise ValueError for an unknown or incomplete opcode, or a place in the memo that none precedes.

    Python's unpickler would take memory for all places before it, up to 64 GB.
    """
    for number, (opcode, argument, _) in enumerate(pickletools.genops(data)):
        if opcode.name.endswith("PUT") and int(argument or 0) > number:
            raise ValueError(f"its pickle is damaged: place {argument} of the memo comes too early")


class _Unpickler(pickle.Unpickler):
    """Gives a pickle no class or function but tensors', dictionaries' and inert ones."""

    def __init__(
        self, archive: zipfile.ZipFile, folder: str, mapped: mmap.mmap, data: bytes
    ) -> None:
        super().__init__(io.BytesIO(data))
        self._archive, self._folder, self._mapped = archive, folder, mapped
        self._storages: dict[str, Tensor] = {}
        self._inert: dict[tuple[str, str], type[Inert]] = {}

    def find_class(self, module: str, name: str) -> Any:
        """Return what a name stands for; import nothing."""
        if (module, name) == ("collections", "OrderedDict"):
            return OrderedDict
        if module in ("torch", "torch.storage", "torch.cuda"):
            if name in _STORAGES:
                return _STORAGES[name]
            if name in _DTYPES:
                return _DTYPES[name]
        if module in ("torch._utils", "torch._tensor") and name in _REBUILD:
            return _REBUILD[name]()
        return self._inert.setdefault((module, name), type(name, (Inert,), {}))

    def persistent_load(self, pid: Any) -> Any:
        """Return a storage as a tensor of one axis, or an inert object for a kind without a dtype."""
        kind, dtype, key, _, count = pid
        if kind != "storage" or not isinstance(dtype, torch.dtype):
            return Inert()
        if key not in self._storages:
            self._storages[key] = self._storage(f"{self._folder}data/{key}", dtype, count)
        return self._storages[key]

    def _storage(self, name: str, dtype: torch.dtype, count: int) -> Tensor:
        info, size = self._archive.getinfo(name), count * dtype.itemsize
        if info.file_size < size or count < 0:
            raise ValueError(f"its file {name} must have {size} bytes, got {info.file_size}")
        if count == 0:
            return torch.empty(0, dtype=dtype)
        if info.compress_type != zipfile.ZIP_STORED:
            if info.file_size > size:
                raise ValueError(f"its file {name} must have {size} bytes, got {info.file_size}")
            return torch.frombuffer(bytearray(self._archive.read(name)), dtype=dtype, count=count)
        header = self._mapped[info.header_offset : info.header_offset + _LOCAL_HEADER]
        lengths = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        offset = info.header_offset + _LOCAL_HEADER + lengths
        return torch.frombuffer(self._mapped, dtype=dtype, count=count, offset=offset)


def _tensor(storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Any:
    """Return a view of a storage; torch checks that it lies inside."""
    if not isinstance(storage, Tensor):
        return Inert()
    return storage.as_strided(tuple(size), tuple(stride), offset)


def _tensor_of_dtype(
    storage: Any, offset: int, size: Sequence[int], stride: Sequence[int], *more: Any
) -> Any:
    """Return a view of an untyped storage, for dtypes that have no storage class."""
    dtype = more[2] if len(more) > 2 else None
    if not isinstance(storage, Tensor) or not isinstance(dtype, torch.dtype):
        return Inert()
    return _tensor(storage.view(dtype), offset, size, stride)


def _first(value: Any, *_: Any) -> Any:
    """Return the tensor of a parameter."""
    return value


def _of_type(rebuild: Any, _kind: Any, arguments: Any, *_: Any) -> Any:
    """Return the tensor of a subclass of tensors."""
    return rebuild(*arguments)


def _fresh(function: Callable[..., Any]) -> Callable[[], Callable[..., Any]]:
    """Return a factory of wrappers, so that a pickle that changes one changes nothing else."""
    return lambda: lambda *arguments: function(*arguments)


_REBUILD = {
    "_rebuild_tensor": _fresh(_tensor),
    "_rebuild_tensor_v2": _fresh(_tensor),
    "_rebuild_tensor_v3": _fresh(_tensor_of_dtype),
    "_rebuild_parameter": _fresh(_first),
    "_rebuild_parameter_with_state": _fresh(_first),
    "_rebuild_from_type_v2": _fresh(_of_type),
}
