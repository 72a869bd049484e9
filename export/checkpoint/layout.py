"""The official layout: name and shape of every tensor of a DoSSR checkpoint.

UNet, ControlNet and autoencoder have LDM's names, the text tower OpenCLIP's, RRDBNet BasicSR's.
"""

from collections.abc import Iterator

from .config import (
    CONDITION,
    CONTROL,
    RESTORER,
    TEXT,
    UNET,
    VAE,
    ModelConfig,
    RestorerConfig,
    Shape,
    TextConfig,
    UNetConfig,
    VaeConfig,
)

Tensors = Iterator[tuple[str, Shape]]


def layout(config: ModelConfig) -> dict[str, Shape]:
    """Return the shape of every network tensor by name, without the schedule's buffers."""
    parts = {
        UNET: (*_unet_encoder(config.unet, hint=0), *_unet_decoder(config.unet)),
        CONTROL: (
            *_unet_encoder(config.unet, config.unet.latent_channels),
            *_zero_convs(config.unet),
        ),
        VAE: (*_vae_encoder(config.vae), *_vae_decoder(config.vae)),
        CONDITION: tuple(_vae_encoder(config.vae)),
        TEXT: tuple(_text(config.text)),
        RESTORER: tuple(_restorer(config.restorer)),
    }
    return {prefix + name: shape for prefix, part in parts.items() for name, shape in part}


def _pair(name: str, *weight: int) -> Tensors:
    """Yield a layer's weight and its bias; the bias has the size of the weight's first axis."""
    yield f"{name}.weight", weight
    yield f"{name}.bias", weight[:1]


def _under(prefix: str, tensors: Tensors) -> Tensors:
    return ((f"{prefix}.{name}", shape) for name, shape in tensors)


# UNet and ControlNet


def _resnet(inputs: int, outputs: int, time: int) -> Tensors:
    yield from _pair("in_layers.0", inputs)
    yield from _pair("in_layers.2", outputs, inputs, 3, 3)
    yield from _pair("emb_layers.1", outputs, time)
    yield from _pair("out_layers.0", outputs)
    yield from _pair("out_layers.3", outputs, outputs, 3, 3)
    if inputs != outputs:
        yield from _pair("skip_connection", outputs, inputs, 1, 1)


def _transformer(width: int, unet: UNetConfig) -> Tensors:
    kernel = () if unet.linear else (1, 1)
    yield from _pair("norm", width)
    yield from _pair("proj_in", width, width, *kernel)
    for index in range(unet.depth):
        yield from _under(f"transformer_blocks.{index}", _transformer_block(width, unet.context))
    yield from _pair("proj_out", width, width, *kernel)


def _transformer_block(width: int, context: int) -> Tensors:
    for name, keys in (("attn1", width), ("attn2", context)):
        yield f"{name}.to_q.weight", (width, width)
        yield f"{name}.to_k.weight", (width, keys)
        yield f"{name}.to_v.weight", (width, keys)
        yield from _pair(f"{name}.to_out.0", width, width)
    yield from _pair("ff.net.0.proj", 8 * width, width)
    yield from _pair("ff.net.2", width, 4 * width)
    for index in (1, 2, 3):
        yield from _pair(f"norm{index}", width)


def _encoder_widths(unet: UNetConfig) -> list[tuple[int, int]]:
    """Return (level, width) of each input block's output, which a skip connection carries."""
    widths = [(0, unet.channels[0])]
    for level, width in enumerate(unet.channels):
        widths += [(level, width)] * unet.blocks
        if level < len(unet.channels) - 1:
            widths.append((level, width))
    return widths


def _unet_encoder(unet: UNetConfig, hint: int) -> Tensors:
    base, time = unet.channels[0], 4 * unet.channels[0]
    yield from _pair("time_embed.0", time, base)
    yield from _pair("time_embed.2", time, time)
    yield from _pair("input_blocks.0.0", base, unet.latent_channels + hint, 3, 3)
    index, inputs = 1, base
    for level, width in enumerate(unet.channels):
        for _ in range(unet.blocks):
            yield from _under(f"input_blocks.{index}.0", _resnet(inputs, width, time))
            if unet.attention[level]:
                yield from _under(f"input_blocks.{index}.1", _transformer(width, unet))
            index, inputs = index + 1, width
        if level < len(unet.channels) - 1:
            yield from _pair(f"input_blocks.{index}.0.op", width, width, 3, 3)
            index += 1
    yield from _under("middle_block.0", _resnet(inputs, inputs, time))
    yield from _under("middle_block.1", _transformer(inputs, unet))
    yield from _under("middle_block.2", _resnet(inputs, inputs, time))


def _unet_decoder(unet: UNetConfig) -> Tensors:
    time = 4 * unet.channels[0]
    skips = [width for _, width in _encoder_widths(unet)]
    index, inputs = 0, unet.channels[-1]
    for level in reversed(range(len(unet.channels))):
        width = unet.channels[level]
        for block in range(unet.blocks + 1):
            at = f"output_blocks.{index}"
            yield from _under(f"{at}.0", _resnet(inputs + skips.pop(), width, time))
            if unet.attention[level]:
                yield from _under(f"{at}.1", _transformer(width, unet))
            if level and block == unet.blocks:
                after = 1 + unet.attention[level]
                yield from _pair(f"{at}.{after}.conv", width, width, 3, 3)
            index, inputs = index + 1, width
    yield from _pair("out.0", inputs)
    yield from _pair("out.2", unet.latent_channels, inputs, 3, 3)


def _zero_convs(unet: UNetConfig) -> Tensors:
    widths = [width for _, width in _encoder_widths(unet)]
    for index, width in enumerate(widths):
        yield from _pair(f"zero_convs.{index}.0", width, width, 1, 1)
    yield from _pair("middle_block_out.0", widths[-1], widths[-1], 1, 1)


# Autoencoder


def _vae_block(inputs: int, outputs: int) -> Tensors:
    yield from _pair("norm1", inputs)
    yield from _pair("conv1", outputs, inputs, 3, 3)
    yield from _pair("norm2", outputs)
    yield from _pair("conv2", outputs, outputs, 3, 3)
    if inputs != outputs:
        yield from _pair("nin_shortcut", outputs, inputs, 1, 1)


def _vae_middle(width: int, attention: bool) -> Tensors:
    yield from _under("mid.block_1", _vae_block(width, width))
    if attention:
        yield from _pair("mid.attn_1.norm", width)
        for name in ("q", "k", "v", "proj_out"):
            yield from _pair(f"mid.attn_1.{name}", width, width, 1, 1)
    yield from _under("mid.block_2", _vae_block(width, width))


def _vae_encoder(vae: VaeConfig) -> Tensors:
    moments, last = 2 * vae.latent_channels, len(vae.channels) - 1
    yield from _pair("encoder.conv_in", vae.channels[0], 3, 3, 3)
    inputs = vae.channels[0]
    for level, width in enumerate(vae.channels):
        for block in range(vae.blocks):
            yield from _under(f"encoder.down.{level}.block.{block}", _vae_block(inputs, width))
            inputs = width
        if level < last:
            yield from _pair(f"encoder.down.{level}.downsample.conv", width, width, 3, 3)
    yield from _under("encoder", _vae_middle(inputs, vae.attention))
    yield from _pair("encoder.norm_out", inputs)
    yield from _pair("encoder.conv_out", moments, inputs, 3, 3)
    yield from _pair("quant_conv", moments, moments, 1, 1)


def _vae_decoder(vae: VaeConfig) -> Tensors:
    latent, inputs = vae.latent_channels, vae.channels[-1]
    yield from _pair("post_quant_conv", latent, latent, 1, 1)
    yield from _pair("decoder.conv_in", inputs, latent, 3, 3)
    yield from _under("decoder", _vae_middle(inputs, vae.attention))
    for level in reversed(range(len(vae.channels))):
        for block in range(vae.blocks + 1):
            width = vae.channels[level]
            yield from _under(f"decoder.up.{level}.block.{block}", _vae_block(inputs, width))
            inputs = width
        if level:
            yield from _pair(f"decoder.up.{level}.upsample.conv", inputs, inputs, 3, 3)
    yield from _pair("decoder.norm_out", inputs)
    yield from _pair("decoder.conv_out", 3, inputs, 3, 3)


# Text tower


def _text(text: TextConfig) -> Tensors:
    width = text.width
    yield "token_embedding.weight", (text.vocabulary, width)
    yield "positional_embedding", (text.positions, width)
    for index in range(text.layers):
        at = f"transformer.resblocks.{index}"
        yield from _pair(f"{at}.ln_1", width)
        yield f"{at}.attn.in_proj_weight", (3 * width, width)
        yield f"{at}.attn.in_proj_bias", (3 * width,)
        yield from _pair(f"{at}.attn.out_proj", width, width)
        yield from _pair(f"{at}.ln_2", width)
        yield from _pair(f"{at}.mlp.c_fc", 4 * width, width)
        yield from _pair(f"{at}.mlp.c_proj", width, 4 * width)
    yield from _pair("ln_final", width)
    yield "text_projection", (width, width)
    yield "logit_scale", ()


# Restorer


def _restorer(restorer: RestorerConfig) -> Tensors:
    features, growth = restorer.features, restorer.growth
    yield from _pair("conv_first", features, 3, 3, 3)
    for block in range(restorer.blocks):
        for dense in (1, 2, 3):
            for index in range(5):
                outputs = features if index == 4 else growth
                at = f"body.{block}.rdb{dense}.conv{index + 1}"
                yield from _pair(at, outputs, features + index * growth, 3, 3)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        yield from _pair(name, features, features, 3, 3)
    yield from _pair("conv_last", 3, features, 3, 3)
