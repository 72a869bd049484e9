"""A bundle from a store, fetched on this node. No cluster."""

import json

import pytest

from dossr.runtime.fleet.node import find_bundle
from dossr.runtime.fleet.places import Place, find_place


@pytest.fixture
def stored(toy_bundle, tmp_path, monkeypatch):
    """The URI of a bundle in a store, with an engine; this node's cache is empty."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    store = find_place("memory://engines/bundle")
    for path in toy_bundle.iterdir():
        store.below(path.name).write(path.read_bytes())
    _write_pair(store, "a", "1")
    for name in ("b.engine", "a.lock", "old/c.engine", "old/c.json"):
        store.below(f"engines/{name}").write(b"-")
    return store.name


def _engines(uri, device):
    source, _ = find_bundle(uri, device)
    folder = source.on_this_node()
    return {path.name: path.read_text() for path in (folder / "engines").glob("*[en]")}


def _write_pair(store, name, content):
    store.below(f"engines/{name}.engine").write(content.encode())
    store.below(f"engines/{name}.json").write(_record(content).encode())


def _record(content, **more):
    """Stands for the record of an engine; its hash is the content itself."""
    return json.dumps({"sha256": content, **more})


def test_engines_are_fetched_for_the_devices_that_use_them(stored):
    assert _engines(stored, "cuda") == {}
    assert _engines(stored, "tensorrt") == {"a.engine": "1", "a.json": _record("1")}


def test_engines_of_the_store_that_changed_are_fetched_and_those_of_this_node_stay(stored):
    _engines(stored, "auto")
    store, cache = find_place(stored), find_bundle(stored, "auto")[0].on_this_node() / "engines"
    for name in ("own.engine", "own.json"):
        (cache / name).write_text("own" if name.endswith(".engine") else _record("own"))
    for name in ("a", "b", "own"):
        _write_pair(store, name, "2")
    (cache / "b.json").unlink(missing_ok=True)
    expected = {"a": "2", "b": "2", "own": "own"}
    engines = {f"{name}.engine": content for name, content in expected.items()}
    records = {f"{name}.json": _record(content) for name, content in expected.items()}
    assert _engines(stored, "auto") == engines | records


def test_an_engine_is_renewed_although_its_record_changed_by_use(stored):
    _engines(stored, "auto")
    store, cache = find_place(stored), find_bundle(stored, "auto")[0].on_this_node() / "engines"
    used = _record("1", verified={"a GPU": {}})
    (cache / "a.json").write_text(used)
    assert _engines(stored, "auto")["a.json"] == used
    _write_pair(store, "a", "2")
    found = _engines(stored, "auto")
    assert (found["a.engine"], found["a.json"]) == ("2", _record("2"))


def test_a_store_that_does_not_list_gives_the_bundle_without_engines(stored, monkeypatch):
    def refuse(self):
        raise PermissionError("ACCESS_DENIED")

    monkeypatch.setattr(Place, "files", refuse)
    assert _engines(stored, "tensorrt") == {}
