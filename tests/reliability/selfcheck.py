"""Cases that misbehave on purpose, to see that the workers notice: prints what they report as JSON."""

import json
import os
import signal
import sys
import time
from pathlib import Path

from workers import Report, run_cases


def _segfault():
    os.kill(os.getpid(), signal.SIGSEGV)


def _hang():
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    time.sleep(60)


def _write():
    os.write(2, b"a library's line")


def _raise():
    raise KeyError("not caught by the kind")


def _exhaust():
    bytearray(1 << 40)


def _nothing():
    return None


class Misbehaviour:
    """Every case of this kind does one thing that must be noticed."""

    name, limit_s, per_fork, address_space = "misbehaviour", 1.0, 4, 4 << 30
    acts = (_nothing, _segfault, _hang, _write, _raise, _exhaust, _nothing)

    def check(self, seed: int, folder: Path) -> Report:
        self.acts[seed]()
        return Report(seed, "fine")


if __name__ == "__main__":
    reports: dict[int, list[str]] = {}
    run_cases(
        Misbehaviour(),
        range(len(Misbehaviour.acts)),
        2,
        lambda report: reports.update({report.seed: [kind for kind, _ in report.faults]}),
    )
    sys.stdout.write(json.dumps([reports[seed] for seed in sorted(reports)]))
