import re

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from dossr.export import CheckpointError
from dossr.export.checkpoint.reader import read_checkpoint
from dossr.solvers import NoiseLevels

OLD_ESRGAN = (
    (r"^conv_first", "model.0"),
    (r"^body\.(\d+)\.rdb(\d)\.conv(\d)", r"model.1.sub.\1.RDB\2.conv\3.0"),
    (r"^conv_body", "model.1.sub.2"),
    (r"^conv_up1", "model.3"),
    (r"^conv_up2", "model.6"),
    (r"^conv_hr", "model.8"),
    (r"^conv_last", "model.10"),
)
BSRGAN = (
    (r"^body\.(\d+)\.rdb(\d)", r"RRDB_trunk.\1.RDB\2"),
    (r"^conv_body", "trunk_conv"),
    (r"^conv_up", "upconv"),
    (r"^conv_hr", "HRconv"),
)


def _save(path, state):
    torch.save(state, path)
    return path


def _fault(path, config=None):
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, config)
    message = str(caught.value)
    assert "\n" not in message
    assert path.name in message
    return message


def _same(checkpoint, state):
    assert checkpoint.tensors.keys() == state.keys()
    return all(torch.equal(tensor, state[name]) for name, tensor in checkpoint.tensors.items())


def test_a_bare_state_dict_is_read_with_and_without_its_yaml_file(checkpoints, tiny_state, golden):
    seen = []
    path = checkpoints / "separate.ckpt"
    with_yaml = read_checkpoint(path, golden / "tiny.yaml", seen.append)
    without = read_checkpoint(path)
    assert _same(with_yaml, tiny_state)
    assert _same(without, tiny_state)
    assert with_yaml.config == without.config
    assert (with_yaml.heads_inferred, without.heads_inferred) == (False, True)
    assert sum(seen) == path.stat().st_size
    assert not with_yaml.shares_encoder


def test_a_wrapped_state_dict_with_prefixed_names_is_read(checkpoints):
    assert read_checkpoint(checkpoints / "shared.ckpt").shares_encoder


def test_safetensors_are_read(tmp_path, tiny_state):
    for name in ("model.safetensors", "misnamed.ckpt"):
        save_file(tiny_state, tmp_path / name)
        assert _same(read_checkpoint(tmp_path / name), tiny_state)


def test_files_from_before_torch_1_6_are_read(tmp_path, tiny_state):
    torch.save(tiny_state, tmp_path / "old.ckpt", _use_new_zipfile_serialization=False)
    assert _same(read_checkpoint(tmp_path / "old.ckpt"), tiny_state)


def test_half_precision_weights_are_raised_to_float32(tmp_path, tiny_state):
    """The synthetic weights are float16 numbers, so nothing is lost."""
    buffer = {"alphas_cumprod": torch.from_numpy(NoiseLevels().alpha_bar()).bfloat16()}
    state = {n: t.half() for n, t in tiny_state.items()} | buffer
    path = _save(tmp_path / "half.ckpt", state)
    part = read_checkpoint(path).part("preprocess_model.")
    assert all(torch.equal(tensor, tiny_state[name]) for name, tensor in part.items())
    assert {tensor.dtype for tensor in part.values()} == {torch.float32}


@pytest.mark.parametrize("renames", [BSRGAN, OLD_ESRGAN])
def test_other_namings_of_the_restorer_are_read(tmp_path, tiny_state, renames):
    prefix, state = "preprocess_model.", {}
    for name, tensor in tiny_state.items():
        if name.startswith(prefix):
            name = name.removeprefix(prefix)
            for pattern, replacement in renames:
                name = re.sub(pattern, replacement, name)
            name = prefix + name
        state[name] = tensor
    assert len(state.keys() - tiny_state.keys()) > 60
    assert _same(read_checkpoint(_save(tmp_path / "renamed.ckpt", state)), tiny_state)


def test_buffers_and_losses_are_ignored(tmp_path, tiny_state):
    buffers = {
        "alphas_cumprod": torch.from_numpy(NoiseLevels().alpha_bar()).float(),
        "lambdas": torch.zeros(1000),
        "cond_stage_model.model.attn_mask": torch.zeros(77, 77),
        "first_stage_model.loss.logvar": torch.zeros(()),
    }
    checkpoint = read_checkpoint(_save(tmp_path / "full.ckpt", {**tiny_state, **buffers}))
    assert _same(checkpoint, tiny_state)


def test_a_noise_schedule_that_differs_from_the_configuration_is_refused(tmp_path, tiny_state):
    state = {**tiny_state, "alphas_cumprod": torch.linspace(1, 0.01, 1000)}
    assert "linear_start" in _fault(_save(tmp_path / "other.ckpt", state))


@pytest.mark.parametrize("with_yaml", [True, False])
@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.input_blocks.4.1.proj_in.weight",
        "model.diffusion_model.output_blocks.11.0.skip_connection.bias",
        "control_model.zero_convs.0.0.weight",
        "first_stage_model.decoder.up.3.upsample.conv.bias",
        "cond_encoder.quant_conv.weight",
        "cond_stage_model.model.positional_embedding",
        "preprocess_model.body.1.rdb3.conv5.weight",
    ],
)
def test_a_missing_or_misshapen_tensor_is_named(tmp_path, tiny_state, golden, name, with_yaml):
    config = golden / "tiny.yaml" if with_yaml else None
    missing = {n: t for n, t in tiny_state.items() if n != name}
    said = _fault(_save(tmp_path / "missing.ckpt", missing), config)
    assert said.endswith(f"tensor '{name}' is missing")
    shape = list(tiny_state[name].shape)
    wrong = {**tiny_state, name: torch.zeros(shape[0] + 1, *shape[1:])}
    said = _fault(_save(tmp_path / "misshapen.ckpt", wrong), config)
    assert f"tensor '{name}' must have shape {shape}, got {[shape[0] + 1, *shape[1:]]}" in said


def test_many_faults_are_counted(tmp_path, tiny_state):
    state = {n: t for n, t in tiny_state.items() if "zero_convs" not in n}
    said = _fault(_save(tmp_path / "holes.ckpt", state))
    assert "'control_model.zero_convs.0.0.weight' is missing" in said
    assert said.endswith("and 21 more")


def test_a_network_with_additional_tensors_is_refused(tmp_path, tiny_state):
    """Attention on a level of the VAE, which DoSSR's VAE lacks, would be dropped silently."""
    name = "first_stage_model.encoder.down.2.attn.0.q.weight"
    path = _save(tmp_path / "more.ckpt", {**tiny_state, name: torch.zeros(128, 128, 1, 1)})
    assert f"tensor '{name}' belongs to none of DoSSR's networks" in _fault(path)


def test_another_model_is_refused(tmp_path, tiny_state):
    diffbir = {n: t for n, t in tiny_state.items() if not n.startswith("preprocess_model.")}
    said = _fault(_save(tmp_path / "diffbir.ckpt", diffbir))
    assert said.endswith("not a DoSSR checkpoint: the restorer (preprocess_model.*) is absent")
    assert "not a DoSSR checkpoint" in _fault(_save(tmp_path / "x.ckpt", {"fc": torch.zeros(3)}))
    assert "must hold a state dict, got list" in _fault(_save(tmp_path / "l.ckpt", [1, 2]))


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
@pytest.mark.parametrize("suffix", ["ckpt", "safetensors"])
def test_a_truncated_file_is_refused(tmp_path, checkpoints, tiny_state, suffix, share):
    whole = checkpoints / "separate.ckpt"
    if suffix == "safetensors":
        whole = tmp_path / "whole.safetensors"
        save_file(tiny_state, whole)
    path = tmp_path / f"cut.{suffix}"
    data = whole.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    assert "cannot be read as a checkpoint" in _fault(path)


def test_a_file_that_is_not_a_checkpoint_is_refused(tmp_path):
    path = tmp_path / "photo.ckpt"
    path.write_bytes(np.random.default_rng(0).bytes(5000))
    _fault(path)
