"""Build options and their spelling on the command line."""

import dataclasses

import pytest

from dossr.runtime.engines.tensorrt.options import SETTINGS, BuildOptions, parse_options


def test_every_setting_reaches_its_option():
    words = ["level=5", "workspace=1.5", "sides=64:128:256", "stripped", "version-compatible",
             "hardware-compatible", "unverified", "no-rebuild"]  # fmt: skip
    assert parse_options(words) == BuildOptions(
        level=5, workspace=3 << 29, sides=(64, 128, 256), is_stripped=True,
        is_version_compatible=True, gpus="ampere-or-newer", is_verified=False, rebuild=False,
    )  # fmt: skip
    assert parse_options(["same-capability"]) == BuildOptions(gpus="same-capability")
    known = {*words, "same-capability"}
    assert {word.partition("=")[0] for word in known} == {s.partition("=")[0] for s in SETTINGS}
    assert parse_options([]) == BuildOptions()


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("fast", "got 'fast'"),
        ("level", "got 'level'"),
        ("level=high", "level=0..5"),
        ("level=7", "must be 0 to 5, got 7"),
        ("sides=64", "sides=MIN:USUAL:MAX"),
        ("sides=256:128:64", "must be rising"),
        ("workspace=inf", "got 'workspace=inf'"),
        ("workspace=0", "above 0 bytes"),
        ("stripped=yes", "got 'stripped=yes'"),
    ],
)
def test_a_wrong_setting_is_one_line(word, message):
    with pytest.raises(ValueError, match=message) as raised:
        parse_options([word])
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "words", [("level=1", "level=5"), ("same-capability", "hardware-compatible")]
)
def test_two_values_of_one_setting_are_refused(words):
    with pytest.raises(
        ValueError, match=f"^each setting can be given once, got {' and '.join(words)}$"
    ):
        parse_options(words)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"level": 6}, "level must be 0 to 5, got 6"),
        ({"workspace": 0}, "workspace must be above 0 bytes, got 0"),
        ({"sides": (64, 32, 128)}, "sides must be rising"),
        ({"sides": (0, 32, 128)}, "sides must be rising"),
    ],
)
def test_wrong_options_are_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        BuildOptions(**wrong)


def test_every_option_that_changes_the_engine_is_in_the_key():
    """rebuild, is_verified and falls_back do not change the engine; the profile contains sides."""
    plain = BuildOptions()
    changed = {"level": 5, "workspace": 1, "is_stripped": True, "is_version_compatible": True,
               "gpus": "same-capability", "tf32": True, "is_verified": False, "rebuild": False,
               "sides": (1, 2, 3), "falls_back": True}  # fmt: skip
    assert changed.keys() == {field.name for field in dataclasses.fields(BuildOptions)}
    flags = plain.flags("fp32")
    same = [n for n, v in changed.items() if BuildOptions(**{n: v}).flags("fp32") == flags]
    assert same == ["is_verified", "rebuild", "sides", "falls_back"]
    assert list(flags) == sorted(flags)
    assert plain.flags("fp16") != flags


@pytest.mark.parametrize(
    ("tf32", "precision", "allowed"),
    [(None, "fp16", True), (None, "fp32", False), (True, "fp32", True), (False, "fp16", False)],
)
def test_tf32_is_for_float16_bundles_unless_it_is_chosen(tf32, precision, allowed):
    assert BuildOptions(tf32=tf32).allows_tf32(precision) is allowed
