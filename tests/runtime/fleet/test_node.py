"""A bundle from a store, fetched on this node. No cluster."""

import pytest

from dossr.runtime.fleet.node import find_bundle
from dossr.runtime.fleet.places import find_place


@pytest.fixture
def stored(toy_bundle, tmp_path, monkeypatch):
    """The URI of a bundle in a store, with an engine; this node's cache is empty."""
    for name in ("XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.setenv(name, str(tmp_path))
    store = find_place("memory://engines/bundle")
    for path in toy_bundle.iterdir():
        store.below(path.name).write(path.read_bytes())
    for name in ("a.engine", "a.json", "a.lock", "old/b.engine"):
        store.below(f"engines/{name}").write(name.encode())
    return store.name


def _engines(uri, device):
    source, _ = find_bundle(uri, device)
    folder = source.on_this_node()
    return {path.name: path.read_text() for path in (folder / "engines").glob("*")}


def test_engines_are_fetched_for_the_devices_that_use_them(stored):
    assert _engines(stored, "cuda") == {}
    assert _engines(stored, "tensorrt") == {"a.engine": "a.engine", "a.json": "a.json"}


def test_engines_that_came_later_are_fetched_and_those_of_this_node_stay(stored):
    _engines(stored, "auto")
    store = find_place(stored)
    for name in ("engines/a.engine", "engines/c.engine"):
        store.below(name).write(b"new")
    assert _engines(stored, "auto") == {
        "a.engine": "a.engine", "a.json": "a.json", "c.engine": "new",
    }  # fmt: skip
