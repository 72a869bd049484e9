import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from dossr.export import CheckpointError, Fp16Error, VerificationError, export_bundle
from dossr.export.checkpoint.config import TEXT
from dossr.export.checkpoint.derivation import Hints, derive_config
from dossr.export.cli import main
from dossr.export.exporter import _replacing
from dossr.export.networks.text import DEFAULT_PROMPT, embed_prompt, tokenize


def _overflowing(state):
    """Return weights that fit float16 and give activations that do not."""
    first, last = "preprocess_model.conv_first.weight", "preprocess_model.conv_last.weight"
    return {**state, first: torch.full_like(state[first], 6e4), last: state[last] * 1e-6}


def _run(*arguments):
    result = CliRunner().invoke(main, list(map(str, arguments)))
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stderr


def test_a_stage_over_its_bound_leaves_no_bundle(tmp_path, tiny_state):
    path = tmp_path / "model.ckpt"
    torch.save(_overflowing(tiny_state), path)
    with pytest.raises(VerificationError, match=r"^restorer\.cpu\.onnx (must give|differs)"):
        export_bundle(path, tmp_path / "bundle", fp16=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model.ckpt"]
    code, stderr = _run(path, "-o", tmp_path / "bundle", "--fp16")
    assert code == 1
    assert stderr.splitlines()[-1].startswith("dossr-export: restorer.cpu.onnx ")
    assert [p.name for p in tmp_path.iterdir()] == ["model.ckpt"]


def test_a_weight_beyond_float16_leaves_no_bundle(tmp_path, tiny_state):
    path, name = tmp_path / "model.ckpt", "preprocess_model.conv_first.weight"
    torch.save({**tiny_state, name: tiny_state[name] * 1e6}, path)
    with pytest.raises(Fp16Error, match="export without --fp16"):
        export_bundle(path, tmp_path / "bundle", fp16=True)
    assert [p.name for p in tmp_path.iterdir()] == ["model.ckpt"]


def test_an_existing_folder_is_left_alone(tmp_path, checkpoints):
    path = checkpoints / "separate.ckpt"
    folder = tmp_path / "mine"
    folder.mkdir()
    (folder / "letter.txt").write_text("dear")
    with pytest.raises(FileExistsError, match="exists; choose another folder or pass --overwrite"):
        export_bundle(path, folder)
    with pytest.raises(FileExistsError, match="must be a bundle to be overwritten"):
        export_bundle(path, folder, overwrite=True)
    assert (folder / "letter.txt").read_text() == "dear"


def test_a_folder_that_appears_meanwhile_is_left_alone(tmp_path):
    def export():
        with _replacing(tmp_path / "out", overwrite=False):
            (tmp_path / "out").mkdir()
            (tmp_path / "out" / "photo.txt").write_text("mine")

    with pytest.raises(FileExistsError, match="exists"):
        export()
    assert (tmp_path / "out" / "photo.txt").read_text() == "mine"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_help_needs_no_torch():
    program = (
        "import sys\n"
        "from dossr.export.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'diffusers', 'transformers', 'onnx'}\n"
        "sys.exit(', '.join(sorted(heavy & set(sys.modules))) or 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_a_failed_export_keeps_the_bundle_that_it_would_have_replaced(tmp_path, fresh_bundle):
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"nothing")
    before = {p.name: p.read_bytes() for p in fresh_bundle.iterdir()}
    with pytest.raises(CheckpointError, match="must hold tensors only"):
        export_bundle(bad, fresh_bundle, overwrite=True)
    assert {p.name: p.read_bytes() for p in fresh_bundle.iterdir()} == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--steps", "0"], "'--steps': 0 is not in the range"),
        (["--target", "gpu"], "'gpu' is not one of"),
        (["--tile", "20"], "tile must be a multiple of 16 above 0, got 20"),
        (
            ["--prompt", "a cat"],
            "must be 'clean, high-resolution, 8k' or '' where no CLIP tokenizer",
        ),
        (["--tokenizer", "/nowhere"], "does not exist"),
        (["--config", "/nowhere.yaml"], "does not exist"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(tmp_path, checkpoints, arguments, said):
    code, stderr = _run(checkpoints / "separate.ckpt", "-o", tmp_path / "bundle", *arguments)
    assert code == 2
    assert said in stderr.splitlines()[-1]
    assert stderr.splitlines()[-1].startswith("dossr-export: ")
    assert list(tmp_path.iterdir()) == []


def test_a_bad_checkpoint_is_one_line(tmp_path):
    bad = tmp_path / "bad.ckpt"
    bad.write_bytes(b"PK\x03\x04nothing")
    code, stderr = _run(bad, "-o", tmp_path / "bundle")
    assert code == 1
    assert stderr.splitlines()[-1].startswith(f"dossr-export: {bad} cannot be read as a checkpoint")


def test_a_note_is_printed_about_inferred_heads(tmp_path, tiny_state):
    path = tmp_path / "model.ckpt"
    torch.save(_overflowing(tiny_state), path)
    _, stderr = _run(path, "-o", tmp_path / "bundle", "--fp16")
    assert "note: numbers of attention heads are inferred: (1, 2, 4, 4) in the UNet" in stderr


def test_help_has_every_option_and_an_example():
    result = CliRunner().invoke(main, ["--help"])
    assert result.exit_code == 0
    for word in (
        "--fp16",
        "--target",
        "--no-verify",
        "Exit code",
        "Examples:\n    dossr-export dossr_default.ckpt -o bundle --fp16\n",
    ):
        assert word in result.stdout


def test_the_default_prompts_tokens_are_open_clips():
    ids = tokenize(DEFAULT_PROMPT, 77)
    assert len(ids) == 77
    assert ids[:11] == [49406, 3772, 267, 1400, 268, 9977, 267, 279, 330, 49407, 0]
    assert tokenize("", 77)[:3] == [49406, 49407, 0]
    with pytest.raises(ValueError, match="at most 5 tokens, got 10"):
        tokenize(DEFAULT_PROMPT, 5)


def _tokenizer(folder, first=49406):
    """Write a vocabulary of letters; </w> ends a word, start and end of text have CLIP's ids."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = [*letters, *(f"{letter}</w>" for letter in letters)]
    words += [f"filler{i}</w>" for i in range(first - len(words))]
    words += ["<|startoftext|>", "<|endoftext|>"]
    folder.mkdir()
    (folder / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\n")
    return folder


def test_another_prompt_uses_the_given_tokenizer(tmp_path):
    ids = tokenize("a cat", 10, _tokenizer(tmp_path / "clip"))
    assert ids == [49406, 26, 2, 0, 45, 49407, 0, 0, 0, 0]


def test_a_folder_without_clips_tokenizer_is_refused(tmp_path):
    """An empty folder would silently give a prompt of unknown words."""
    (tmp_path / "empty").mkdir()
    with pytest.raises(
        ValueError, match=r"vocab\.json and merges\.txt.* but these files are missing"
    ):
        tokenize("a cat", 77, tmp_path / "empty")
    with pytest.raises(ValueError, match="but this is another one"):
        tokenize("a cat", 77, _tokenizer(tmp_path / "other", first=60))
    damaged = _tokenizer(tmp_path / "damaged")
    (damaged / "vocab.json").write_text("{")
    with pytest.raises(ValueError, match="it cannot be read"):
        tokenize("a cat", 77, damaged)


def test_the_text_tower_gives_the_references_embedding(golden, tiny_shapes, tiny_state):
    text = derive_config(tiny_shapes, Hints()).text
    tensors = {name: tensor for name, tensor in tiny_state.items() if name.startswith(TEXT)}
    embedded = embed_prompt(tensors, text, tokenize(DEFAULT_PROMPT, 77)).numpy()
    expected = np.load(golden / "tiny_o3_s5_wavelet.npz")["prompt_embeds"]
    np.testing.assert_allclose(embedded, expected, atol=1e-5)
