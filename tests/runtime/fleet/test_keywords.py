"""``upscale_dataset`` takes the options of ``dossr-run``, and no others."""

from pathlib import Path

import click
import pytest

from dossr.runtime.cli.arguments import is_list, to_arguments
from dossr.runtime.cli.command import main
from dossr.runtime.fleet import upscale_dataset
from dossr.runtime.fleet.cluster import _check_address
from dossr.runtime.fleet.keywords import _words


def test_keywords_become_the_options_of_the_command(tmp_path):
    given = {
        "seed": 7, "strip": True, "first_frame": False, "tf32": False, "bundle": tmp_path, "longest": None,
        "precision": ["fp32", "decoder=bf16"], "build": "level=5", "gpus_per_worker": 0.5, "format": "webp",
    }  # fmt: skip
    line = [*_words(given), "-o", "out", "--", str(tmp_path)]
    with main.make_context("dossr-run", line) as context:
        found = to_arguments(context.params)
    assert (found.seed, found.strip, found.first_frame, found.tf32) == (7, True, False, False)
    assert (found.bundle, found.longest, found.format) == (tmp_path, None, ".webp")
    assert (found.precision, found.build) == (("fp32", "decoder=bf16"), ("level=5",))
    assert (found.gpus_per_worker, found.steps) == (0.5, 5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"sead": 1}, "upscale_dataset has no option 'sead'; it has those of dossr-run"),
        ({"dry_run": True}, "no option 'dry_run'"),
        ({"order": 9}, "9 is not in the range 1<=x<=3"),
        ({"overwrite": True, "skip_existing": True}, "contradict each other; give one"),
        ({"format": "doc"}, "must be one of png"),
    ],
)
def test_a_wrong_keyword_is_a_value_error(options, message, photo, tmp_path):
    with pytest.raises(ValueError, match=message):
        upscale_dataset(photo, tmp_path / "out", **options)


def test_a_file_that_begins_with_the_sign_of_a_list_is_a_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("@a.png").touch()
    assert not is_list("@a.png")
    assert is_list("@a.txt")


def test_an_address_that_is_none_is_wrong_use():
    with pytest.raises(click.UsageError, match=r"^no Ray cluster at a\.\.b:1: "):
        _check_address("a..b:1")
