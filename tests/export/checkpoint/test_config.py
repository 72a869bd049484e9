import json

import pytest

from dossr.export import CheckpointError
from dossr.export.checkpoint.config import (
    OFFICIAL,
    Hints,
    derive_config,
)
from dossr.export.checkpoint.layout import layout
from dossr.export.checkpoint.model_yaml import check_yaml, hints, read_yaml
from dossr.export.checkpoint.reader import read_checkpoint


@pytest.fixture(scope="module")
def tiny(golden):
    return {n: tuple(s) for n, s in json.loads((golden / "tiny_layout.json").read_text()).items()}


@pytest.fixture(scope="module")
def params(golden):
    return read_yaml(golden / "tiny.yaml")


@pytest.mark.parametrize("name", ["tiny", "full"])
def test_the_layout_of_the_derived_configuration_is_the_checkpoints(golden, name):
    """Name and shape of each of 1480 and 2362 tensors."""
    shapes = json.loads((golden / f"{name}_layout.json").read_text())
    shapes = {tensor: tuple(shape) for tensor, shape in shapes.items()}
    assert layout(derive_config(shapes, Hints())) == shapes


def test_the_official_configuration_is_what_the_official_tensors_show(golden):
    shapes = json.loads((golden / "full_layout.json").read_text())
    shapes = {tensor: tuple(shape) for tensor, shape in shapes.items()}
    assert derive_config(shapes, Hints()) == OFFICIAL
    assert OFFICIAL.size_multiple == 16


def test_the_yaml_file_gives_the_same_configuration(tiny, params):
    config = derive_config(tiny, hints(params))
    check_yaml(params, config)
    assert derive_config(tiny, Hints()) == config


@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.input_blocks.0.0.weight",
        "model.diffusion_model.input_blocks.3.0.op.weight",
        "model.diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_k.weight",
        "model.diffusion_model.out.2.bias",
        "first_stage_model.encoder.down.2.block.0.conv1.bias",
        "cond_stage_model.model.ln_final.weight",
        "preprocess_model.conv_first.bias",
        "preprocess_model.body.0.rdb1.conv1.weight",
    ],
)
def test_one_missing_or_misshapen_tensor_does_not_change_what_is_derived(tiny, name):
    expected = derive_config(tiny, Hints())
    assert derive_config({n: s for n, s in tiny.items() if n != name}, Hints()) == expected
    shape = (tiny[name][0] + 1, *tiny[name][1:])
    assert derive_config({**tiny, name: shape}, Hints()) == expected


def test_other_widths_depths_and_levels_are_read_from_the_tensors():
    from dataclasses import replace

    config = replace(
        OFFICIAL,
        unet=replace(
            OFFICIAL.unet,
            latent_channels=8,
            channels=(64, 128, 192),
            blocks=1,
            attention=(False, True, True),
            depth=2,
            context=96,
            linear=False,
            heads=(1, 2, 3),
        ),
        vae=replace(OFFICIAL.vae, latent_channels=8, channels=(32, 64, 64), blocks=3),
        text=replace(OFFICIAL.text, width=96, layers=5, heads=1),
        restorer=replace(OFFICIAL.restorer, features=24, blocks=6, growth=12),
    )
    assert derive_config(layout(config), Hints()) == config
    assert (config.vae.factor, config.unet.factor, config.size_multiple) == (4, 4, 8)


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("unet_config", "model_channels", 64, "unet_config.model_channels says 64, .* has 32"),
        ("unet_config", "num_res_blocks", 3, "unet_config.num_res_blocks says 3, .* has 2"),
        ("unet_config", "context_dim", 32, "unet_config.context_dim says 32, .* has 64"),
        ("preprocess_config", "num_block", 23, "preprocess_config.num_block says 23, .* has 2"),
        ("cond_stage_config", "width", 1024, "cond_stage_config.width says 1024, .* has 64"),
    ],
)
def test_a_yaml_file_of_another_model_is_refused(tiny, params, section, field, value, said):
    edited = {**params[section]["params"], field: value}
    edited = {**params, section: {"params": edited}}
    with pytest.raises(CheckpointError, match=said):
        check_yaml(edited, derive_config(tiny, hints(edited)))


def test_heads_come_as_widths_or_as_counts(tiny, params):
    def heads(**fields):
        unet = {k: v for k, v in params["unet_config"]["params"].items() if "head" not in k}
        both = {
            name: {"params": {**unet, **fields}} for name in ("unet_config", "control_stage_config")
        }
        said = hints({**params, **both})
        return derive_config(tiny, said).unet.heads

    assert heads(num_head_channels=16) == (2, 4, 8, 8)
    assert heads(num_heads=4, num_head_channels=-1) == (4, 4, 4, 4)
    assert heads(num_heads=4, num_head_channels=None) == (4, 4, 4, 4)
    assert heads(num_heads=8, num_head_channels=32) == (1, 2, 4, 4)  # as in LDM
    with pytest.raises(CheckpointError, match="width 32 cannot have the heads"):
        heads(num_head_channels=64)
    with pytest.raises(CheckpointError, match=r"num_heads must be a whole number above 0 .* got 0"):
        heads(num_heads=0)


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("unet_config", "use_scale_shift_norm", True, "use_scale_shift_norm must be False .* True"),
        ("unet_config", "num_head_channels", 16, "num_head_channels must be the same"),
        ("unet_config", "num_heads", "x", "num_heads must be a whole number above 0 .* got 'x'"),
        ("cond_stage_config", "layer", "last", "layer must be penultimate .* got 'last'"),
        ("cond_stage_config", "heads", -2, "heads must be a whole number above 0 .* got -2"),
        ("preprocess_config", "scale", 2, "preprocess_config.scale must be 4 .* got 2"),
        (None, "parameterization", "v", "parameterization must be eps .* got 'v'"),
        (None, "only_mid_control", True, "only_mid_control must be False"),
        (None, "scale_factor", None, "scale_factor must be a number above 0 .* got None"),
        (None, "scale_factor", 0, "scale_factor must be a number above 0 .* got 0"),
        (None, "linear_start", [1], r"linear_start must be a number above 0 .* got \[1\]"),
        (None, "timesteps", True, "timesteps must be a whole number above 0"),
        (None, "unet_config", 5, "is no sound model YAML"),
        ("unet_config", "channel_mult", 5, "is no sound model YAML"),
        ("first_stage_config", "ddconfig", 5, "ddconfig must be a mapping, got 5"),
        ("unet_config", "attention_resolutions", [4, 2], r"attention_resolutions says \(2, 4\)"),
        ("unet_config", "use_linear_in_transformer", False, "use_linear_in_transformer says False"),
    ],
)
def test_what_a_yaml_file_may_not_say(checkpoints, params, tmp_path, section, field, value, said):
    """Through read_checkpoint: one line that names the file and the field."""
    edited = json.loads(json.dumps(params))
    (edited[section]["params"] if section else edited)[field] = value
    path = tmp_path / "model.yaml"
    path.write_text(json.dumps({"params": edited}))
    with pytest.raises(CheckpointError, match=said) as caught:
        read_checkpoint(checkpoints / "separate.ckpt", path)
    assert "\n" not in str(caught.value)


def test_a_block_count_for_each_level_is_one_where_they_are_equal(tiny, params):
    unet = {**params["unet_config"]["params"], "num_res_blocks": [2, 2, 2, 2]}
    check_yaml({**params, "unet_config": {"params": unet}}, derive_config(tiny, hints(params)))


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "target: os.system", "\xff\xfe"])
def test_a_file_that_is_no_configuration_is_refused_in_one_line(tmp_path, text):
    path = tmp_path / "model.yaml"
    path.write_text(text, encoding="latin-1")
    with pytest.raises(CheckpointError, match=r"^[^\n]*model\.yaml[^\n]*$"):
        read_yaml(path)


def test_a_yaml_file_cannot_run_code(tmp_path):
    path = tmp_path / "model.yaml"
    mark = tmp_path / "mark"
    path.write_text(f"params: !!python/object/apply:pathlib.Path.touch [{mark}]")
    with pytest.raises(CheckpointError, match="cannot read"):
        read_yaml(path)
    assert not mark.exists()
