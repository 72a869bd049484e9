"""How every dossr command ends: an error is one line on stderr, never a usage page or a traceback."""

import signal
import sys
from types import FrameType
from typing import Any

import click


class Command(click.Command):
    """A click command whose errors are one line: ``<command>: <what must be, what was got>``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {"help_option_names": ["-h", "--help"], **self.context_settings}

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command and exit: 2 for wrong use, 1 for Ctrl-C and what the body decides."""
        name = kwargs.get("prog_name") or self.name or ""
        before = signal.signal(signal.SIGTERM, _interrupt)
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            say(name, error.format_message())
            sys.exit(error.exit_code)
        except click.Abort:
            say(name, "stopped")
            sys.exit(1)
        finally:
            signal.signal(signal.SIGTERM, before)
        sys.exit(code if isinstance(code, int) else 0)


def say(name: str, message: object) -> None:
    """Print an error of a command as one line on stderr."""
    click.echo(f"{name}: {' '.join(str(message).split())}", err=True)


def _interrupt(number: int, frame: FrameType | None) -> None:
    """Being told to end is like Ctrl-C: temporary files go."""
    raise KeyboardInterrupt
