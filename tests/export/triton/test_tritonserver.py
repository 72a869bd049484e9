"""A real tritonserver serves what ``dossr-export --triton`` writes, with the results of dossr-run."""

import importlib.util
import io
import itertools
import struct
import subprocess
import sys
import zlib
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dossr.bench.serve.server import ServerError, running
from dossr.export.triton.repository import write_repository
from dossr.export.triton.serve_settings import parse_serve
from dossr.runtime import load_pipeline
from dossr.runtime.bundle import open_bundle

ROOT = Path(__file__).parents[3]
CLIENT = ROOT / "docs" / "triton" / "client.py"
WHEEL = ROOT / ".triton"
SERVER = WHEEL / "pytriton" / "tritonserver" / "bin" / "tritonserver"
MISSING = [
    reason
    for reason, is_there in {
        "no tritonserver in .triton: make .triton/installed": (WHEEL / "installed").is_file(),
        "no tritonclient: pip install 'tritonclient[http]'": importlib.util.find_spec(
            "tritonclient"
        ),
    }.items()
    if not is_there
]
pytestmark = pytest.mark.skipif(bool(MISSING), reason="; ".join(MISSING))

RUN = [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]
TYPES = {int: ("INT64", np.int64), float: ("FP64", np.float64), bool: ("BOOL", np.bool_),
         bytes: ("BYTES", np.object_)}  # fmt: skip


@pytest.fixture(scope="module")
def url(toy_bundle, tmp_path_factory):
    """The address of a server of the toy bundle that takes images of up to 4096 pixels."""
    models = tmp_path_factory.mktemp("models")
    options = parse_serve(["max_pixels=4096", "instances=2", "tile=64"])
    write_repository(open_bundle(toy_bundle), models, options)
    with running(models, SERVER, seconds=60) as address:
        yield address


@pytest.fixture
def ask(url):
    """ask(**inputs) returns the first output of a request. Each thread has a client of its own."""

    def send(**inputs):
        import tritonclient.http as http

        client = http.InferenceServerClient(url)
        try:
            result = client.infer("dossr", [_tensor(http, *each) for each in inputs.items()])
            (output,) = result.get_response()["outputs"]
            array = result.as_numpy(output["name"])
            return array[0] if output["name"] == "image" else array
        finally:
            client.close()

    return send


@pytest.fixture
def refused(ask):
    """refused(**inputs) returns the message of a request that fails."""
    from tritonclient.utils import InferenceServerException

    def send(**inputs):
        with pytest.raises(InferenceServerException) as caught:
            ask(**inputs)
        assert caught.value.status() == "400"
        return caught.value.message()

    return send


def _tensor(http, name, value):
    if isinstance(value, np.ndarray):
        kind, array = "UINT8", value
    else:
        value = value.encode() if isinstance(value, str) else value
        kind, dtype = TYPES[type(value)]
        array = np.array([value], dtype)
    tensor = http.InferInput(name, array.shape, kind)
    tensor.set_data_from_numpy(array)
    return tensor


def _pixels(height, width):
    return np.random.default_rng(height).integers(0, 256, (height, width, 3), np.uint8)


def _png(height=12, width=20):
    data = io.BytesIO()
    Image.fromarray(_pixels(height, width)).save(data, "PNG")
    return data.getvalue()


def _dossr_run(bundle, source, target, *options):
    subprocess.run([*RUN, source, "-o", target, "-b", bundle, *options], check=True, timeout=120)


@pytest.fixture
def photos(tmp_path):
    """A folder of sources that differ in size, format and kind."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for side, suffix in ((16, "png"), (33, "jpg"), (40, "webp"), (63, "bmp")):
        Image.fromarray(_pixels(side, side - 5)).save(folder / f"{suffix}.{suffix}")
    Image.fromarray(_pixels(24, 24)[..., 0]).save(folder / "grey.png")
    deep = np.arange(256, dtype=np.uint16).reshape(16, 16) * 257
    Image.fromarray(deep).save(folder / "deep.png")
    return folder


def test_fifty_requests_of_four_clients_are_byte_equal_to_dossr_run(ask, toy_bundle, photos):
    results = photos.parent / "results"
    _dossr_run(toy_bundle, photos, results, "--seed", "7", "--steps", "2")
    sources = sorted(photos.iterdir())
    expected = {path.name: (results / f"{path.stem}.png").read_bytes() for path in sources}
    todo = list(itertools.islice(itertools.cycle(sources), 50))
    with ThreadPoolExecutor(4) as pool:
        found = pool.map(lambda path: ask(image=path.read_bytes(), seed=7, steps=2), todo)
        for path, data in zip(todo, found, strict=True):
            assert data == expected[path.name], path.name


def test_options_of_a_request_are_those_of_dossr_run(ask, toy_bundle, tmp_path):
    source, target = tmp_path / "in.png", tmp_path / "out.webp"
    source.write_bytes(_png())
    options = {"steps": 3, "order": 1, "seed": 1, "start": 333, "detail": 0.5, "color_fix": "adain",
               "scale": 2.1, "quality": 70, "profile": "srgb"}  # fmt: skip
    flags = [
        text
        for name, value in options.items()
        for text in (f"--{name.replace('_', '-')}", str(value))
    ]
    _dossr_run(toy_bundle, source, target, *flags)
    assert ask(image=source.read_bytes(), format="webp", **options) == target.read_bytes()


def test_the_client_of_the_docs_gets_the_file_of_dossr_run(url, toy_bundle, tmp_path):
    source, expected, found = (
        tmp_path / name for name in ("in.png", "expected.webp", "found.webp")
    )
    source.write_bytes(_png())
    _dossr_run(toy_bundle, source, expected, "--seed", "9", "--steps", "1")
    client = [sys.executable, CLIENT, url, source, found, "--seed", "9", "--steps", "1"]
    subprocess.run(client, check=True, timeout=60)
    assert found.read_bytes() == expected.read_bytes()


def test_raw_arrays_are_those_of_the_pipeline(ask, toy_bundle):
    pixels = _pixels(31, 18)
    expected = load_pipeline(toy_bundle).upscale(pixels, steps=2, seed=3, tile=64)
    np.testing.assert_array_equal(ask(pixels=pixels, steps=2, seed=3), expected)


def _bomb():
    """A small PNG of 60000 x 60000 pixels."""
    size = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", size) + _chunk(b"IDAT", zlib.compress(bytes(9)))


def _chunk(kind, data):
    crc = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + crc


@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        ({"image": b"no image"}, "the input must be an image, got text"),
        ({"image": _png()[:200]}, "the input cannot be read: it may be truncated"),
        ({"image": b"/etc/passwd"}, "the input must be an image"),
        ({"image": _bomb()}, "must have at most 4096 pixels, got 60000 x 60000; pass a larger max_pixels"),
        ({"image": _png(), "color_fix": "best"}, "color_fix must be wavelet, adain, none, got 'best'"),
        ({"image": _png(), "steps": 51}, "steps must be at most this server's 50, got 51"),
        ({"image": _png(), "seed": -1}, "seed must be 0 or more, got -1"),
        ({"image": _png(), "format": "/tmp/x.png"}, "format must be one of png"),
        ({"image": _png(), "scale": 1e6}, "the result must have at most 65536 pixels"),
        ({"image": _png(), "longest": 9, "width": 9}, "at most one size can be asked for"),
        ({"image": _png(), "pixels": _pixels(4, 4)}, "one of image and pixels, got 2"),
        ({"seed": 1}, "one of image and pixels, got 0"),
        ({"pixels": _pixels(4, 4), "format": "jpg"}, "format is for image files"),
        ({"pixels": _pixels(65, 64)}, "pixels must have 1 to 4096 pixels, got 64 x 65"),
        ({"pixels": _pixels(4, 4)[:0]}, "pixels must have 1 to 4096 pixels, got 4 x 0"),
        ({"pixels": _pixels(4, 4)[..., :2]}, "unexpected shape for input 'pixels'"),
        ({"image": _png(), "seed": 1.5}, "data-type is 'FP64'"),
        ({"image": _png(), "path": "x.png"}, "unexpected inference input 'path'"),
    ],
)  # fmt: skip
def test_a_wrong_request_is_one_line_and_the_server_lives(ask, refused, inputs, message):
    got = refused(**inputs)
    assert message in got
    assert "\n" not in got.strip()
    assert Image.open(io.BytesIO(ask(image=_png(), steps=1))).size == (80, 48)


def test_the_output_that_does_not_answer_is_refused(url):
    import tritonclient.http as http
    from tritonclient.utils import InferenceServerException

    with http.InferenceServerClient(url) as client:
        image = _tensor(http, "image", _png())
        with pytest.raises(InferenceServerException, match="the output image answers"):
            client.infer("dossr", [image], outputs=[http.InferRequestedOutput("pixels")])


def test_a_damaged_bundle_is_not_served_and_no_process_stays(fresh_bundle, tmp_path):
    model = write_repository(open_bundle(fresh_bundle), tmp_path / "models", parse_serve([]))
    graph = model / "1" / "bundle" / "decoder.cpu.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    with (
        pytest.raises(
            ServerError, match=r"^tritonserver ended: failed to load.*must have \d+ bytes"
        ),
        running(tmp_path / "models", SERVER, seconds=60),
    ):
        pass
    assert not [line for line in _commands() if bytes(tmp_path) in line]


def _commands():
    """The command lines of all processes."""
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended
            yield (folder / "cmdline").read_bytes()
