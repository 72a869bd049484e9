"""The VAE's single head of 512 at the official size, whole and decomposed, in NVIDIA's compiler."""

import click
import pytest
import torch

from dossr.export.checkpoint.config import OFFICIAL
from dossr.export.graph.decompose_attention import decompose_large_heads
from dossr.export.graph.fp16 import to_fp16
from dossr.export.graph.scale_attention import scale_attention
from dossr.export.graph.trace import trace
from dossr.export.graph.weights import write_graphs
from dossr.export.networks.autoencoder import Decoder, Encoder, autoencoder
from dossr.export.probe_inputs import example
from dossr.export.stages import stages

pytestmark = pytest.mark.full

FORMS = {"whole": (scale_attention,), "decomposed": (decompose_large_heads, scale_attention)}
SIZES = {"encoder": {"restored": (1, 3, 512, 512)}, "decoder": {"x": (1, 4, 64, 64)}}


@pytest.mark.parametrize("precision", ["fp16", "fp32"])
@pytest.mark.parametrize("name", SIZES)
def test_both_forms_compile_to_the_same_memory(tmp_path, name, precision):
    pytest.importorskip("tensorrt_rtx")
    from dossr.runtime.engines.tensorrt.library import select_library

    select_library("tensorrt-rtx")
    from dossr.runtime.engines.tensorrt.build import BuildRequest, build_plan
    from dossr.runtime.engines.tensorrt.options import BuildOptions
    from dossr.runtime.engines.tensorrt.progress import BuildProgress

    torch.manual_seed(0)
    stage = next(stage for stage in stages(True) if stage.name == name)
    wrap = {"encoder": Encoder, "decoder": Decoder}[name]
    network = wrap(autoencoder(OFFICIAL), OFFICIAL.latent_scale).eval()
    canonical = trace(stage, network, example(stage, OFFICIAL))
    profile = {tensor: (shape,) * 3 for tensor, shape in SIZES[name].items()}
    memory = {}
    for form, passes in FORMS.items():
        model = canonical.clone()
        for step in passes:
            step(model)
        if precision == "fp16":
            to_fp16(model)
        path = tmp_path / f"{form}.onnx"
        write_graphs({path: model}, path.with_suffix(".weights"), lambda _size: None)
        request = BuildRequest(path, profile, BuildOptions(), precision, capabilities=("8.9",))
        _, notes = build_plan(request, BuildProgress(lambda _share, _left: None))
        memory[form] = notes["activation_memory"]
        click.echo(f"\n{name}, {precision}, attention {form}: {memory[form] / 1e6:.0f} MB")
    assert memory["whole"] == pytest.approx(memory["decomposed"], rel=0.05)
