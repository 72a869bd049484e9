"""Where weights lie in a file, under which names, and which of them are taken."""

import pytest
import torch
from safetensors.torch import save_file

from dossr.export import CheckpointError
from dossr.export.checkpoint.config import OFFICIAL
from dossr.export.checkpoint.layout import layout
from dossr.export.checkpoint.reader import read_checkpoint

UNET = "model.diffusion_model."


def _read(tmp_path, found, **options):
    torch.save(found, tmp_path / "x.ckpt")
    return read_checkpoint(tmp_path / "x.ckpt", **options)


def _fault(tmp_path, found, **options):
    with pytest.raises(CheckpointError) as caught:
        _read(tmp_path, found, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def _same(checkpoint, state):
    assert checkpoint.tensors.keys() == state.keys()
    return all(torch.equal(tensor, state[name]) for name, tensor in checkpoint.tensors.items())


def _inside(name):
    first, rest = name.split(".", 1)
    return f"{first}._orig_mod.{rest}"


def _before_the_last(name):
    rest, last = name.rsplit(".", 1)
    return f"{rest}.module.{last}"


@pytest.mark.parametrize(
    "rename",
    [
        "_orig_mod.{}".format,
        "module.{}".format,
        "module._orig_mod.{}".format,
        "_orig_mod.module.{}".format,
        _inside,
        _before_the_last,
    ],
)
def test_what_compilers_and_wrappers_put_into_names_is_removed(tmp_path, tiny_state, rename):
    assert _same(_read(tmp_path, {rename(n): t for n, t in tiny_state.items()}), tiny_state)


@pytest.mark.parametrize(
    ("containers", "said"),
    [
        ([], "all"),
        (["state_dict"], "state_dict"),
        (["params"], "params"),
        (["model"], "model"),
        (["model", "state_dict"], "model.state_dict"),
        (["params_ema"], "params_ema"),
        (["ema", "state_dict"], "ema.state_dict"),
    ],
)
def test_containers_are_opened_and_named(tmp_path, tiny_state, containers, said):
    found = tiny_state
    for name in reversed(containers):
        found = {name: found, "epoch": 3, "optimizer": {"state": torch.zeros(3)}}
    checkpoint = _read(tmp_path, found)
    assert _same(checkpoint, tiny_state)
    assert checkpoint.weights == said


@pytest.mark.parametrize(("plain", "averaged"), [("params", "params_ema"), ("model", "ema")])
def test_an_average_is_taken_on_demand_and_told_otherwise(tmp_path, tiny_state, plain, averaged):
    """The average of a part is laid over the rest."""
    mean = {n: t + 1 for n, t in tiny_state.items() if n.startswith(UNET)}
    found = {plain: tiny_state, averaged: mean}
    without, with_it = _read(tmp_path, found), _read(tmp_path, found, ema=True)
    assert _same(without, tiny_state)
    assert without.weights == f"{plain}; {averaged} is left out, --ema takes it"
    assert _same(with_it, tiny_state | mean)
    assert with_it.weights == f"{averaged} over {plain}"


def _lit_ema(state):
    """The names of LDM's LitEma, which averages ``model``: without dots."""
    mean = {n: t + 1 for n, t in state.items() if n.startswith(UNET)}
    stored = {f"model_ema.{n.removeprefix('model.').replace('.', '')}": t for n, t in mean.items()}
    counters = {"model_ema.decay": torch.tensor(0.99), "model_ema.num_updates": torch.tensor(7)}
    return mean, stored | counters


@pytest.mark.parametrize("wrapped", [False, True])
def test_the_average_of_latent_diffusion_is_taken_on_demand(tmp_path, tiny_state, wrapped):
    mean, stored = _lit_ema(tiny_state)
    assert "model_ema.diffusion_modelinput_blocks00weight" in stored
    found = {**tiny_state, **stored}
    if wrapped:
        found = {"state_dict": {f"module.{n}": t for n, t in found.items()}, "epoch": 1}
    where = "state_dict" if wrapped else "all"
    without, with_it = _read(tmp_path, found), _read(tmp_path, found, ema=True)
    assert _same(without, tiny_state)
    assert (
        without.weights
        == f"{where}; their moving average (model_ema.*) is left out, --ema takes it"
    )
    assert _same(with_it, tiny_state | mean)
    assert with_it.weights == f"{where}, {len(mean)} of {len(tiny_state)} from model_ema.*"


def test_names_without_dots_are_unambiguous_in_the_official_model():
    names = [name.replace(".", "") for name in layout(OFFICIAL)]
    assert len(set(names)) == len(names)


def test_an_average_that_is_not_there_is_an_error(tmp_path, tiny_state):
    said = _fault(tmp_path, {"state_dict": tiny_state}, ema=True)
    assert said.endswith("leave out --ema")
    assert "has no moving average (params_ema," in said
    other = {**tiny_state, "model_ema.decay": torch.tensor(0.99)}
    assert "no name of model_ema.* is that of a tensor beside it" in _fault(
        tmp_path, other, ema=True
    )


@pytest.mark.parametrize("ending", ["ckpt", "safetensors"])
@pytest.mark.parametrize("mixed", [torch.float16, torch.bfloat16, None])
def test_weights_of_any_precision_are_read(tmp_path, tiny_state, ending, mixed):
    kinds = [mixed] if mixed else [torch.float16, torch.bfloat16, torch.float32, torch.float64]
    state = {n: t.to(kinds[k % len(kinds)]) for k, (n, t) in enumerate(tiny_state.items())}
    path = tmp_path / f"x.{ending}"
    torch.save(state, path) if ending == "ckpt" else save_file(state, path)
    checkpoint = read_checkpoint(path)
    assert _same(checkpoint, state)
    part = checkpoint.part(UNET)
    assert {tensor.dtype for tensor in part.values()} == {torch.float32}
    assert all(torch.equal(tensor, state[name].float()) for name, tensor in part.items())


def test_quantized_weights_are_refused(tmp_path, tiny_state):
    name = f"{UNET}input_blocks.1.0.in_layers.2.weight"
    state = {**tiny_state, name: torch.zeros(tiny_state[name].shape, dtype=torch.int8)}
    assert f"tensor '{name}' must hold floating-point numbers, got int8" in _fault(tmp_path, state)


def test_buffers_of_other_versions_do_no_harm(tmp_path, tiny_state):
    extra = {
        "cond_stage_model.model.transformer.position_ids": torch.arange(77),
        "cond_stage_model.transformer.text_model.embeddings.position_ids": torch.arange(77)[None],
        "control_model.position_ids": torch.arange(77),
        "first_stage_model.norm.num_batches_tracked": torch.tensor(3),
    }
    assert _same(_read(tmp_path, {**tiny_state, **extra}), tiny_state)


PARTS = {
    "model.diffusion_model.": "the UNet",
    "control_model.": "the ControlNet",
    "first_stage_model.": "the VAE",
    "cond_stage_model.model.": "the text tower",
    "cond_encoder.": "the condition encoder",
    "preprocess_model.": "the restorer",
}


@pytest.mark.parametrize("prefix", PARTS)
def test_a_part_that_is_absent_is_named(tmp_path, tiny_state, prefix):
    state = {n: t for n, t in tiny_state.items() if not n.startswith(prefix)}
    said = _fault(tmp_path, state)
    assert said.endswith(f": not a DoSSR checkpoint: {PARTS[prefix]} ({prefix}*) is absent")


def _widened(state, width, linear=True):
    """The UNet and ControlNet with cross-attention to a text embedding of this width."""
    wide = {}
    for name, tensor in state.items():
        if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight")):
            tensor = torch.zeros(tensor.shape[0], width)
        wide[name] = tensor
    return wide


@pytest.mark.parametrize(
    ("width", "family"), [(768, "Stable Diffusion 1.5"), (2048, "Stable Diffusion XL")]
)
def test_the_widths_of_another_stable_diffusion_are_named(tmp_path, tiny_state, width, family):
    wide = _widened(tiny_state, width)
    assert f"as wide as the UNet's context, {width} ({family}), got" in _fault(tmp_path, wide)
    ordinary = {n: t for n, t in wide.items() if n.startswith((UNET, "first_stage_model."))}
    ordinary["cond_stage_model.transformer.text_model.final_layer_norm.bias"] = torch.zeros(width)
    said = _fault(tmp_path, ordinary)
    assert "the ControlNet (control_model.*) and the text tower (cond_stage_model.model.*)" in said
    assert said.endswith(
        f"are absent; its UNet is that of {family} (context {width}), DoSSR's of Stable Diffusion 2 (1024)"
    )


@pytest.mark.parametrize("name", ["x.ckpt", "x.safetensors", "x.yaml"])
def test_what_stands_for_a_file_is_named(tmp_path, checkpoints, name):
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
    path = tmp_path / name
    for data, said in (
        (pointer, "it is a Git LFS pointer, not the file; run git lfs pull"),
        (b"<!DOCTYPE html><html><title>Sign in</title>", "it is a web page, not the file"),
    ):
        path.write_bytes(data)
        is_yaml = name.endswith("yaml")
        arguments = (checkpoints / "separate.ckpt", path) if is_yaml else (path,)
        with pytest.raises(CheckpointError, match=said) as caught:
            read_checkpoint(*arguments)
        assert str(path) in str(caught.value)
