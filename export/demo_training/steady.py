"""Norms that do not see what is elsewhere in the image, for an autoencoder of group norms."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

_STEADY, _LEAST = 10.0, 0.5
"""A constant in standard deviations of the other channels, and the smallest one."""


def steady_norms(vae: AutoencoderKL, run: Callable[[], None]) -> Callable[[], None]:
    """Make every norm nearly independent of the image, by two channels in each of its groups.

    Else a colour's latent depends on all of its image. One channel is a large constant, the other its opposite, so
    that the standard deviation is theirs; both take half of the negative sum of the others, so that the mean
    is 0. ``run`` passes typical images through ``vae``: for them, gains make up for the larger standard deviation,
    and the means of what the two channels did are kept. What else they did is lost, and is to be learnt again.
    Norms that are steady already are left alone.

    Return a function that makes them so again, which a training calls before every step and at its end.
    """
    streams = [stream for part in (vae.encoder, vae.decoder) for stream in _streams(part)]
    if any(stream.ends_matter() for stream in streams):
        _make_steady(streams, run)
    constants = [stream.constant() for stream in streams]

    @torch.no_grad()
    def hold() -> None:
        for stream, constant in zip(streams, constants, strict=True):
            stream.balance(constant)

    hold()
    return hold


def _make_steady(streams: Sequence["_Stream"], run: Callable[[], None]) -> None:
    modules = [module for stream in streams for module in (*stream.norms, *stream.readers)]
    seen: dict[nn.Module, list[_Seen]] = {module: [] for module in modules}
    hooks = [module.register_forward_hook(_watch(seen[module])) for module in modules]
    with torch.no_grad():
        run()
        for hook in hooks:
            hook.remove()
        for stream in streams:
            _steady(stream, {m: _joined(seen[m]) for m in (*stream.norms, *stream.readers)})


@dataclass(frozen=True)
class _Stream:
    """Channels that pass through an autoencoder, from one convolution to those that read them."""

    source: nn.Conv2d
    added: list[nn.Conv2d] = field(default_factory=list)
    """Ends of residual branches."""

    norms: list[nn.GroupNorm] = field(default_factory=list)
    readers: list[nn.Conv2d] = field(default_factory=list)
    """Besides the norms."""

    @property
    def groups(self) -> int:
        return self.norms[0].num_groups

    @property
    def high(self) -> Tensor:
        """The channels with a positive constant, one in each group."""
        return torch.arange(1, self.groups + 1) * (self.source.out_channels // self.groups) - 2

    @property
    def low(self) -> Tensor:
        """Those with a negative one."""
        return self.high + 1

    @property
    def ends(self) -> Tensor:
        return torch.cat([self.high, self.low])

    def ends_matter(self) -> bool:
        """Return whether a norm passes more than a constant from these channels."""
        return any(bool(norm.weight[self.ends].any()) for norm in self.norms)

    def constant(self) -> Tensor:
        """Return the positive constants."""
        assert self.source.bias is not None
        return (self.source.bias[self.high] - self.source.bias[self.low]).detach() / 2.0

    def balance(self, constant: Tensor) -> None:
        """Set the channels to constants of opposite sign, less half of the sum of their group's others."""
        for convolution in (self.source, *self.added):
            for values in (convolution.weight, convolution.bias):
                assert values is not None
                values[self.ends] = 0.0
                half = values.reshape(self.groups, -1, *values.shape[1:]).sum(1) / 2.0
                values[self.high] = values[self.low] = -half
        assert self.source.bias is not None
        self.source.bias[self.high] += constant
        self.source.bias[self.low] -= constant
        for reader in self.readers:
            reader.weight[:, self.ends] = 0.0
        for norm in self.norms:
            norm.weight[self.ends] = 0.0


def _streams(part: Any) -> Iterator[_Stream]:
    """Find the streams of an encoder or a decoder without attention."""
    downwards = hasattr(part, "down_blocks")
    blocks = [*part.down_blocks, part.mid_block] if downwards else [part.mid_block, *part.up_blocks]
    stream = _Stream(part.conv_in)
    for block in blocks:
        for residual in block.resnets:
            stream.norms.append(residual.norm1)
            yield _Stream(residual.conv1, norms=[residual.norm2])
            if residual.conv_shortcut is not None:
                stream.readers.append(residual.conv_shortcut)
                yield stream
                stream = _Stream(residual.conv_shortcut)
            stream.added.append(residual.conv2)
        for sampler in getattr(block, "downsamplers" if downwards else "upsamplers", None) or ():
            stream.readers.append(sampler.conv)
            yield stream
            stream = _Stream(sampler.conv)
    stream.norms.append(part.conv_norm_out)
    yield stream


@dataclass(frozen=True)
class _Seen:
    """Means over the pixels of each image, (images, channels)."""

    mean: Tensor
    square: Tensor
    after: Tensor
    """Mean of the module's output."""

    def deviation(self, groups: int) -> Tensor:
        """Return the standard deviation within each group, (images, groups)."""
        grouped = len(self.mean), groups, -1
        mean, square = self.mean.reshape(grouped).mean(2), self.square.reshape(grouped).mean(2)
        deviation: Tensor = (square - mean**2).sqrt()
        return deviation


def _watch(seen: list[_Seen]) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def hook(_: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        x = inputs[0].float()
        pixels = (2, 3)
        seen.append(_Seen(x.mean(pixels), (x**2).mean(pixels), output.float().mean(pixels)))

    return hook


def _joined(seen: list[_Seen]) -> _Seen:
    return _Seen(
        *(torch.cat([getattr(each, name) for each in seen]) for name in ("mean", "square", "after"))
    )


def _steady(stream: _Stream, seen: dict[nn.Module, _Seen]) -> None:
    """Put the constants into one stream."""
    groups, ends = stream.groups, stream.ends
    others = torch.stack([_without(seen[norm], ends).deviation(groups) for norm in stream.norms])
    constant = (_STEADY * others.amax((0, 1))).clamp(min=_LEAST)
    for reader in stream.readers:
        assert reader.bias is not None
        reader.bias += reader.weight[:, ends].sum((2, 3)) @ seen[reader].mean[:, ends].mean(0)
    for norm in stream.norms:
        before = seen[norm].deviation(groups)
        steady = _without(seen[norm], ends, constant.repeat(2))
        gain = (steady.deviation(groups).log() - before.log()).mean(0).exp()
        size = norm.num_channels // groups
        norm.weight.mul_(gain.repeat_interleave(size))
        subtracted = seen[norm].mean.reshape(-1, groups, size).mean(2) / steady.deviation(groups)
        norm.bias.sub_(norm.weight * subtracted.mean(0).repeat_interleave(size))
        norm.bias[ends] = seen[norm].after[:, ends].mean(0)
    stream.balance(constant)


def _without(seen: _Seen, ends: Tensor, constant: Tensor | float = 0.0) -> _Seen:
    """Return the means with constants of opposite sign in place of some channels."""
    mean, square = seen.mean.clone(), seen.square.clone()
    mean[:, ends] = 0.0
    square[:, ends] = torch.as_tensor(constant, dtype=square.dtype, device=square.device) ** 2
    return _Seen(mean, square, seen.after)
