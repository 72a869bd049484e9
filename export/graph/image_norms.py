"""A graph pass for OpenVINO: norms are written out in the networks that read or give an image.

Before and after: as in ``expand_group_norm``, in graphs with an input or output of three channels. The
norms of other graphs stay whole.
Reason: between convolutions, OpenVINO's processor plugin keeps channels last; a whole norm is brought into
another order and back. On images of 512 x 512, that takes 5 % of the VAE's time in bfloat16. It also takes
the mean of a large flat image inexactly: 1.4e-4 in the encoder's output, against 4e-6 written out. The
denoiser's images are an eighth as large; its time would not change and its nodes would double, and with
them the time to compile.
"""

import onnx_ir as ir

from .expand_group_norm import expand_group_norms

_IMAGE_CHANNELS = 3


def expand_image_norms(model: ir.Model) -> None:
    """Write out every GroupNormalization of a graph that reads or gives an image."""
    if any(_is_image(value) for value in (*model.graph.inputs, *model.graph.outputs)):
        expand_group_norms(model)


def _is_image(value: ir.Value) -> bool:
    shape = value.shape
    return shape is not None and len(shape) == 4 and shape[1] == _IMAGE_CHANNELS
