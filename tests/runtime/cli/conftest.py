"""dossr-run with the toy bundle, in this process."""

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from dossr.runtime.cli import main


@pytest.fixture
def run(toy_bundle):
    """run(*arguments) gives exit code, stdout and stderr; ``input``: bytes of standard input."""

    def invoke(*arguments, bundle=toy_bundle, **options):
        result = _invoke(arguments, bundle, options)
        return result.exit_code, result.stdout, result.stderr

    return invoke


@pytest.fixture
def run_binary(toy_bundle):
    """The same with stdout as bytes."""

    def invoke(*arguments, **options):
        result = _invoke(arguments, toy_bundle, options)
        return result.exit_code, result.stdout_bytes, result.stderr

    return invoke


@pytest.fixture
def make_image():
    """make_image(path, size, mode) saves noise in the format of the suffix, or in ``format``."""
    return _make_image


@pytest.fixture
def size_of():
    """size_of(path) is the width and height of an image file."""

    def read(path):
        with Image.open(path) as image:
            return image.size

    return read


@pytest.fixture
def files():
    """files(folder) are the names of the files below it."""

    def names(folder):
        return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())

    return names


def _invoke(arguments, bundle, options):
    words = ["--steps", "1", *map(str, arguments), "--bundle", str(bundle)]
    result = CliRunner().invoke(main, words, **options)
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result


def _make_image(path, size=(20, 12), mode="RGB", seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), np.uint8)
    Image.fromarray(pixels).convert(mode).save(path, **options)
    return path
