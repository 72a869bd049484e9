"""How every dossr command ends: an error is one line on stderr, never a usage page or a traceback."""

import sys
from typing import Any

import click


class Command(click.Command):
    """A click command whose errors are one line: ``<command>: <what must be, what was got>``."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.context_settings = {"help_option_names": ["-h", "--help"], **self.context_settings}

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command and exit: 2 for wrong use, 1 for Ctrl-C and what the body decides."""
        name = kwargs.get("prog_name") or self.name
        try:
            code = super().main(*args, **{**kwargs, "standalone_mode": False})
        except click.ClickException as error:
            click.echo(f"{name}: {' '.join(error.format_message().split())}", err=True)
            sys.exit(error.exit_code)
        except click.Abort:
            click.echo(f"{name}: stopped", err=True)
            sys.exit(1)
        sys.exit(code if isinstance(code, int) else 0)
