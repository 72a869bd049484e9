"""SwinIR: its tensors, its windows, and its block against transformers' Swin."""

import pytest

torch = pytest.importorskip("torch")

from transformers import SwinConfig  # noqa: E402
from transformers.models.swin.modeling_swin import SwinLayer  # noqa: E402

from dossr.bench.measure.backends import built  # noqa: E402
from dossr.bench.measure.weights import fill  # noqa: E402
from dossr.bench.systems import load_system  # noqa: E402
from dossr.bench.systems.networks.swinir import WINDOW, Block, SwinIR, SwinIRConfig  # noqa: E402

WIDTH, HEADS, SIDE = 12, 2, 24


def block(shift):
    network = Block(WIDTH, HEADS, SIDE, shift).eval().requires_grad_(False)
    fill(network)
    return network


def tokens(seed=0):
    return torch.randn(2, SIDE, SIDE, WIDTH, generator=torch.Generator().manual_seed(seed))


def test_tensors_are_those_of_the_official_file():
    with torch.device("meta"):
        found = {k: tuple(v.shape) for k, v in SwinIR(SwinIRConfig(), 512).state_dict().items()}
    assert len(found) == 732
    some = {
        "conv_first.1.weight": (180, 192, 3, 3),
        "patch_embed.norm.weight": (180,),
        "layers.7.residual_group.blocks.5.attn_mask": (64, 64, 64),
        "layers.0.residual_group.blocks.0.attn.relative_position_bias_table": (225, 6),
        "layers.0.residual_group.blocks.0.attn.relative_position_index": (64, 64),
        "layers.0.residual_group.blocks.0.attn.qkv.weight": (540, 180),
        "layers.0.residual_group.blocks.0.attn.proj.weight": (180, 180),
        "layers.0.residual_group.blocks.0.norm2.bias": (180,),
        "layers.0.residual_group.blocks.0.mlp.fc1.weight": (360, 180),
        "layers.0.residual_group.blocks.0.mlp.fc2.weight": (180, 360),
        "layers.0.conv.weight": (180, 180, 3, 3),
        "norm.weight": (180,),
        "conv_after_body.weight": (180, 180, 3, 3),
        "conv_before_upsample.0.weight": (64, 180, 3, 3),
        "conv_up1.weight": (64, 64, 3, 3),
        "conv_up3.bias": (64,),
        "conv_hr.weight": (64, 64, 3, 3),
        "conv_last.weight": (3, 64, 3, 3),
    }
    assert some.items() <= found.items()
    assert "layers.0.residual_group.blocks.0.attn_mask" not in found


@pytest.mark.parametrize("shift", [0, WINDOW // 2])
def test_a_block_is_that_of_swin(shift):
    ours = block(shift)
    config = SwinConfig(window_size=WINDOW, mlp_ratio=2.0, layer_norm_eps=1e-5)
    config._attn_implementation = "eager"
    theirs = SwinLayer(config, WIDTH, (SIDE, SIDE), HEADS, shift_size=shift).eval()
    state = ours.state_dict()
    renamed = {
        "attention.relative_position_bias.relative_position_bias_table": "attn.relative_position_bias_table",
        **{f"attention.o_proj.{kind}": f"attn.proj.{kind}" for kind in ("weight", "bias")},
        **{f"layernorm_before.{kind}": f"norm1.{kind}" for kind in ("weight", "bias")},
        **{f"layernorm_after.{kind}": f"norm2.{kind}" for kind in ("weight", "bias")},
        **{
            f"mlp.{part}": f"mlp.{part}"
            for part in ("fc1.weight", "fc1.bias", "fc2.weight", "fc2.bias")
        },
    }
    weights = {new: state[old] for new, old in renamed.items()}
    for kind in ("weight", "bias"):
        for name, part in zip("qkv", state[f"attn.qkv.{kind}"].chunk(3), strict=True):
            weights[f"attention.{name}_proj.{kind}"] = part
    unknown = theirs.load_state_dict(weights, strict=False)
    assert not unknown.unexpected_keys
    assert not {name for name in unknown.missing_keys if "index" not in name}
    x = tokens()
    with torch.no_grad():
        wanted, _ = theirs(x.flatten(1, 2), (SIDE, SIDE))
        found = ours(x).flatten(1, 2)
    assert (found - x.flatten(1, 2)).std() > 0.1
    assert torch.allclose(found, wanted, rtol=0.0, atol=1e-5)


@pytest.mark.parametrize("shift", [0, WINDOW // 2])
@pytest.mark.parametrize("place", [(0, 0), (3, 23), (11, 12), (4, 19), (23, 23)])
def test_a_token_reaches_its_window_and_nothing_across_the_edges(shift, place):
    """Windows are cut at shift, shift + 8 and so on: what the roll made neighbours stays apart."""
    x = tokens()
    changed = x.clone()
    changed[0, place[0], place[1]] *= -1.0
    network = block(shift)
    reached = (network(changed) - network(x)).abs().amax(-1)[0] > 1e-6
    cell = (torch.arange(SIDE) - shift).div(WINDOW, rounding_mode="floor")
    wanted = (cell == cell[place[0]])[:, None] & (cell == cell[place[1]])
    assert torch.equal(reached, wanted)


def test_the_image_stays_in_its_place():
    """A change in the corner of the image is seen there first: nothing is turned or mirrored."""
    network = built(load_system("diffbir-50", 64, reduced=True).network("swinir"))
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(0))
    changed = image.clone()
    changed[..., :16, -16:] = 1.0 - changed[..., :16, -16:]
    difference = (network(changed) - network(image)).abs().mean((0, 1))
    blocks = difference.reshape(16, 16, 16, 16).mean((1, 3))
    assert divmod(int(blocks.argmax()), 16) == (0, 15)
