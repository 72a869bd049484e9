"""Traces a torch module to an ONNX graph with dynamic batch, height and width."""

import io
import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from typing import Protocol

import onnx_ir as ir
import onnxscript.optimizer
import onnxscript.rewriter
import torch
from onnx_ir.passes import common as passes
from onnxscript.rewriter.rules.common import div_by_1_rule, mul_by_1_rule
from torch import Tensor, nn

OPSET = 23
"""The first that keeps both Attention and GroupNormalization whole."""


class Signature(Protocol):
    """I/O signature: the network's name, its inputs and outputs in the order of forward()."""

    @property
    def name(self) -> str:
        """Name of the network."""
        ...

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of the inputs."""
        ...

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the outputs."""
        ...


def trace(
    signature: Signature,
    network: nn.Module,
    example: Sequence[Tensor],
    dynamic: bool = True,
) -> ir.Model:
    """Return the network as an ONNX graph in float32, which shares the network's weights.

    Nothing in it is arranged for an engine; ``lower`` does that.

    ``example``: the inputs in order. ``dynamic``: every axis but the channels may vary. The example
    then needs a batch of 2 and different sides, so that no axis is taken for a constant.
    """
    free = torch.export.Dim.DYNAMIC
    axes = tuple({a: free for a in range(t.ndim) if a != 1} for t in example)
    with _quiet():
        program = torch.onnx.export(
            network,
            tuple(example),
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=axes if dynamic else None,
            input_names=signature.inputs,
            output_names=signature.outputs,
            optimize=False,  # takes as long as the tracing; _tidy does what is needed
        )
    assert program is not None  # None only where torch writes a file
    model = program.model
    _tidy(model)
    _name_axes(model)
    model.graph.name = signature.name
    return model


def _tidy(model: ir.Model) -> None:
    """Fold constants and remove nodes without effect."""
    passes.InlinePass()(model)
    onnxscript.optimizer.fold_constants(model)
    for step in (
        onnxscript.rewriter.RewritePass([div_by_1_rule, mul_by_1_rule]),
        passes.IdentityEliminationPass(),
        passes.RemoveUnusedNodesPass(),
        passes.LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        passes.DeduplicateInitializersPass(),
        passes.CommonSubexpressionEliminationPass(),
        passes.RemoveUnusedOpsetsPass(),
        passes.ClearMetadataAndDocStringPass(),  # torch's stack traces, most of a small file
        passes.OutputFixPass(),
        passes.NameFixPass(),
    ):
        step(model)


def _name_axes(model: ir.Model) -> None:
    """Give the axes of inputs and outputs meaningful names; torch calls them s77 or similar."""
    names: dict[str, str] = {}
    for value in (*model.graph.inputs, *model.graph.outputs):
        prefix = "" if value.is_graph_input() else f"{value.name}_"
        assert value.shape is not None
        for axis, word in enumerate(("batch", "channels", "height", "width")[: len(value.shape)]):
            if not isinstance(value.shape[axis], int):
                symbol = str(value.shape[axis])
                value.shape[axis] = names.setdefault(symbol, word if axis == 0 else prefix + word)


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the progress lines and warnings of torch's exporter."""
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with (
            warnings.catch_warnings(),
            redirect_stdout(io.StringIO()),
            redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    finally:
        noisy.setLevel(level)
