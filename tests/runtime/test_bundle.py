import json

import pytest

from dossr.runtime import BundleError, load_pipeline
from dossr.runtime.bundle import MANIFEST, open_bundle, read_manifest


def _edit(folder, change):
    path = folder / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def test_a_manifest_comes_back_as_it_was_written(toy_bundle, tmp_path):
    manifest = open_bundle(toy_bundle).manifest
    manifest.write(tmp_path)
    assert read_manifest(tmp_path / MANIFEST) == manifest


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path):
    with pytest.raises(
        BundleError, match=r"is not a bundle: it has no manifest\.json; create one with"
    ):
        open_bundle(tmp_path)


@pytest.mark.parametrize("version", [99, 0, True, 1.0, None, "1"])
def test_another_format_version_is_refused(fresh_bundle, version):
    _edit(fresh_bundle, lambda d: d.update(format_version=version))
    with pytest.raises(BundleError, match=rf"must have format_version 2, got {version!r}; export"):
        open_bundle(fresh_bundle)


@pytest.mark.parametrize("text", ["", "{", "[]", '"x"', "\xff", "[" * 100000, "9" * 5000])
def test_a_manifest_that_is_no_manifest_is_refused(fresh_bundle, text):
    (fresh_bundle / MANIFEST).write_text(text, encoding="latin-1")
    with pytest.raises(BundleError, match=r"manifest\.json"):
        open_bundle(fresh_bundle)


@pytest.mark.parametrize(
    "change",
    [
        lambda d: d.pop("stages"),
        lambda d: d.update(stages=[1]),
        lambda d: d["stages"]["encoder"].pop("graphs"),
        lambda d: d["files"]["encoder.cpu.onnx"].update(size="many"),
        lambda d: d.update(schedule={"linear_start": 2}),
        lambda d: d.update(size_multiple=None),
        lambda d: d.update(size_multiple=0),
        lambda d: d.update(vae_factor=-8),
        lambda d: d.update(latent_channels=float("inf")),
    ],
)
def test_a_damaged_manifest_is_told_in_one_line(fresh_bundle, change):
    _edit(fresh_bundle, change)
    with pytest.raises(BundleError, match=r"^[^\n]*manifest\.json is damaged: [^\n]*$"):
        open_bundle(fresh_bundle)


def test_a_stage_must_be_there_and_hashed(fresh_bundle):
    _edit(fresh_bundle, lambda d: d["stages"].pop("decoder"))
    with pytest.raises(BundleError, match="lacks stage 'decoder'"):
        open_bundle(fresh_bundle)


def test_a_file_without_a_hash_is_refused(fresh_bundle):
    _edit(fresh_bundle, lambda d: d["files"].pop("decoder.cpu.onnx"))
    with pytest.raises(BundleError, match=r"lacks the SHA-256 of 'decoder\.cpu\.onnx'"):
        open_bundle(fresh_bundle)


def test_a_network_file_that_no_hash_covers_is_refused(fresh_bundle):
    """Networks open their external data themselves; without an entry it would not be checked."""
    (fresh_bundle / "decoder.weights").write_bytes(b"anything")
    with pytest.raises(BundleError, match=r"decoder\.weights is not in the manifest"):
        open_bundle(fresh_bundle)


def test_the_attributes_that_macos_copies_beside_a_file_are_no_network(fresh_bundle):
    (fresh_bundle / "._decoder.cpu.onnx").write_bytes(bytes.fromhex("00051607") + bytes(60))
    open_bundle(fresh_bundle)
    (fresh_bundle / "._other.onnx").write_bytes(b"anything")
    with pytest.raises(BundleError, match=r"\._other\.onnx is not in the manifest"):
        open_bundle(fresh_bundle)


def test_stages_must_have_the_signature_that_the_manifest_says(fresh_bundle):
    def swap(document):
        stages = document["stages"]
        stages["encoder"], stages["decoder"] = stages["decoder"], stages["encoder"]
        for name in ("inputs", "outputs"):
            mine, other = stages["encoder"], stages["decoder"]
            mine[name], other[name] = other[name], mine[name]

    _edit(fresh_bundle, swap)
    with pytest.raises(BundleError, match="do not match the manifest"):
        load_pipeline(fresh_bundle)


def test_a_changed_file_is_refused(fresh_bundle):
    path = fresh_bundle / "denoiser.cpu.onnx"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"denoiser\.cpu\.onnx was changed: its SHA-256"):
        open_bundle(fresh_bundle)


def test_a_file_that_was_cut_off_is_refused(fresh_bundle):
    path = fresh_bundle / "denoiser.cpu.onnx"
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BundleError, match=f"must have {size} bytes, got {size - 5}"):
        open_bundle(fresh_bundle)


def test_a_missing_file_is_refused(fresh_bundle):
    (fresh_bundle / "encoder.cpu.onnx").unlink()
    with pytest.raises(BundleError, match=r"encoder\.cpu\.onnx is missing"):
        open_bundle(fresh_bundle)


@pytest.mark.parametrize("name", ["../outside.onnx", "/etc/passwd", "a\\..\\b.onnx"])
def test_a_path_that_leaves_the_folder_is_refused(fresh_bundle, name):
    """Even if the file itself matches the manifest."""
    (fresh_bundle / "decoder.cpu.onnx").rename(fresh_bundle.parent / "outside.onnx")

    def change(document):
        document["files"][name] = document["files"].pop("decoder.cpu.onnx")
        graphs = document["stages"]["decoder"]["graphs"]
        for target in [t for t, file in graphs.items() if file == "decoder.cpu.onnx"]:
            graphs[target] = name

    _edit(fresh_bundle, change)
    with pytest.raises(BundleError, match="must lie inside"):
        open_bundle(fresh_bundle)
