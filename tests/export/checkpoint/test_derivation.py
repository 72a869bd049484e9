import json
from dataclasses import replace

import pytest

from dossr.export.checkpoint.config import OFFICIAL
from dossr.export.checkpoint.derivation import Hints, derive_config
from dossr.export.checkpoint.layout import layout


@pytest.mark.parametrize("name", ["tiny", "full"])
def test_the_derived_configuration_has_the_layout_of_the_checkpoint(golden, name):
    """The names and shapes of 1480 and 2362 tensors are the same."""
    shapes = json.loads((golden / f"{name}_layout.json").read_text())
    shapes = {tensor: tuple(shape) for tensor, shape in shapes.items()}
    assert layout(derive_config(shapes, Hints())) == shapes


def test_the_official_tensors_give_the_official_configuration(golden):
    shapes = json.loads((golden / "full_layout.json").read_text())
    shapes = {tensor: tuple(shape) for tensor, shape in shapes.items()}
    assert derive_config(shapes, Hints()) == OFFICIAL
    assert OFFICIAL.size_multiple == 16


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
def test_one_missing_or_misshapen_tensor_does_not_change_what_is_derived(tiny_shapes, name):
    expected = derive_config(tiny_shapes, Hints())
    assert derive_config({n: s for n, s in tiny_shapes.items() if n != name}, Hints()) == expected
    shape = (tiny_shapes[name][0] + 1, *tiny_shapes[name][1:])
    assert derive_config({**tiny_shapes, name: shape}, Hints()) == expected


def test_other_widths_depths_and_levels_are_read_from_the_tensors():
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
