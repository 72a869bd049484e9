"""The shares of the table, and which processes are killed."""

import os
import subprocess
import sys

import pytest
from click.testing import CliRunner

from dossr.bench.fleet.cli import fleet, table
from dossr.bench.fleet.runs import Run, check_cores, find_rate, find_workers


def test_shares_are_speed_ups_over_one_process_and_over_one_on_each_core():
    alone = Run("alone", 100.0, 200, 2.0, 0, True)
    processes = Run("processes", 50.0, 200, 4.0, 0, True)
    ray = Run("fleet", 62.5, 200, 3.6, 0, True)
    killed = Run("killed", 80.0, 200, None, 2, False)
    again = Run("--ray, once more", 5.0, 200, 3.6, 0, True)
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in table([alone, processes, ray, killed, again], 2).splitlines()[2:]
    ]
    assert [row[2:4] for row in rows] == [
        ["", ""], ["1.00", ""], ["0.800", "0.800"], ["0.625", "0.625"], ["", ""],
    ]  # fmt: skip
    assert [row[4:7] for row in rows] == [
        ["2.00", "", ""], ["4.00", "1.00", ""], ["3.60", "0.900", "0.900"], ["-", "", ""], ["", "", ""],
    ]  # fmt: skip
    assert [row[7:] for row in rows] == [["0", "yes"]] * 3 + [["2", "no"], ["0", "yes"]]


@pytest.mark.skipif(sys.platform != "linux", reason="processes are found in /proc")
def test_only_workers_below_the_measured_process_are_found():
    program = "exec -a ray::MapWorker sleep 60 & exec -a ray::IDLE sleep 60 & echo; wait"
    with subprocess.Popen(
        ["bash", "-c", program], stdout=subprocess.PIPE, start_new_session=True
    ) as tree:
        try:
            tree.stdout.readline()
            found = []
            while not found:  # until the first has taken its name
                found = list(find_workers(os.getpid()))
            assert found == list(find_workers(tree.pid))
            assert len(found) == 1
            assert list(find_workers(found[0])) == []
        finally:
            os.killpg(tree.pid, 9)


def test_more_workers_than_cores_are_refused():
    with pytest.raises(ValueError, match=r"--workers must be at most the \d+ cores, got 9999"):
        check_cores(9999)


def test_too_few_images_for_the_workers_are_refused(monkeypatch):
    monkeypatch.setattr("dossr.bench.fleet.cli.check_cores", lambda workers: None)
    done = CliRunner().invoke(fleet, ["--images", "39", "--workers", "4"])
    assert done.exit_code == 2
    assert "--images must be at least 10 for each of --workers, 40, got 39" in done.stderr


def test_workers_of_one_image_a_second_each_are_so_fast_together():
    """Also where they do not begin at once: each has its first image under way at the first result."""
    for workers, lag in ((1, 0.0), (2, 0.5), (4, 0.25), (4, 0.0)):
        times = [n + lag * worker for n in range(1, 101) for worker in range(workers)]
        assert find_rate(times, workers) == pytest.approx(workers, rel=0.01)
        assert find_rate(times, workers) <= workers
    assert find_rate([3.0, 3.0], 2) is None
