"""Entry points of the commands, and how they start Python again.

They import nothing heavy, so that Ctrl-C during imports and failed imports are one line as well.
"""

import sys
from importlib import import_module
from typing import NoReturn


def run() -> NoReturn:
    """Run ``dossr-run``."""
    launch("dossr-run", "dossr.runtime.cli", "cpu")


def doctor() -> NoReturn:
    """Run ``dossr-doctor``."""
    launch("dossr-doctor", "dossr.runtime.doctor", "cpu")


def python_command(program: str) -> tuple[str, ...]:
    """Return the command that runs a program of Python with the modules that this process would import.

    ``-c`` alone takes those of the current folder first; ``-P``, which prevents it, needs Python 3.11.
    """
    own = "import sys; sys.path = [folder for folder in sys.path if folder]"
    return sys.executable, "-c", f"{own}\n{program}"


def launch(name: str, module: str, extras: str) -> NoReturn:
    """Import ``module`` and call its ``main``; exit with 1 if an import is interrupted or fails.

    ``extras`` are those of dossr that hold the packages of the command.
    """
    try:
        import_module(module).main()
    except KeyboardInterrupt:
        reason = "stopped"
    except MemoryError as error:
        reason = ": ".join(("not enough memory", *str(error).splitlines()[:1]))
    except ImportError as error:
        lines = [line for line in map(str.strip, str(error).splitlines()) if line]
        reason = f"cannot start: {lines[-1] if lines else type(error).__name__}"
        if isinstance(error, ModuleNotFoundError):
            reason += f"; install it with: pip install 'dossr[{extras}]'"
        if isinstance(error.__cause__ or error.__context__, KeyboardInterrupt):
            reason = "stopped"  # Ctrl-C while an extension module was initialized
    else:
        sys.exit(0)
    if sys.stderr:
        sys.stderr.write(f"{name}: {reason}\n")
    sys.exit(1)
