"""The variance of ONNX Runtime's CUDA kernel on flat images, by its own order of additions.

The kernel takes a variance as E[x^2] - E[x]^2 in float32. Where the mean is large beside the deviation, the
difference is rounding error and may be negative. In the demo model it is neither.
"""

import shutil

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from dossr.export.graph.ort_group_norm import OPERATOR
from dossr.export.graph.standard_operators import to_standard_operators
from dossr.runtime.bundle import DEMO, open_bundle
from dossr.runtime.engines.onnxruntime.session import open_model

SIDE = 256
BLOCKS = 1024  # the kernel divides the pixels among fewer blocks than this
FLAT = {"black": 0.0, "grey": 0.5, "white": 1.0}


def _sequential(parts):
    """Sum the first axis in its order, as threads and atomic additions do."""
    total = np.zeros_like(parts[0])
    for part in parts:
        total = total + part
    return total


def _kernel(x, groups):
    """Return mean and variance of each group as the kernel computes them; x is (channels, h, w)."""
    pixels = x[0].size
    blocks = max(n for n in range(1, BLOCKS) if pixels % n == 0)
    # A thread adds two channels over the pixels of its block; then come the threads, then the blocks.
    pairs = x.reshape(groups, -1, 2, blocks, pixels // blocks)
    means = []
    for values in (pairs, pairs * pairs):
        two = np.moveaxis(values[:, :, 0] + values[:, :, 1], -1, 0)
        by_block = _sequential(np.moveaxis(_sequential(two), 1, 0))
        count = np.float32(x.size / groups)
        means.append(_sequential(np.moveaxis(by_block, -1, 0)) / count)
    return means[0], means[1] - means[0] * means[0]


def _norms(path, inputs):
    """Yield the input of every norm of a network, its groups and its epsilon."""
    model = ir.load(path)
    kernels = [node for node in model.graph if node.op_type == OPERATOR]
    names = [str(kernel.inputs[0].name) for kernel in kernels]
    runnable = ir.to_proto(to_standard_operators(model))
    half = onnx.TensorProto.FLOAT16
    runnable.graph.output.extend(
        onnx.helper.make_tensor_value_info(name, half, None) for name in names
    )
    arrays = open_model(runnable.SerializeToString(), path).run(names, inputs)
    for array, kernel in zip(arrays, kernels, strict=True):
        image = array[0].transpose(2, 0, 1).astype(np.float32)  # the kernel's channels come last
        groups, epsilon = kernel.attributes["groups"], kernel.attributes["epsilon"]
        yield image, groups.as_int(), epsilon.as_float()


@pytest.mark.parametrize(
    ("stage", "name", "channels"), [("encoder", "restored", 3), ("decoder", "x", 6)]
)
@pytest.mark.parametrize("level", FLAT.values(), ids=FLAT)
def test_the_kernels_variance_holds_on_flat_images(tmp_path, stage, name, channels, level):
    bundle = open_bundle(DEMO)
    for file in (bundle.path(stage, "cuda"), DEMO / bundle.manifest.stages[stage].weights):
        shutil.copy(file, tmp_path)
    side = SIDE if stage == "encoder" else SIDE // 4
    image = np.full((1, channels, side, side), level, np.float32)
    found = list(_norms(tmp_path / bundle.path(stage, "cuda").name, {name: image}))
    assert len(found) in (9, 13)
    for x, groups, epsilon in found:
        mean, variance = _kernel(x, groups)
        exact = x.reshape(groups, -1).astype(np.float64)
        deviation = np.sqrt(exact.var(1) + epsilon)
        assert np.all(variance + epsilon > 0)
        assert np.abs(np.sqrt(variance + epsilon) / deviation - 1).max() < 1e-4
        assert np.abs((mean - exact.mean(1)) / deviation).max() < 1e-4


def test_the_imitation_shows_where_the_kernel_would_fail():
    noise = np.random.default_rng(0).normal(size=(4, 64, 64)) * 0.01
    mean, variance = _kernel((noise + 30.0).astype(np.float32), groups=2)
    assert np.abs(mean - 30.0).max() < 1e-3
    assert np.abs(np.sqrt(np.maximum(variance, 0)) / 0.01 - 1).max() > 0.1
