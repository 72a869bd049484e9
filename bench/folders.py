"""Check output folders before hours of work."""

import os
from pathlib import Path

import click


def make_folders(*folders: Path | None) -> None:
    """Create missing folders. Raises UsageError for a folder that is not writable."""
    for folder in {folder for folder in folders if folder}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(f"cannot write to {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise click.UsageError(f"cannot write to {folder}: permission denied")
