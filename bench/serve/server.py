"""A tritonserver of this machine, started for a model repository and stopped for sure.

The server is NVIDIA's container's or that of the wheel nvidia-pytriton, whose Python backend reads no
PYTHONPATH and is built for NumPy 1. The wheel's gets a virtual environment with the packages of this
process, in front of them those beside the wheel.
"""

import os
import re
import signal
import socket
import subprocess
import sys
import sysconfig
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_STOP = 30  # seconds until a server that does not end is killed
_POLL = 0.1
_VERSION = f"{sys.version_info.major}.{sys.version_info.minor}"
_STUBS = "python_backend_stubs"
_REASON = re.compile(r"failed to load '[^']*' version .*?(?=\\n|\"|$)|error: .*", re.MULTILINE)


class ServerError(RuntimeError):
    """The server did not start; one line."""


@contextmanager
def running(
    repository: Path, program: Path, *, log: Path | None = None, seconds: float = 600.0
) -> Iterator[str]:
    """Start a server for a model repository, yield ``host:port`` when it is ready, stop it afterwards.

    ``program``: the file ``tritonserver``. ``log``: a file for its messages. ``seconds``: in which it must
    be ready. Raise ServerError if it does not start or a model cannot be loaded.
    """
    with tempfile.TemporaryDirectory(prefix="dossr-bench-") as scratch:
        folder, port = Path(scratch), _free_port()
        log = log or folder / "log"
        arguments, environment = _wheel(program, folder)
        command = [
            str(program), "--model-repository", str(repository), "--http-address", "127.0.0.1",
            "--http-port", str(port), "--allow-grpc", "false", "--allow-metrics", "false",
            "--exit-timeout-secs", "20", *arguments,
        ]  # fmt: skip
        with log.open("wb") as file:
            try:
                process = subprocess.Popen(
                    command, stdout=file, stderr=file, env=environment, start_new_session=True
                )
            except OSError as error:
                raise ServerError(f"{program} does not start: {error.strerror}") from error
        try:
            _wait(process, f"http://127.0.0.1:{port}/v2/health/ready", log, seconds)
            yield f"127.0.0.1:{port}"
        finally:
            _stop(process)


def _wheel(program: Path, folder: Path) -> tuple[list[str], Mapping[str, str]]:
    """Return arguments and environment of the server; those of a wheel lead to files in ``folder``."""
    home = program.absolute().parents[1]
    if not (home / _STUBS).is_dir():
        return [], os.environ
    stub = home / _STUBS / _VERSION / "triton_python_backend_stub"
    if not stub.is_file():
        raise ServerError(f"{program} has no Python backend for Python {_VERSION}")
    backend = folder / "backends" / "python"
    backend.mkdir(parents=True)
    for file in (*(home / "backends" / "python").iterdir(), stub):
        if file.is_file():
            (backend / file.name).symlink_to(file)
    packages = home.parents[1]
    _environment(folder, packages)
    libraries = (sysconfig.get_config_var("LIBDIR"), packages / "nvidia_pytriton.libs")
    paths = {
        "PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}",
        "LD_LIBRARY_PATH": os.pathsep.join(map(str, libraries)),
    }
    return ["--backend-directory", str(folder / "backends")], {**os.environ, **paths}


def _environment(folder: Path, first: Path) -> None:
    """Write a virtual environment with the packages of this process behind those of ``first``."""
    python = Path(sys._base_executable).resolve()  # type: ignore[attr-defined]  # of any environment
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(python)
    (folder / "pyvenv.cfg").write_text(f"home = {python.parent}\n")
    own = folder / "lib" / f"python{_VERSION}" / "site-packages"
    own.mkdir(parents=True)
    lines = [str(first)]
    for path in map(Path, sys.path):
        if path.name == "site-packages":
            lines.append(f"import site; site.addsitedir({str(path)!r})")
        elif path.is_absolute() and path.is_dir() and not path.is_relative_to(sys.base_prefix):
            lines.append(str(path))
    (own / "packages.pth").write_text("\n".join(lines) + "\n")


def _wait(process: subprocess.Popen[bytes], url: str, log: Path, seconds: float) -> None:
    """Return when the server is ready; raise ServerError if it ends or takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if process.poll() is not None:
            text = log.read_text(errors="replace")
            found = _REASON.findall(text) or text.splitlines()[-1:] or ["it wrote nothing"]
            raise ServerError(f"tritonserver ended: {found[0]}")
        with suppress(urllib.error.URLError, OSError), urllib.request.urlopen(url, timeout=5):
            return
        time.sleep(_POLL)
    raise ServerError(f"tritonserver was not ready within {seconds:g} seconds")


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End the server and its instances."""
    with suppress(ProcessLookupError):
        process.send_signal(signal.SIGINT)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_STOP)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)  # instances that outlive it
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
