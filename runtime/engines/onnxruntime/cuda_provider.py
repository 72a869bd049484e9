"""ONNX Runtime's CUDA provider: its options, and what it needs before a session opens."""

import ctypes
import io
import mmap
import re
import sys
from contextlib import redirect_stdout
from pathlib import Path

import onnxruntime as ort

from ...errors import EngineError
from .session import Provider

_NAME = "CUDAExecutionProvider"
_OLDEST = (1, 29)  # up to 1.26 parts of the denoiser run on the CPU; 1.27 and 1.28 were not tried
_CUDNN = "cudnn64_9.dll" if sys.platform == "win32" else "libcudnn.so.9"
_PROVIDER = "libonnxruntime_providers_cuda.so"
_TEGRA = ("87", "110")  # Orin and Thor: code for other GPUs of their generation does not run there
_ARCHITECTURES = re.compile(
    rb"SM((?:_\d+)+)_NS"
)  # in the names of CUDA's own templates: SM_750_800_NS


def cuda_provider(stream: int, device: int, tf32: bool) -> Provider:
    """Return the CUDA provider on one stream of one device.

    ``kSameAsRequested`` grows the arena by the requested size instead of a power of two.
    ``HEURISTIC`` lets cuDNN select convolutions by a table instead of timing all of them for every
    image size. ``prefer_nhwc`` keeps channels last between convolutions, as tensor cores read them.
    ``tf32`` lets float32 products have 10 bits of mantissa; float16 is unaffected. Each session keeps
    an arena of its own, because a recorded graph writes to memory that a shared arena would give to the
    weights of the next session. None of these was compared with others on a GPU yet.
    """
    options = {
        "device_id": str(device),
        "user_compute_stream": str(stream),
        "enable_cuda_graph": "1",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "HEURISTIC",
        "prefer_nhwc": "1",
        "use_tf32": str(int(tf32)),
    }
    return Provider(_NAME, options)


def check_cuda(major: int, capability: str) -> None:
    """Load the libraries of the CUDA provider, for CUDA ``major`` and a GPU of ``capability`` ("89").

    Raise EngineError if this ONNX Runtime has no CUDA provider, one for another major version of
    CUDA or for other GPUs, or lacks a library.
    """
    if _NAME not in ort.get_available_providers():
        raise EngineError(
            f"this onnxruntime {ort.__version__} has no CUDA provider; "
            "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'dossr[cuda]'"
        )
    if tuple(map(int, ort.__version__.split(".")[:2])) < _OLDEST:
        raise EngineError(
            f"onnxruntime-gpu must be {'.'.join(map(str, _OLDEST))} or newer, got {ort.__version__}; "
            "pip install --upgrade 'dossr[cuda]'"
        )
    built = str(ort.cuda_version)
    if built and int(built.split(".")[0]) != major:
        raise EngineError(
            f"onnxruntime-gpu {ort.__version__} is built for CUDA {built} and CuPy for CUDA {major}; "
            "install wheels of one CUDA version"
        )
    _check_capability(capability)
    missing = _missing_libraries()
    if missing:
        raise EngineError(
            f"ONNX Runtime cannot find {', '.join(missing)}; install: pip install 'dossr[cuda]'"
        )


def _check_capability(capability: str) -> None:
    """Raise EngineError on a Jetson for which this ONNX Runtime has no code, as those of PyPI have none."""
    library = Path(ort.__file__).parent / "capi" / _PROVIDER
    if capability not in _TEGRA or not library.is_file():
        return
    built = _architectures(library)
    if built and f"{capability}0" not in built:
        raise EngineError(
            f"onnxruntime-gpu {ort.__version__} has no code for this Jetson (compute capability "
            f"{capability[:-1]}.{capability[-1]}); use --device tensorrt, or NVIDIA's wheel for its JetPack"
        )


def _architectures(library: Path) -> set[str]:
    """Return the architectures of a library's code as CUDA writes them, 750 for 7.5; empty if unknown."""
    with (
        library.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content,
    ):
        found = _ARCHITECTURES.search(content)
        return set(found[1].decode().strip("_").split("_")) if found else set()


def _missing_libraries() -> list[str]:
    """Load the libraries of CUDA and cuDNN; return the names of those that cannot be loaded."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        ort.preload_dlls()
    missing = re.findall(r"^Failed to load ([^\s/\\]+): ", printed.getvalue(), re.MULTILINE)
    try:  # preload_dlls says nothing of cuDNN, without which no convolution runs
        ctypes.CDLL(_CUDNN)
    except OSError:
        missing.append(_CUDNN)
    return missing
