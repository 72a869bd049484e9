"""The runtime's exceptions. Each message is one line."""

import re

_LONGEST = 500  # characters of a message
_NO_MEMORY = re.compile(
    "bad_alloc|out of memory|allocate|can't alloc|alloc_failed|could not create a memory"
    "|is smaller than requested"
    "|resource temporarily unavailable|can't start new thread",  # a thread needs room for its stack
    re.IGNORECASE,
)


def one_line(message: str) -> str:
    """Join a message into one line and cut the middle of a very long one."""
    line = " ".join(message.split())
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


def reason(error: BaseException) -> str:
    """Return a library's message as one short line; the name of its class if it has none."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def lacks_memory(error: BaseException) -> bool:
    """Return whether an exception of a library, or of Python, says that memory ran out."""
    return isinstance(error, MemoryError) or bool(_NO_MEMORY.search(str(error)))


class EngineError(RuntimeError):
    """A network cannot be opened or run."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class OutOfMemoryError(EngineError):
    """A network needs more memory for this size than there is; smaller tiles or batches need less."""


class BundleError(ValueError):
    """The folder is not a bundle of this version, or it was changed."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))  # a damaged manifest may contain any name


class ImageError(ValueError):
    """An image cannot be read or written."""
