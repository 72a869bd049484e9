"""The runtime's errors. Each message is one line."""

_LONGEST = 500  # characters of an error


def one_line(message: str) -> str:
    """A message on one line, cut in its middle where it is very long."""
    line = " ".join(message.split())
    if len(line) <= _LONGEST:
        return line
    return f"{line[: _LONGEST // 2]} ... {line[-_LONGEST // 2 :]}"


class EngineError(RuntimeError):
    """A network could not be opened or run."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))


class BundleError(ValueError):
    """The folder is not a bundle that this version can run, or it was changed."""

    def __init__(self, message: str) -> None:
        super().__init__(one_line(message))  # names in a damaged manifest may hold anything


class ImageError(ValueError):
    """A file is no image that can be read, or an image cannot be written."""
