"""How tensors of torch's loop pass to an engine of the runtime and back."""

from contextlib import contextmanager

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from dossr.bench.measure import backends  # noqa: E402
from dossr.bench.measure.backends import OnnxBackend, TorchBackend  # noqa: E402
from dossr.bench.measure.timing import peak_memory  # noqa: E402
from dossr.bench.systems.system import Figures, Input, Network  # noqa: E402
from dossr.runtime.engines.device import Host  # noqa: E402


class Toy(nn.Module):
    """Every kind of input that networks have: an image, a time, token ids, and a number."""

    def __init__(self):
        super().__init__()
        self.conv, self.words = nn.Conv2d(3, 4, 3, padding=1), nn.Embedding(10, 4)

    def forward(self, x, time, tokens, scale):
        found = self.conv(x) + self.words(tokens).sum(1)[..., None, None]
        return found * scale + time, found


INPUTS = (Input("x", (2, 3, 8, 6)), Input("time", (1,)), Input("tokens", (2, 5), 10), Input("scale", ()))  # fmt: skip
NETWORK = Network("toy", Toy, INPUTS, ("y", "found"), 1, Figures())


def _inputs(seed=0, device="cpu"):
    generator = torch.Generator().manual_seed(seed)
    x, time = torch.rand(2, 3, 8, 6, generator=generator), torch.full((1,), 499.0)
    tokens = torch.randint(10, (2, 5), generator=generator)
    inputs = {"x": x, "time": time, "tokens": tokens, "scale": torch.tensor(0.5)}
    return {name: tensor.to(device) for name, tensor in inputs.items()}


class Handed:
    """An output that another library may only ask for inside the device's block."""

    def __init__(self, array, device):
        self.array, self._device = array, device

    def __dlpack__(self, **options):
        assert self._device.is_active
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return self.array.__dlpack_device__()


class WatchedHost(Host):
    """Records the arrays that engines take and return; refuses copies through the host."""

    def __init__(self):
        super().__init__()
        self.taken, self.returned, self.is_active = [], [], False

    @contextmanager
    def active(self):
        self.is_active = True
        yield
        self.is_active = False

    def from_dlpack(self, array):
        assert self.is_active
        return super().from_dlpack(array)

    def upload(self, array):
        raise AssertionError("an input is copied")

    def download(self, array):
        raise AssertionError("an output is copied")

    def open_file(self, path):
        engine = super().open_file(path)
        run = engine.run

        def watched(**inputs):
            found = run(**inputs)
            self.taken.append(inputs)
            self.returned.append(found)
            return {name: Handed(array, self) for name, array in found.items()}

        engine.run = watched
        return engine


@pytest.fixture
def watched(monkeypatch):
    """The device of a backend that is watched."""
    device = WatchedHost()
    monkeypatch.setattr(backends, "load_onnx_device", lambda name, precision: device)
    return device


@pytest.fixture(scope="module")
def toy():
    """The toy network in ONNX Runtime."""
    with OnnxBackend().open(NETWORK) as run:
        yield run


@pytest.fixture(scope="module")
def eager():
    """The toy network in torch."""
    with TorchBackend().open(NETWORK) as run:
        yield run


def _assert_same(found, expected):
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-5)


def test_tensors_reach_the_engine_and_come_back_without_a_copy(watched):
    inputs = _inputs()
    with OnnxBackend().open(NETWORK) as run, torch.inference_mode():
        outputs = run(**inputs)
    (taken,), (returned,) = watched.taken, watched.returned
    assert {n: array.ctypes.data for n, array in taken.items()} == {
        n: tensor.data_ptr() for n, tensor in inputs.items()
    }
    assert [tensor.data_ptr() for tensor in outputs] == [
        returned[name].ctypes.data for name in NETWORK.outputs
    ]


def test_what_the_engine_returned_outlives_it(eager):
    with OnnxBackend().open(NETWORK) as run:
        outputs = run(**_inputs())
    del run
    _assert_same(outputs, eager(**_inputs()))


def test_a_call_leaves_the_outputs_of_the_call_before(toy, eager):
    """Nor does it see what its caller writes to them."""
    first = toy(**_inputs(0))
    second = toy(**_inputs(1))
    _assert_same(first, eager(**_inputs(0)))
    for tensor in first:
        tensor.zero_()
    _assert_same(second, eager(**_inputs(1)))
    _assert_same(toy(**_inputs(0)), eager(**_inputs(0)))


def _transposed(inputs):
    return {**inputs, "x": inputs["x"].transpose(2, 3).contiguous().transpose(2, 3)}


def _cut(inputs):
    wide = torch.cat([inputs["x"]] * 2, 3)
    return {**inputs, "x": wide[..., 6:], "tokens": inputs["tokens"].repeat(1, 2)[:, 5:]}


def _channels_last(inputs):
    return {**inputs, "x": inputs["x"].to(memory_format=torch.channels_last)}


def _repeated(inputs):
    return {**inputs, "x": inputs["x"][:1].expand(2, 3, 8, 6), "tokens": inputs["tokens"][:1].expand(2, 5)}  # fmt: skip


def _with_gradient(inputs):
    return {**inputs, "x": inputs["x"].clone().requires_grad_()}


@pytest.mark.parametrize("inference", [True, False])
@pytest.mark.parametrize(
    "laid_out", [dict, _transposed, _cut, _channels_last, _repeated, _with_gradient]
)
def test_tensors_of_any_layout_are_taken(toy, eager, laid_out, inference):
    with torch.inference_mode(inference):
        inputs = laid_out(_inputs())
        found = toy(**inputs)
    _assert_same(found, eager(**inputs))


def test_weights_of_half_precision_stay_close(eager):
    with OnnxBackend(precision="fp16").open(NETWORK) as run:
        found = run(**_inputs())
    for one, other in zip(found, eager(**_inputs()), strict=True):
        error = (one - other).norm() / other.norm()
        assert 0 < error < 1e-3


def test_memory_that_torch_does_not_allocate_is_not_stated():
    backend = OnnxBackend("cuda")
    assert backend.device.type == "cuda"
    assert peak_memory(backend) is None


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
@pytest.mark.parametrize(("precision", "bound"), [("fp32", 1e-5), ("fp16", 1e-2)])
def test_a_loop_on_a_gpu_stays_there_and_in_order(eager, precision, bound):
    """The last two calls replay CUDA graphs; no call waits for torch's queue, which is long before each."""
    backend = OnnxBackend("cuda", precision)
    with backend.open(NETWORK) as run, torch.inference_mode():
        for seed in range(4):
            inputs = _inputs(seed, "cuda")
            busy = torch.rand(4096, 4096, device="cuda")
            for _ in range(20):
                busy = busy @ busy / busy.norm()
            late = {**inputs, "x": inputs["x"] + 0.0 * busy[0, 0]}
            found = run(**late)
            del late
            torch.full_like(inputs["x"], float("nan"))  # takes the memory of the input that is gone
            for one, other in zip(found, eager(**_inputs(seed)), strict=True):
                assert one.device.type == "cuda"
                assert (one.cpu() - other).norm() / other.norm() < bound
