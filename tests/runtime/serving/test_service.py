"""The service behind a server: options, limits, and what becomes of a request that fails."""

import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dossr.runtime import EngineError, load_pipeline
from dossr.runtime.cli import main as dossr_run
from dossr.runtime.errors import OutOfMemoryError
from dossr.runtime.serving.inputs import INPUTS
from dossr.runtime.serving.service import RequestError, Service
from dossr.runtime.serving.settings import ServiceSettings, read_parameters
from dossr.runtime.serving.triton import Model

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 12, 3), np.uint8)


def _file(image, kind="PNG", **options):
    data = io.BytesIO()
    image.save(data, kind, **options)
    return data.getvalue()


class _Short:
    """A pipeline whose networks fit no tile above a side."""

    def __init__(self, pipeline, side, error=OutOfMemoryError):
        self._pipeline, self._side, self._error = pipeline, side, error
        self.tried = []

    @property
    def manifest(self):
        return self._pipeline.manifest

    def run(self, pixels, options, **rest):
        self.tried.append(options.tiling.tile)
        if options.tiling.tile > self._side:
            raise self._error("no memory for this tile")
        return self._pipeline.run(pixels, options, **rest)


@pytest.fixture
def pipeline(toy_bundle):
    return load_pipeline(toy_bundle)


@pytest.fixture
def service(pipeline):
    return Service(pipeline, ServiceSettings(max_pixels=1000), lambda line: None)


def test_every_input_is_an_option_of_dossr_run():
    options = {param.name for param in dossr_run.params}
    assert {each.name for each in INPUTS} <= options


def test_no_input_is_a_path():
    names = {each.name for each in INPUTS}
    assert not names & {"inputs", "output", "bundle", "compare", "suffix", "device", "overwrite"}


def test_settings_survive_the_configuration():
    settings = ServiceSettings("openvino", "bf16,decoder=fp32", 64, 32, 4, 2, 1000, 9)
    assert read_parameters(settings.as_parameters()) == settings
    assert read_parameters(ServiceSettings().as_parameters()) == ServiceSettings()
    assert read_parameters({"tile": "auto"}) == ServiceSettings()
    with pytest.raises(ValueError, match=r"a setting must be device=NAME.*got 'devise=cpu'"):
        read_parameters({"devise": "cpu"})


def test_animations_count_with_all_their_frames(service):
    frames = [Image.new("RGB", (20, 20), (shade, 0, 0)) for shade in (0, 90, 180)]
    animation = _file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    with pytest.raises(RequestError, match=r"take the first alone by first_frame$"):
        service.upscale(animation, {})
    result = Image.open(io.BytesIO(service.upscale(animation, {"first_frame": True})))
    assert result.size == (80, 80)


def test_transparency_needs_a_background_where_the_format_has_none(service):
    clear = _file(Image.new("RGBA", (8, 8), (255, 0, 0, 0)))
    with pytest.raises(RequestError, match=r"pass background white, or write a \.png"):
        service.upscale(clear, {"format": "jpg"})
    result = service.upscale(clear, {"format": "jpg", "background": "#00ff00"})
    assert Image.open(io.BytesIO(result)).getpixel((16, 16)) == pytest.approx((0, 255, 0), abs=3)


def test_where_memory_runs_out_later_requests_have_the_smaller_tiles(pipeline):
    short, told = _Short(pipeline, 96), []
    service = Service(short, ServiceSettings(), told.append)
    for _ in range(2):
        assert service.upscale_pixels(PIXELS, {}).shape == (80, 48, 3)
    assert short.tried == [128, 96, 96]
    assert told == ["memory ran out; going on with tiles of 96"]


def test_tiles_of_the_operator_stay(pipeline):
    short = _Short(pipeline, 64)
    with pytest.raises(OutOfMemoryError):
        Service(short, ServiceSettings(tile=128), print).upscale_pixels(PIXELS, {})
    assert short.tried == [128]


def test_an_image_larger_than_the_memory_is_refused_before_the_networks(pipeline, monkeypatch):
    monkeypatch.setattr("dossr.runtime.memory.free_memory", lambda: 1000)
    with pytest.raises(
        MemoryError, match=r"the result needs about 0\.0 GB of memory, and 0\.0 GB are free"
    ):
        Service(pipeline, ServiceSettings(), print).upscale_pixels(PIXELS, {})


def test_the_size_asked_for_counts_with_every_frame(service, monkeypatch):
    """Small files that would become large: the sum of the results, not the largest of them."""
    frames = [Image.new("RGB", (8, 8), (shade, 0, 0)) for shade in range(0, 240, 20)]
    animation = _file(frames[0], "GIF", save_all=True, append_images=frames[1:])
    asked = {"longest": 8192, "format": "gif"}
    with pytest.raises(RequestError, match=r"must have at most .* or send fewer frames$"):
        service.upscale(animation, asked)
    monkeypatch.setattr("dossr.runtime.memory.free_memory", lambda: 600_000)
    asked = {"first_frame": True, "format": "webp"}
    assert service.upscale(animation, {**asked, "longest": 32})
    with pytest.raises(
        MemoryError, match=r"a smaller image or fewer frames, or ask for a smaller size$"
    ):
        service.upscale(animation, {**asked, "longest": 120})


class _Tensor:
    def __init__(self, name, array):
        self.name, self.as_numpy = lambda: name, lambda: array


class _Failure:
    INVALID_ARG, UNAVAILABLE, INTERNAL = "invalid", "unavailable", "internal"

    def __init__(self, message, code):
        self.message, self.code = message, code


def _model(bundle, pipeline=None, device="cpu", **group):
    """A model over stand-ins for Triton's classes, and the lines that it logs."""
    logged = []
    backend = SimpleNamespace(
        Tensor=_Tensor,
        TritonError=_Failure,
        InferenceResponse=lambda tensors=(), error=None: error or tensors[0].as_numpy(),
        Logger=SimpleNamespace(log_info=logged.append, log_error=logged.append),
    )
    parameters = {"device": device, "bundle": str(bundle)}
    config = {
        "parameters": {name: {"string_value": value} for name, value in parameters.items()},
        "instance_group": [{"kind": "KIND_CPU", "count": 1, **group}],
    }
    model = Model(
        backend,
        {
            "model_config": json.dumps(config),
            "model_repository": "/",
            "model_version": "1",
            "model_instance_device_id": "3",
        },
    )
    if pipeline:
        model._service._pipeline = pipeline
    return model, logged


def _request(**inputs):
    tensors = [_Tensor(name, value) for name, value in inputs.items()]
    return SimpleNamespace(
        inputs=lambda: tensors, requested_output_names=lambda: {"image", "pixels"}
    )


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (OutOfMemoryError, "unavailable", "no memory for this tile"),
        (EngineError, "internal", "no memory for this tile"),
        (KeyError, "internal", "KeyError: 'no memory for this tile'"),
    ],
)
def test_a_failure_is_an_error_of_one_line_and_the_next_request_works(
    toy_bundle, pipeline, error, code, message
):
    short = _Short(pipeline, 0, error)
    model, logged = _model(toy_bundle, short)
    (failed,) = model.execute([_request(pixels=PIXELS)])
    assert (failed.code, failed.message) == (code, message)
    assert logged[-1] == message
    short._side = 1000
    good, bad = model.execute([_request(pixels=PIXELS), _request()])
    assert good.shape == (80, 48, 3)
    assert bad.code == "invalid"


def test_arrays_that_an_old_server_spoils_are_not_upscaled(toy_bundle):
    spoiled = np.lib.stride_tricks.as_strided(PIXELS, PIXELS.shape, (0, 0, 0))
    model, _ = _model(toy_bundle)
    (failed,) = model.execute([_request(pixels=spoiled)])
    assert (failed.code, "pip install 'numpy<2'" in failed.message) == ("internal", True)


@pytest.mark.parametrize(
    ("group", "threads"),
    [({}, None), ({"count": 4}, 2), ({"count": 40}, 1), ({"count": 4, "kind": "KIND_GPU"}, None)],
)
def test_instances_on_a_processor_share_its_cores(toy_bundle, monkeypatch, group, threads):
    opened = []
    monkeypatch.setattr("dossr.runtime.serving.triton.usable_cores", lambda: 8)
    monkeypatch.setattr(
        "dossr.runtime.serving.triton.open_service",
        lambda bundle, settings, log: opened.append(settings),
    )
    _model(toy_bundle, **group)
    assert opened[0].threads == threads


def test_an_instance_opens_its_networks_on_the_gpu_that_it_was_given(monkeypatch):
    steps = []
    home = "dossr.runtime.serving.triton"
    monkeypatch.setattr(f"{home}._select_gpu", steps.append)
    monkeypatch.setattr(
        f"{home}.open_service", lambda bundle, settings, log: steps.append("opened")
    )
    for device in ("cuda", "tensorrt", "tensorrt-rtx"):
        _model("bundle", device=device, kind="KIND_GPU")
    _model("bundle", device="cpu")
    assert steps == [3, "opened"] * 3 + ["opened"]


def test_a_missing_package_is_one_line_with_its_extra(toy_bundle, monkeypatch):
    def missing(*_):
        raise ModuleNotFoundError("No module named 'onnxruntime'")

    monkeypatch.setattr("dossr.runtime.serving.triton.open_service", missing)
    with pytest.raises(EngineError, match=r"install it with: pip install 'dossr\[cpu\]'$"):
        _model(toy_bundle)
