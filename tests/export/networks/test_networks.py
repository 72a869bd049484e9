"""What LDM, OpenCLIP and RRDBNet compute, written down from their official tensor names.

The export's verification compares ONNX with the networks that dossr builds. It cannot detect a
misplaced tensor or a wrong number of heads in these, so nothing of them is used here.
"""

import math

import torch
from torch.nn import functional as F

from dossr.export.checkpoint.config import TEXT
from dossr.export.checkpoint.layout import layout
from dossr.export.checkpoint.reader import read_checkpoint
from dossr.export.checkpoint.synthetic import synthetic_state
from dossr.export.networks.text import DEFAULT_PROMPT, embed_prompt, tokenize
from dossr.export.stages import stages


class Weights:
    """The tensors below a prefix, the layers made of them, and the names of all used tensors."""

    def __init__(self, tensors, at="", used=None, groups=32):
        self.tensors, self.at, self.used = tensors, at, set() if used is None else used
        self.groups = groups

    def __call__(self, name):
        self.used.add(self.at + name)
        return self.tensors[self.at + name]

    def has(self, name):
        return any(tensor.startswith(f"{self.at}{name}.") for tensor in self.tensors)

    def below(self, name, groups=None):
        return Weights(self.tensors, f"{self.at}{name}.", self.used, groups or self.groups)

    def numbered(self, name):
        """Return the tensors below name.0, name.1 and so on."""
        parent, found = self.below(name), []
        while parent.has(str(len(found))):
            found.append(parent.below(str(len(found))))
        return found

    def conv(self, name, x, stride=1, padding=None):
        """A convolution, padded by default so that the size is kept."""
        weight = self(f"{name}.weight")
        padding = weight.shape[-1] // 2 if padding is None else padding
        return F.conv2d(x, weight, self(f"{name}.bias"), stride, padding)

    def upsample_conv(self, name, x):
        return self.conv(name, F.interpolate(x, scale_factor=2, mode="nearest"))

    def norm_silu_conv(self, norm, conv, x, eps):
        return self.conv(conv, F.silu(self.group_norm(norm, x, eps)))

    def linear(self, name, x):
        """A linear layer on the last axis; the weight may be a 1x1 convolution's."""
        bias = self(f"{name}.bias") if f"{self.at}{name}.bias" in self.tensors else None
        return F.linear(x, self(f"{name}.weight").flatten(1), bias)

    def group_norm(self, name, x, eps):
        return F.group_norm(x, self.groups, self(f"{name}.weight"), self(f"{name}.bias"), eps)

    def layer_norm(self, name, x):
        return F.layer_norm(x, x.shape[-1:], self(f"{name}.weight"), self(f"{name}.bias"), 1e-5)


def attention(query, key, value, heads, mask=0.0):
    """softmax(Q K^T / sqrt(head width) + mask) V; a head is a run of consecutive channels."""
    query, key, value = (x.unflatten(2, (heads, -1)).transpose(1, 2) for x in (query, key, value))
    scores = query @ key.mT / math.sqrt(query.shape[3]) + mask
    return (scores.softmax(-1) @ value).transpose(1, 2).flatten(2)


def unet_residual(weights, x, time):
    """The time is added between the two convolutions; norms have eps 1e-5."""
    h = weights.norm_silu_conv("in_layers.0", "in_layers.2", x, 1e-5)
    h = h + weights.linear("emb_layers.1", F.silu(time))[:, :, None, None]
    h = weights.norm_silu_conv("out_layers.0", "out_layers.3", h, 1e-5)
    return h + (weights.conv("skip_connection", x) if weights.has("skip_connection") else x)


def unet_attention(weights, x, context, heads):
    projected = weights.linear("to_q", x), *(weights.linear(f"to_{n}", context) for n in "kv")
    return weights.linear("to_out.0", attention(*projected, heads))


def transformer(weights, x, text, heads):
    """Self-attention, cross-attention to the text, then GEGLU; the group norm has eps 1e-6."""
    h = weights.linear("proj_in", weights.group_norm("norm", x, 1e-6).flatten(2).mT)
    for block in weights.numbered("transformer_blocks"):
        normed = block.layer_norm("norm1", h)
        h = h + unet_attention(block.below("attn1"), normed, normed, heads)
        h = h + unet_attention(block.below("attn2"), block.layer_norm("norm2", h), text, heads)
        value, gate = block.linear("ff.net.0.proj", block.layer_norm("norm3", h)).chunk(2, dim=2)
        h = h + block.linear("ff.net.2", value * F.gelu(gate))
    return x + weights.linear("proj_out", h).mT.reshape(x.shape)


def unet_block(weights, name, x, time, text, heads):
    """The layers of a block in order, recognised by the names of their tensors."""
    for number, layer in enumerate(weights.numbered(name)):
        if layer.has("in_layers"):
            x = unet_residual(layer, x, time)
        elif layer.has("transformer_blocks"):
            x = transformer(layer, x, text, heads(x.shape[1]))
        elif layer.has("op"):
            x = layer.conv("op", x, stride=2)
        elif layer.has("conv"):
            x = layer.upsample_conv("conv", x)
        else:
            x = weights.conv(f"{name}.{number}", x)
    return x


def embed_time(weights, time):
    """Cosines, then sines, of frequencies from 1 towards 1/10000, in float32; then two layers."""
    half = weights("time_embed.0.weight").shape[1] // 2
    angles = time[:, None].float() * torch.exp(-math.log(10000.0) * torch.arange(half) / half)
    waves = torch.cat([angles.cos(), angles.sin()], 1).double()
    return weights.linear("time_embed.2", F.silu(weights.linear("time_embed.0", waves)))


def unet_encoder(weights, x, time, text, heads):
    """Return the state after each input block, and after the middle block."""
    states = []
    for number in range(len(weights.numbered("input_blocks"))):
        x = unet_block(weights, f"input_blocks.{number}", x, time, text, heads)
        states.append(x)
    return states, unet_block(weights, "middle_block", x, time, text, heads)


def denoise(unet, control, x, hint, time, text, heads):
    """The ControlNet takes state and hint; its outputs are added to the UNet's skip connections."""
    state = torch.cat([x, hint], 1)
    states, middle = unet_encoder(control, state, embed_time(control, time), text, heads)
    time = embed_time(unet, time)
    skips, h = unet_encoder(unet, x, time, text, heads)
    h = h + control.conv("middle_block_out.0", middle)
    for number in range(len(unet.numbered("output_blocks"))):
        skip = skips.pop() + control.conv(f"zero_convs.{len(skips)}.0", states.pop())
        h = unet_block(unet, f"output_blocks.{number}", torch.cat([h, skip], 1), time, text, heads)
    return unet.norm_silu_conv("out.0", "out.2", h, 1e-5)


def heads_of(fields):
    """LDM's rule: heads of a given width, or else a given number, on every level."""
    width = fields.get("num_head_channels", -1)
    return lambda channels: fields["num_heads"] if width == -1 else channels // width


def vae_residual(weights, x):
    """A residual block without time; norms have eps 1e-6."""
    h = weights.norm_silu_conv("norm1", "conv1", x, 1e-6)
    h = weights.norm_silu_conv("norm2", "conv2", h, 1e-6)
    return h + (weights.conv("nin_shortcut", x) if weights.has("nin_shortcut") else x)


def vae_middle(weights, x):
    """Single-head attention between two residual blocks."""
    x = vae_residual(weights.below("block_1"), x)
    if weights.has("attn_1"):
        layer = weights.below("attn_1")
        h = layer.group_norm("norm", x, 1e-6).flatten(2).mT
        h = attention(*(layer.linear(name, h) for name in "qkv"), heads=1)
        x = x + layer.linear("proj_out", h).mT.reshape(x.shape)
    return vae_residual(weights.below("block_2"), x)


def encode(weights, image):
    """Return mean and log-variance; strided convolutions are padded at the right and bottom."""
    encoder = weights.below("encoder")
    x = encoder.conv("conv_in", 2.0 * image - 1.0)
    for level in encoder.numbered("down"):
        for block in level.numbered("block"):
            x = vae_residual(block, x)
        if level.has("downsample"):
            x = level.conv("downsample.conv", F.pad(x, (0, 1, 0, 1)), stride=2, padding=0)
    x = encoder.norm_silu_conv("norm_out", "conv_out", vae_middle(encoder.below("mid"), x), 1e-6)
    return weights.conv("quant_conv", x).chunk(2, dim=1)


def decode(weights, latent):
    """Return an image; level 0 is the finest and runs last."""
    decoder = weights.below("decoder")
    x = decoder.conv("conv_in", weights.conv("post_quant_conv", latent))
    x = vae_middle(decoder.below("mid"), x)
    for level in reversed(decoder.numbered("up")):
        for block in level.numbered("block"):
            x = vae_residual(block, x)
        if level.has("upsample"):
            x = level.upsample_conv("upsample.conv", x)
    return (decoder.norm_silu_conv("norm_out", "conv_out", x, 1e-6) + 1.0) / 2.0


def embed_text(weights, tokens, heads):
    """Return the penultimate output: all causal blocks but the last, then a norm."""
    x = (weights("token_embedding.weight")[tokens] + weights("positional_embedding"))[None]
    mask = torch.full((len(tokens), len(tokens)), -math.inf).triu(1)
    for block in weights.numbered("transformer.resblocks")[:-1]:
        joint = block("attn.in_proj_weight"), block("attn.in_proj_bias")
        projected = F.linear(block.layer_norm("ln_1", x), *joint).chunk(3, dim=2)
        x = x + block.linear("attn.out_proj", attention(*projected, heads, mask))
        h = F.gelu(block.linear("mlp.c_fc", block.layer_norm("ln_2", x)))
        x = x + block.linear("mlp.c_proj", h)
    return weights.layer_norm("ln_final", x)


def restore(weights, lr):
    """Blocks of three dense blocks of five convolutions; residual scale and slope are 0.2."""
    first = x = weights.conv("conv_first", lr)
    for block in weights.numbered("body"):
        h = x
        for dense in (block.below("rdb1"), block.below("rdb2"), block.below("rdb3")):
            seen = h
            for name in ("conv1", "conv2", "conv3", "conv4"):
                seen = torch.cat([seen, F.leaky_relu(dense.conv(name, seen), 0.2)], 1)
            h = h + 0.2 * dense.conv("conv5", seen)
        x = x + 0.2 * h
    x = first + weights.conv("conv_body", x)
    for name in ("conv_up1", "conv_up2"):
        x = F.leaky_relu(weights.upsample_conv(name, x), 0.2)
    return weights.conv("conv_last", F.leaky_relu(weights.conv("conv_hr", x), 0.2)).clamp(0.0, 1.0)


def official_yaml(config, heads):
    """Return the official YAML file of a configuration."""
    unet, vae, text = config.unet, config.vae, config.text
    multiples = [width / vae.channels[0] for width in vae.channels]
    autoencoder = {"ch": vae.channels[0], "ch_mult": multiples, "num_res_blocks": vae.blocks,
                   "norm_num_groups": vae.groups}  # fmt: skip
    return f"""
params:
  scale_factor: {config.latent_scale}
  unet_config:
    params: &unet
      in_channels: {unet.latent_channels}
      model_channels: {unet.channels[0]}
      channel_mult: {[width / unet.channels[0] for width in unet.channels]}
      num_res_blocks: {unet.blocks}
      attention_resolutions: {[2**level for level, has in enumerate(unet.attention) if has]}
      use_linear_in_transformer: {unet.linear}
      transformer_depth: {unet.depth}
      context_dim: {unet.context}
      norm_num_groups: {unet.groups}
      <<: {heads}
  control_stage_config: {{params: *unet}}
  first_stage_config: {{params: {{ddconfig: {autoencoder}}}}}
  cond_stage_config:
    params: {{width: {text.width}, heads: {text.heads}, layers: {text.layers}}}
"""


def official(config, tensors, given, tokens, text, heads):
    """Return what the official networks compute in float64, and the names of the tensors used."""
    weights = Weights({name: tensor.double() for name, tensor in tensors.items()})
    groups, scale = (config.unet.groups, config.vae.groups), config.latent_scale
    unet, control = (
        weights.below(n, groups[0]) for n in ("model.diffusion_model", "control_model")
    )
    vae, condition = (weights.below(n, groups[1]) for n in ("first_stage_model", "cond_encoder"))
    state = (given["x"], given["hint"], given["time"], text.double().expand(2, -1, -1))
    mean, log_variance = encode(vae, given["restored"])
    expected = {
        "text": embed_text(weights.below("cond_stage_model.model"), tokens, config.text.heads),
        "restored": restore(weights.below("preprocess_model"), given["lr"]),
        "mean": scale * mean,
        "std": scale * torch.exp(log_variance.clamp(-30.0, 20.0) / 2.0),
        "hint": scale * encode(condition, given["restored"])[0],
        "eps": denoise(unet, control, *state, heads_of(heads)),
        "image": decode(vae, given["x"] / scale),
    }
    return expected, weights.used


@torch.no_grad()
def test_the_networks_compute_what_the_official_ones_do(small_model, tmp_path):
    """On the same inputs; every tensor is used except those after the penultimate text block."""
    config, heads = small_model
    tensors = synthetic_state(layout(config))
    torch.save(tensors, tmp_path / "model.ckpt")
    (tmp_path / "model.yaml").write_text(official_yaml(config, heads))
    checkpoint = read_checkpoint(tmp_path / "model.ckpt", tmp_path / "model.yaml")
    assert checkpoint.config == config

    torch.manual_seed(0)
    factor, channels = config.vae.factor, config.unet.latent_channels
    height, width = 2 * config.unet.factor, 3 * config.unet.factor
    given = {  # in float64, where a wrong eps of a norm shows
        "lr": torch.rand(2, 3, 5, 8).double(),
        "restored": torch.rand(2, 3, factor * height, factor * width).double(),
        "x": torch.randn(2, channels, height, width).double(),
        "hint": torch.randn(2, channels, height, width).double(),
        "time": torch.tensor([499.0, 37.0]).double(),
    }
    tokens = tokenize(DEFAULT_PROMPT, config.text.positions)
    text = embed_prompt(checkpoint.part(TEXT), checkpoint.config.text, tokens)
    found = {"text": text}
    for stage in stages(checkpoint.shares_encoder):
        network = stage.build(checkpoint, text).double()
        result = network(*(given[name] for name in stage.inputs))
        result = result if isinstance(result, tuple) else (result,)
        found.update(zip(stage.outputs, result, strict=True))

    expected, used = official(config, tensors, given, tokens, text, heads)
    assert {n: t.shape for n, t in found.items()} == {n: t.shape for n, t in expected.items()}
    errors = {n: float((found[n] - t).norm() / t.norm()) for n, t in expected.items()}
    limits = {"text": 1e-5}  # computed in float32
    assert all(error <= limits.get(n, 1e-6) for n, error in errors.items()), errors
    last = f"transformer.resblocks.{config.text.layers - 1}."
    left_out = tuple(f"{TEXT}{name}" for name in (last, "text_projection", "logit_scale"))
    assert used == {name for name in tensors if not name.startswith(left_out)}
