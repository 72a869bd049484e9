"""OpenVINO's core: its devices, what the processor computes, and its failures in one line."""

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Literal

import openvino as ov

from ...errors import BundleError, EngineError, OutOfMemoryError, lacks_memory
from ...hardware import usable_cores

LEAST = (2026, 4)
"""The first version whose imported models read their weights from the bundle's file."""

_WHERE = re.compile(r"^(Exception from |Check '|While validating )")  # source lines of the library


@cache
def core() -> ov.Core:
    """Return this process's core. Raise EngineError if OpenVINO is too old."""
    numbers = tuple(int(number) for number in re.findall(r"\d+", ov.__version__)[:2])
    if numbers < LEAST:
        least = ".".join(map(str, LEAST))
        raise EngineError(
            f"OpenVINO must be {least} or newer, got {ov.__version__.split('-')[0]}; "
            f"pip install -U 'openvino>={least}'"
        )
    return ov.Core()


def limit_threads(threads: int | None) -> None:
    """Let this process's networks on the processor use so many threads; None: one for each core."""
    core().set_property("CPU", {"INFERENCE_NUM_THREADS": threads or 0})


def threads() -> int:
    """Return how many threads a network on the processor uses."""
    return int(core().get_property("CPU", "INFERENCE_NUM_THREADS")) or usable_cores()


def version() -> str:
    """Return OpenVINO's version with its build, such as 2026.4.1-22982-e213a147257."""
    return str(ov.__version__)


def check_plugin(plugin: str) -> None:
    """Raise EngineError, naming what OpenVINO finds, if it finds no CPU, GPU or NPU of this kind."""
    found = core().available_devices
    if not any(name.split(".")[0] == plugin for name in found):
        raise EngineError(
            f"OpenVINO finds no {plugin} here, only {', '.join(found) or 'no device'}; "
            f"a {plugin} needs its driver, or use --device openvino"
        )


def processor() -> str:
    """Return the processor's name as OpenVINO gives it."""
    return device_name("CPU")


def device_name(plugin: str) -> str:
    """Return the name of a device as OpenVINO gives it, such as that of a GPU."""
    return str(core().get_property(plugin, "FULL_DEVICE_NAME")).strip()


def capabilities() -> tuple[str, ...]:
    """Return what the processor computes, such as BF16, FP32 and INT8, sorted."""
    return tuple(sorted(core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")))


def check_bf16() -> None:
    """Raise EngineError unless the processor multiplies in bfloat16, by AMX or AVX512-BF16.

    OpenVINO lists BF16 there and not for AVX-512 alone, which would emulate it, but also for AVX-VNNI-2,
    which only converts. WINOGRAD, which it lists for AVX-512, tells the two apart.
    """
    if not {"BF16", "WINOGRAD"} <= {*capabilities()}:
        raise EngineError(f"{processor()} has neither AMX nor AVX512-BF16")


def preferred_precision() -> Literal["bf16", "fp32"]:
    """Return bf16 where the processor multiplies in it, else fp32."""
    try:
        check_bf16()
    except EngineError:
        return "fp32"
    return "bf16"


def facts() -> dict[str, str]:
    """Return version, devices, processor, what it computes, and the precision that auto prefers."""
    return {
        "version": version(),
        "devices": ", ".join(core().available_devices),
        "processor": processor(),
        "capabilities": ", ".join(capabilities()),
        "precision": preferred_precision(),
    }


def default_precision(plugin: str) -> str:
    """Return the precision that a plugin takes by itself, or auto if it does not tell."""
    kind = "dynamic"
    with suppress(RuntimeError):
        kind = core().get_property(plugin, "INFERENCE_PRECISION_HINT").get_type_name()
    return {"f16": "fp16", "f32": "fp32", "bf16": "bf16"}.get(kind, "auto")


@contextmanager
def running(what: str) -> Iterator[None]:
    """Convert the library's failure in the block to an EngineError of one line."""
    try:
        yield
    except (EngineError, BundleError):
        raise
    except Exception as error:  # such as RuntimeError, or UnicodeDecodeError for a damaged name
        if lacks_memory(error):
            raise OutOfMemoryError(
                f"{what}: out of memory for this size; use smaller tiles"
            ) from error
        raise EngineError(
            f"{what}: OpenVINO {ov.__version__.split('-')[0]}: {reason(error)}"
        ) from error


def reason(error: Exception) -> str:
    """Return what an exception of OpenVINO says, without its own source files."""
    lines = [line for line in map(str.strip, str(error).splitlines()) if line]
    told = [line for line in lines if not _WHERE.match(line)]
    return " ".join(told or lines) or type(error).__name__
