import json

import pytest

from dossr.export import CheckpointError
from dossr.export.checkpoint.derivation import Hints, derive_config
from dossr.export.checkpoint.model_yaml import check_yaml, hints, read_yaml
from dossr.export.checkpoint.reader import read_checkpoint


@pytest.fixture(scope="module")
def params(golden):
    return read_yaml(golden / "tiny.yaml")


def test_the_yaml_file_gives_the_same_configuration(tiny_shapes, params):
    config = derive_config(tiny_shapes, hints(params))
    check_yaml(params, config)
    assert derive_config(tiny_shapes, Hints()) == config


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("unet_config", "model_channels", 64, "unet_config.model_channels must be 32, .* got 64"),
        ("unet_config", "num_res_blocks", 3, "unet_config.num_res_blocks must be 2, .* got 3"),
        ("unet_config", "context_dim", 32, "unet_config.context_dim must be 64, .* got 32"),
        ("preprocess_config", "num_block", 23, "preprocess_config.num_block must be 2, .* got 23"),
        ("cond_stage_config", "width", 1024, "cond_stage_config.width must be 64, .* got 1024"),
    ],
)
def test_a_yaml_file_of_another_model_is_refused(tiny_shapes, params, section, field, value, said):
    edited = {**params[section]["params"], field: value}
    edited = {**params, section: {"params": edited}}
    with pytest.raises(CheckpointError, match=said):
        check_yaml(edited, derive_config(tiny_shapes, hints(edited)))


def test_heads_are_given_as_widths_or_as_counts(tiny_shapes, params):
    def heads(**fields):
        unet = {k: v for k, v in params["unet_config"]["params"].items() if "head" not in k}
        both = {
            name: {"params": {**unet, **fields}} for name in ("unet_config", "control_stage_config")
        }
        said = hints({**params, **both})
        return derive_config(tiny_shapes, said).unet.heads

    assert heads(num_head_channels=16) == (2, 4, 8, 8)
    assert heads(num_heads=4, num_head_channels=-1) == (4, 4, 4, 4)
    assert heads(num_heads=4, num_head_channels=None) == (4, 4, 4, 4)
    assert heads(num_heads=8, num_head_channels=32) == (1, 2, 4, 4)  # as in LDM
    with pytest.raises(CheckpointError, match="width 32 cannot be split into 0 heads"):
        heads(num_head_channels=64)
    with pytest.raises(CheckpointError, match=r"num_heads must be a positive integer .* got 0"):
        heads(num_heads=0)


@pytest.mark.parametrize(
    ("section", "field", "value", "said"),
    [
        ("unet_config", "use_scale_shift_norm", True, "use_scale_shift_norm must be False .* True"),
        ("unet_config", "num_head_channels", 16, "num_head_channels must be the same"),
        ("unet_config", "num_heads", "x", "num_heads must be a positive integer .* got 'x'"),
        ("cond_stage_config", "layer", "last", "layer must be penultimate .* got 'last'"),
        ("cond_stage_config", "heads", -2, "heads must be a positive integer .* got -2"),
        ("preprocess_config", "scale", 2, "preprocess_config.scale must be 4 .* got 2"),
        (None, "parameterization", "v", "parameterization must be eps .* got 'v'"),
        (None, "only_mid_control", True, "only_mid_control must be False"),
        (None, "scale_factor", None, "scale_factor must be a positive number .* got None"),
        (None, "scale_factor", 0, "scale_factor must be a positive number .* got 0"),
        (None, "linear_start", [1], r"linear_start must be a positive number .* got \[1\]"),
        (None, "timesteps", True, "timesteps must be a positive integer"),
        (None, "unet_config", 5, "must be the official model YAML, but it is malformed"),
        ("unet_config", "channel_mult", 5, "must be the official model YAML, but it is malformed"),
        ("first_stage_config", "ddconfig", 5, "ddconfig must be a mapping, got 5"),
        (
            "unet_config",
            "attention_resolutions",
            [4, 2],
            r"attention_resolutions must be \(1, 2, 4\), .* got \(2, 4\)",
        ),
        (
            "unet_config",
            "use_linear_in_transformer",
            False,
            "use_linear_in_transformer must be True, .* got False",
        ),
    ],
)
def test_an_unsupported_yaml_value_is_refused(
    checkpoints, params, tmp_path, section, field, value, said
):
    """read_checkpoint raises one line that names the file and the field."""
    edited = json.loads(json.dumps(params))
    (edited[section]["params"] if section else edited)[field] = value
    path = tmp_path / "model.yaml"
    path.write_text(json.dumps({"params": edited}))
    with pytest.raises(CheckpointError, match=said) as caught:
        read_checkpoint(checkpoints / "separate.ckpt", path)
    assert "\n" not in str(caught.value)


def test_equal_block_counts_of_all_levels_are_read_as_one(tiny_shapes, params):
    unet = {**params["unet_config"]["params"], "num_res_blocks": [2, 2, 2, 2]}
    check_yaml(
        {**params, "unet_config": {"params": unet}}, derive_config(tiny_shapes, hints(params))
    )


@pytest.mark.parametrize("text", ["", "[1, 2]", "a: [", "target: os.system", "\xff\xfe"])
def test_a_file_that_is_not_a_configuration_is_refused_in_one_line(tmp_path, text):
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
