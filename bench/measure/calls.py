"""What a worker process can be asked: one record for each call, and the record of its result."""

from collections.abc import Callable, Mapping
from typing import ClassVar, Generic, TypeVar

from msgspec import Raw, Struct

R = TypeVar("R")

Tick = Callable[[], None]
"""Called after each network call."""


class Variant(Struct, frozen=True):
    """A backend in one precision, as a row of the results states it."""

    backend: str
    precision: str

    @property
    def is_exported(self) -> bool:
        """Whether the networks are exported to ONNX and run in the runtime."""
        return self.backend in ("onnx", "openvino")

    @property
    def graph_precision(self) -> str:
        """Precision of an exported graph; OpenVINO computes a float32 graph in any precision."""
        return "fp32" if self.backend == "openvino" else self.precision

    @property
    def computed(self) -> str:
        """What the runtime is asked to compute in: other engines than OpenVINO follow their graph."""
        return self.precision if self.backend == "openvino" else "auto"

    def engine(self, device: str) -> str:
        """Return the device of the runtime for a run on ``device``: OpenVINO's, or the same."""
        return "openvino" if self.backend == "openvino" else device


VARIANTS = {
    "torch": Variant("torch", "fp32"),
    "torch-tf32": Variant("torch", "tf32"),
    "torch-fp16": Variant("torch", "fp16"),
    "torch-bf16": Variant("torch", "bf16"),
    "torch-compile": Variant("torch-compile", "fp32"),
    "torch-compile-fp16": Variant("torch-compile", "fp16"),
    "torch-compile-bf16": Variant("torch-compile", "bf16"),
    "onnx": Variant("onnx", "fp32"),
    "onnx-fp16": Variant("onnx", "fp16"),
    "openvino": Variant("openvino", "fp32"),
    "openvino-bf16": Variant("openvino", "bf16"),
}
"""Values of ``--backend``."""


def runs_on_host(device: str) -> bool:
    """Return whether a device's memory is that of the process: all devices but NVIDIA's GPUs."""
    return device.partition(":")[0] in ("cpu", "openvino")


def least_warmup(device: str) -> int:
    """Return how many images after the first must not be timed.

    On a GPU, CUDA graphs are recorded in the second image of a size.
    """
    return 0 if runs_on_host(device) else 3


class NetworkTime(Struct, frozen=True):
    """Times of one network, in seconds."""

    load_s: float
    cold_s: float
    seconds: float
    """Median of the repetitions."""

    peak_bytes: int | None = None
    """Of the process on a CPU, of torch's allocator on a GPU; None where it is unknown."""


class ImageTime(Struct, frozen=True):
    """Times of one system with every step, in seconds."""

    networks: dict[str, NetworkTime]
    cold_s: float
    """The first image."""

    seconds: float
    p90_s: float
    loop_s: float
    """Median time of an image outside its networks."""

    peak_bytes: int | None


class MachineSpeed(Struct, frozen=True):
    """What a machine reaches without any network."""

    io_s: float
    """Seconds of reading and writing an image file."""

    tmac_s: dict[str, float]
    """1e12 multiply-accumulates per second of a matrix product, by precision."""


class StartTime(Struct, frozen=True):
    """Seconds from the start of the process; on a GPU, until the work is queued."""

    called_s: float
    """Until the first network is called."""

    network_s: float
    """Until the first network's result."""

    image_s: float
    """Until the first image."""


class PipelineTime(Struct, frozen=True):
    """Times of a whole pipeline, in seconds."""

    start: StartTime
    load_s: float
    first_s: float
    seconds: list[float]
    """Images after the warm-up."""

    stages: list[dict[str, float]]
    """By stage, of as many additional images."""

    precisions: dict[str, str]
    """The precision that each stage computes in."""

    memory_bytes: int | None
    """Peak of the process on a CPU, of the device on a GPU."""

    mapped_bytes: int | None
    """Pages of mapped files in the peak of a process; None on a GPU."""

    golden: float | None = None
    """Largest relative error against a bundle's golden vectors, measured after all times."""


class WorkerCall(Struct, Generic[R], frozen=True, kw_only=True, tag=True):
    """A question to a worker. ``RESULT`` is the type of the answer."""

    RESULT: ClassVar[type | None]

    need: int = 0
    """Least memory that the call takes, in bytes."""

    began: float = 0.0
    """``time.time()`` just before the process was started."""


class SystemCall(WorkerCall[R], Generic[R], frozen=True, kw_only=True):
    """A call about a system of one of the paper's tables."""

    system: str
    size: int = 128
    """Side of the LR image."""

    reduced: bool = False
    device: str = "cpu"


class ExportNetwork(SystemCall[float], frozen=True, kw_only=True, tag=True):
    """Export a network to ``file``; the result is the time in seconds."""

    RESULT = float
    network: str
    file: str
    variant: str = "onnx"
    """A name in VARIANTS whose backend is ``onnx``."""


class TimeNetwork(SystemCall[NetworkTime], frozen=True, kw_only=True, tag=True):
    """Time one network alone."""

    RESULT = NetworkTime
    network: str
    variant: str = "torch"
    """A name in VARIANTS."""

    files: Mapping[str, str] = {}
    """Exported networks, by name; only the ``onnx`` backend reads them."""

    warmup: int = 0
    repetitions: int = 1


class TimeImage(SystemCall[ImageTime], frozen=True, kw_only=True, tag=True):
    """Time whole images, every step."""

    RESULT = ImageTime
    variant: str = "torch"
    files: Mapping[str, str] = {}
    warmup: int = 0
    repetitions: int = 1


class TimeLoop(SystemCall[float], frozen=True, kw_only=True, tag=True):
    """Time the loop around no-op networks; the result is the median in seconds."""

    RESULT = float
    outputs: Mapping[str, tuple[tuple[int, ...], ...]]
    """Output shapes of each network."""

    repetitions: int = 3


class MeasureMachine(WorkerCall[MachineSpeed], frozen=True, kw_only=True, tag=True):
    """Time image files of ``size``, and matrix products in these precisions."""

    RESULT = MachineSpeed
    device: str = "cpu"
    size: int = 128
    precisions: tuple[str, ...] = ()


class ProbeRuntime(WorkerCall[None], frozen=True, kw_only=True, tag=True):
    """Open a device of the runtime; the error says why that is impossible."""

    RESULT = None
    device: str
    precision: str = "auto"


class TimePipeline(WorkerCall[PipelineTime], frozen=True, kw_only=True):
    """Upscale one image many times; 0 repetitions: once, for the time of the start."""

    RESULT = PipelineTime
    image: str = ""
    """The file (.npy) for the last result; empty: none."""

    variant: str = "torch"
    device: str = "cpu"
    size: int = 128
    steps: int = 5
    warmup: int = 0
    repetitions: int = 1
    by_stage: bool = True
    """Whether as many additional images are timed by stage."""


class TimeReference(TimePipeline, frozen=True, kw_only=True, tag=True):
    """Time the released procedure in torch on a checkpoint."""

    checkpoint: str
    config: str = ""
    """The model's YAML file; empty where the configuration follows from the tensors."""


class TimeBundle(TimePipeline, frozen=True, kw_only=True, tag=True):
    """Time a bundle in the runtime, in a process without torch on a CPU."""

    bundle: str
    precision: str = "auto"
    """As in load_pipeline."""

    tile: int = 0
    """0: whole images, as the released script runs."""


AnyCall = (
    ExportNetwork
    | TimeNetwork
    | TimeImage
    | TimeLoop
    | MeasureMachine
    | ProbeRuntime
    | TimeReference
    | TimeBundle
)


class Answer(Struct, frozen=True):
    """A result, or one line that says why there is none."""

    result: Raw = Raw(b"null")
    error: str = ""
