"""Progress of an engine build."""

import pytest

from dossr.runtime.engines.tensorrt.progress import BuildProgress


def test_progress_never_falls_and_tells_the_time_left():
    now = [0.0]
    seen = []
    progress = BuildProgress(lambda *told: seen.append(told), clock=lambda: now[0])
    progress.start("build", None, 4)
    progress.start("tactics", "build", 10)
    for step in range(10):
        now[0] += 1.0
        assert progress.step("tactics", step)
    progress.finish("tactics")
    progress.step("build", 0)
    assert seen[0] == (0.025, pytest.approx(39.0))
    assert seen[-1] == (0.25, pytest.approx(30.0))  # a quarter in ten seconds
    progress.start("again", "build", 1)
    progress.step("unknown", 3)
    progress.step("build", 2)
    progress.finish("again")
    progress.finish("build")
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert seen[-1] == (1.0, 0.0)


def test_a_cancelled_build_stops_at_its_next_step():
    progress = BuildProgress(lambda share, left: None)
    progress.start("build", None, 2)
    assert progress.step("build", 0)
    progress.cancel()
    assert not progress.step("build", 1)
