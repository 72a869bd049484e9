"""Damage to a bundle: values and keys of the manifest, its text, paths, and files."""

import json
import os
import random
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mutate

MANIFEST = "manifest.json"
_HUGE = 10**400
_VALUES = (
    None, True, False, 0, 1, -1, 2, 3, 0.5, 1000.5, -1e308, 1e308, 1e-320, float("nan"), float("inf"),
    float("-inf"), 1 << 31, 1 << 32, 1 << 53, 1 << 63, 1 << 64, -(1 << 63), _HUGE, "", "x", "1", "1000",
    "nan", "x" * 5000, "a\nb", "\0", "\ud800", "\x1b[31m", "../x", "/etc/hostname", "é" * 300, [], {},
    [[]], [{}], [1, 2], ["x"], {"x": 1}, {"name": "x"}, {"": None},
)  # fmt: skip
_AIMED = {
    "vae_factor": (1, 2, 3, 4, 5, 7, 16, 64, 1024, 65536, 0, -8, 8.0, "8", True, 1 << 40),
    "latent_channels": (1, 2, 3, 5, 6, 7, 64, 65536, 0, -4, 4.0, "4", True),
    "size_multiple": (1, 2, 3, 4, 5, 7, 8, 24, 64, 192, 256, 512, 1000, 4096, 65536, 0, -16, 16.0),
    "latent_scale": (float("nan"), float("inf"), float("-inf"), 0, -1.0, 0.0, 1e308, 1e-320, "1.0",
                     True, None, _HUGE),
    "timesteps": (0, 1, 499, 500, 999, 1000.5, 1000.0, "1000", True, 1 << 20, 1 << 31, 1 << 40, _HUGE),
    "linear_start": (0, 1e-320, 1e-12, 0.011, 0.9, 0.99999, 1, -0.1, float("nan"), "0.00085", True),
    "linear_end": (0, 0.00085, 0.5, 0.99, 0.99999, 1, 2, float("nan"), "0.012", float("inf"), True),
    "precision": ("fp8", "", None, 16, "FP32"),
    "format_version": (0, 1, 2.0, True, "2", None),
}  # fmt: skip
_PATHS = (
    "../{}", "/{}", "./{}", "sub/../{}", "sub/{}", "a\\{}", "..\\{}", "{}\0", "{}\n", "{}/", "{}/.", "~/{}",
    "", ".", "..", "/dev/zero", "/etc/hostname", MANIFEST, "x" * 300, "x/" * 3000 + "{}", "é{}", "\ud800{}",
    "con", "{} ", "%00{}", "file:///{}", "\x1b[31m{}",
)  # fmt: skip


def spoiled(rng: random.Random, bundle: Path) -> str:
    """Damage a sound bundle in one way; return a description."""
    ways = (_value, _value, _aimed, _aimed, _specs, _keys, _stages, _text, _paths, _files, _files)
    return rng.choice(ways)(rng, bundle)


def _load(bundle: Path) -> Any:
    return json.loads((bundle / MANIFEST).read_text(encoding="utf-8"))


def _store(bundle: Path, document: Any) -> None:
    text = json.dumps(document, indent=1)
    (bundle / MANIFEST).write_text(text, encoding="utf-8")


def _holders(value: Any, path: str = "") -> list[tuple[Any, Any, str]]:
    """Every place in a document: what holds it, under which key, and its path."""
    keys = value if isinstance(value, dict) else range(len(value) if isinstance(value, list) else 0)
    found = []
    for key in keys:
        found.append((value, key, f"{path}/{key}"))
        found += _holders(value[key], f"{path}/{key}")
    return found


def _place(rng: random.Random, document: Any) -> tuple[Any, Any, str]:
    """A place in a document, near its root as often as deep in it."""
    places = _holders(document)
    depth = rng.choice(sorted({path.count("/") for _, _, path in places}))
    return rng.choice([place for place in places if place[2].count("/") == depth])


def _value(rng: random.Random, bundle: Path) -> str:
    """Put one to three odd values anywhere."""
    document, told = _load(bundle), []
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        holder, key, path = _place(rng, document)
        new = rng.choice(_VALUES)
        old = holder[key]
        if isinstance(old, (int, float)) and rng.random() < 0.3:
            new = rng.choice((-old, old + 1, old * 2, old * 1.0, str(old), old + 0.5))
        holder[key] = new
        told.append(f"{path} = {str(new)[:60]!r}")
    _store(bundle, document)
    return ", ".join(told)


def _aimed(rng: random.Random, bundle: Path) -> str:
    """Give one number that the pipeline reckons with a value that does not fit the networks."""
    document = _load(bundle)
    name = rng.choice(sorted(_AIMED))
    new = rng.choice(_AIMED[name])
    holder = document["schedule"] if name in document["schedule"] else document
    holder[name] = new
    if name == "linear_start" and rng.random() < 0.5:
        document["schedule"]["linear_end"] = 0.999999
    _store(bundle, document)
    return f"{name} = {str(new)[:60]}"


def _specs(rng: random.Random, bundle: Path) -> str:
    """Change name, type or shape of one input or output."""
    document = _load(bundle)
    stage = rng.choice(sorted(document["stages"]))
    side = rng.choice(("inputs", "outputs"))
    tensor = rng.choice(document["stages"][stage][side])
    key = rng.choice(("name", "name", "dtype", "shape", "axis"))
    new = rng.choice((*_VALUES, "float16", "int64", "time", ["batch", 4]))
    if key == "axis":
        tensor["shape"][rng.randrange(len(tensor["shape"]))] = new
    else:
        tensor[key] = new
    _store(bundle, document)
    return f"{key} of {tensor['name']} in {stage}'s {side} = {str(new)[:60]!r}"


def _keys(rng: random.Random, bundle: Path) -> str:
    """Remove, rename, add or repeat an entry."""
    document = _load(bundle)
    holder, key, path = _place(rng, document)
    what = rng.choice(("remove", "rename", "add", "repeat", "all"))
    if what == "remove":
        del holder[key]
    elif what == "all":
        holder[key] = type(holder[key])()
    elif isinstance(holder, list):
        holder.append(holder[key] if what == "repeat" else rng.choice(_VALUES))
    else:
        name = f"{key}{rng.choice(('x', chr(10), chr(0), ' '))}"
        holder[name] = holder[key] if what != "add" else rng.choice(_VALUES)
        if what == "rename":
            del holder[key]
    _store(bundle, document)
    return f"{what} {path}"


def _stages(rng: random.Random, bundle: Path) -> str:
    """Swap two stages, add one, or let two share a network."""
    document = _load(bundle)
    stages = document["stages"]
    a, b = rng.sample(sorted(stages), 2)
    what = rng.choice(("swap", "share", "condition", "unknown"))
    if what == "swap":
        stages[a], stages[b] = stages[b], stages[a]
    elif what == "share":
        stages[a] = stages[b]
    else:
        stages["condition" if what == "condition" else "x"] = stages[a]
    _store(bundle, document)
    return f"{what} {a} {b}"


def _text(rng: random.Random, bundle: Path) -> str:
    """Damage the text of the manifest."""
    path = bundle / MANIFEST
    data = path.read_bytes()
    whole = {
        "empty": b"",
        "not UTF-8": data.replace(b"toy", b"\xff\xfe"),
        "a byte order mark": b"\xef\xbb\xbf" + data,
        "UTF-16": data.decode().encode("utf-16"),
        "deep lists": b"[" * 100_000,
        "deep objects": b'{"a":' * 100_000,
        "deep value": data.replace(b'"model": {}', b'"model": ' + b"[" * 5000 + b"]" * 5000),
        "a long number": data.replace(b'"vae_factor": 8', b'"vae_factor": ' + b"9" * 5000),
        "a list": b"[1, 2]",
        "a string": b'"manifest"',
        "two documents": data + data,
        "no number": data.replace(b"1000", b"1000e"),
        "a key twice": data.replace(b'"vae_factor": 8', b'"vae_factor": 8,\n "vae_factor": 4'),
    }
    name = rng.choice((*whole, "random", "random", "random", "random", "random", "random"))
    path.write_bytes(whole[name] if name in whole else mutate.mutated(rng, data, mutate.ANY))
    return f"text: {name}"


def _paths(rng: random.Random, bundle: Path) -> str:
    """Give a network another path, in the stage, in the list of files, or in both; perhaps move it."""
    document = _load(bundle)
    stage = rng.choice(sorted(document["stages"]))
    old = document["stages"][stage]["graphs"]["cpu"]
    new = rng.choice(_PATHS).format(old)
    where = rng.choice(("both", "both", "both", "stage", "files"))
    if where != "files":
        document["stages"][stage]["graphs"]["cpu"] = new
    if where != "stage":
        document["files"][new] = document["files"].pop(old)
    moved = rng.random() < 0.5 and not new.startswith("/") and _move(bundle, old, new)
    _store(bundle, document)
    return f"path of {stage} in {where} = {new[:60]!r}, moved: {moved}"


def _move(bundle: Path, old: str, new: str) -> bool:
    try:
        target = bundle / new
        target.parent.mkdir(parents=True, exist_ok=True)
        (bundle / old).rename(target)
    except (OSError, ValueError):
        return False
    return True


def _files(rng: random.Random, bundle: Path) -> str:
    """Put something else in the place of a file, or of the bundle itself."""
    names = sorted(path.name for path in bundle.iterdir())
    name = rng.choice((*names, MANIFEST, MANIFEST, "."))
    what = rng.choice(sorted(_PLACES))
    path = bundle if name == "." else bundle / name
    kept = bundle.with_name("kept")
    path.rename(kept)
    _PLACES[what](path, kept)
    if rng.random() < 0.1 and bundle.is_dir():
        (bundle / "more.onnx").write_bytes(b"x")
    return f"{name}: {what}"


def _part(path: Path, kept: Path) -> None:
    if kept.is_dir():
        path.mkdir()
    else:
        path.write_bytes(kept.read_bytes()[: kept.stat().st_size // 2])


def _longer(path: Path, kept: Path) -> None:
    path.write_bytes((kept.read_bytes() if kept.is_file() else b"") + b"\0")


def _changed(path: Path, kept: Path) -> None:
    data = bytearray(kept.read_bytes() if kept.is_file() else b"x")
    data[-1] ^= 1
    path.write_bytes(data)


def _socket(path: Path, kept: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))


def _sparse(path: Path, kept: Path) -> None:
    with path.open("wb") as file:
        file.truncate(8 << 30)


def _two_links(path: Path, kept: Path) -> None:
    path.symlink_to("loop")
    (path.parent / "loop").symlink_to(path.name)


_PLACES: dict[str, Callable[[Path, Path], object]] = {
    "missing": lambda path, kept: None,
    "empty": lambda path, kept: path.touch(),
    "cut": _part,
    "longer": _longer,
    "changed": _changed,
    "a folder": lambda path, kept: path.mkdir(),
    "a FIFO": lambda path, kept: os.mkfifo(path),
    "a socket": _socket,
    "a huge file": _sparse,
    "a link to itself": lambda path, kept: path.symlink_to(path.name),
    "a loop of links": _two_links,
    "a dead link": lambda path, kept: path.symlink_to("nowhere"),
    "a link to what lies outside": lambda path, kept: path.symlink_to(kept),
    "a link to /dev/zero": lambda path, kept: path.symlink_to("/dev/zero"),
}
