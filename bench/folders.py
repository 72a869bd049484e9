"""Output folders, checked before hours of work, and the images in them."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ..runtime.files import whole_file

if TYPE_CHECKING:
    from PIL import Image


def make_folders(*folders: Path | None) -> None:
    """Create missing folders. Raises UsageError for a folder that is not writable."""
    for folder in {folder for folder in folders if folder}:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise click.UsageError(f"cannot write to {folder}: {error.strerror}") from error
        if not os.access(folder, os.W_OK):
            raise click.UsageError(f"cannot write to {folder}: permission denied")


def save_png(image: "Image.Image", path: Path) -> None:
    """Write an image as a whole file; make the folders that it lies in, such as a subfolder of the originals."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(path) as temporary:
        image.save(temporary, "PNG")
