"""Invented results of the twelve systems of Table 1."""

import pytest
from msgspec.structs import replace

from dossr.bench.rows.results import Results, Row, Stage

PROVENANCE = {
    "machine": "fixture, not a measurement",
    "cpu": "Fixture CPU <2 cores> & co",
    "cores": 2,
    "memory_bytes": 24 * 2**30,
    "gpu": None,
    "driver": None,
    "versions": {"python": "3.11.7", "torch": "2.13.0"},
    "commit": "0123456",
    "command": "dossr-bench table1 --protocol compose",
    "time": "2026-11-24T00:00:00+00:00",
    "matmul_tmac_s": {"fp32": 0.05},
}

# name, title, parameters, official M, GMAC (facts file), paper's M, s, MANIQA, networks
SYSTEMS = (
    ("bsrgan", "BSRGAN", 16_697_987, 16.698, 293.713, 16.70, 0.06, 0.3882),
    ("real-esrgan", "Real-ESRGAN", 16_697_987, 16.698, 293.713, 16.70, 0.08, 0.3861),
    ("ldl", "LDL", 16_697_987, 16.698, 293.713, 16.70, 0.08, 0.3921),
    ("dasr", "DASR", 8_055_998, 8.056, 46.05, 8.07, 0.04, 0.3196),
    ("stablesr-200", "StableSR-200", 1_409_111_000, 1409.111, 99_610.0, 1409.1, 18.90, 0.4838),
    ("resshift-15", "ResShift-15", 173_916_000, 173.916, 5484.0, 173.9, 1.12, 0.4713),
    ("diffbir-50", "DiffBIR-50", 1_716_707_000, 1716.707, 29_344.0, 1716.7, 5.85, 0.4869),
    ("seesr-50", "SeeSR-50", 2_252_570_000, 2252.57, 84_437.0, 2283.7, 7.24, 0.5588),
    ("dossr-1", "DoSSR-1", 1_717_612_000, 1717.612, 3808.0, None, None, None),
    ("dossr-3", "DoSSR-3", 1_717_612_000, 1717.612, 4881.0, None, None, None),
    ("dossr-5", "DoSSR-5", 1_717_612_000, 1717.612, 5955.0, 1716.6, 1.03, 0.5794),
    ("dossr-7", "DoSSR-7", 1_717_612_000, 1717.612, 7028.0, None, None, None),
)
STEPS = {"stablesr-200": 200, "resshift-15": 15, "diffbir-50": 50, "seesr-50": 50}


def _row(system, protocol="compose", backend="torch", rate=0.03, **changes):
    """A row of the fixture: its seconds are GMAC over an invented rate in TMAC/s."""
    values = next(values for values in SYSTEMS if values[0] == system)
    name, title, parameters, known, gmac, *paper = values
    steps = STEPS.get(name) or (int(name[-1]) if name.startswith("dossr") else 1)
    seconds = gmac / 1000.0 / rate
    stages = (
        Stage("denoiser", steps, parameters, 0.8 * gmac / steps, None, 0.8 * seconds / steps),
    )
    if steps > 1:
        stages += (Stage("decoder", 1, 49_490_179, 0.2 * gmac, 1257.259, 0.19 * seconds),)
    timed = Row(
        name, title, protocol, backend, "cpu", "fp32", 128, False, parameters, known, gmac, gmac,
        *paper, stages=stages, latency_s=seconds, p90_s=1.1 * seconds, cold_s=1.5 * seconds,
        loop_s=0.01 * seconds, io_s=0.012, peak_bytes=parameters * 4 + 2**30, tmac_s=rate,
        utilization=rate / 0.05, warmup=1, repetitions=3,
    )  # fmt: skip
    return replace(timed, **changes)


def _failed(system, reason, **changes):
    """A row that could not be measured."""
    nothing = dict.fromkeys(
        ("latency_s", "p90_s", "cold_s", "loop_s", "io_s", "peak_bytes", "tmac_s", "utilization")
    )
    return _row(system, **{"failed": reason, "stages": (), **nothing, **changes})


def _changed(results, system, **changes):
    """With these changes in every row of a system."""
    rows = (replace(r, **changes) if r.system == system else r for r in results.rows)
    return Results(results.provenance, tuple(rows))


@pytest.fixture(scope="session")
def provenance():
    """The provenance of the invented results."""
    return PROVENANCE


@pytest.fixture(scope="session")
def systems():
    """Name, title, parameters, official M, GMAC, and the paper's M, s and MANIQA of each system."""
    return SYSTEMS


@pytest.fixture(scope="session")
def row():
    """A function that makes a row of a system."""
    return _row


@pytest.fixture(scope="session")
def failed():
    """A function that makes a row that could not be measured."""
    return _failed


@pytest.fixture(scope="session")
def changed():
    """A function that changes every row of a system."""
    return _changed


@pytest.fixture(scope="session")
def results():
    """All twelve under compose, on torch and on onnx."""
    names = [values[0] for values in SYSTEMS]
    rows = [_row(name) for name in names]
    rows += [_row(name, backend="onnx", rate=0.04 if "sr-" in name else 0.025) for name in names]
    return Results(PROVENANCE, tuple(rows))


@pytest.fixture(scope="session")
def report(results, tmp_path_factory):
    """The folder of a report."""
    pytest.importorskip("matplotlib")
    from dossr.bench.table1.report import write_report

    folder = tmp_path_factory.mktemp("reports") / "new" / "folder"
    paths = write_report(results, folder)
    assert sorted(paths) == sorted(folder.iterdir())
    return folder


@pytest.fixture(scope="session")
def texts_of():
    """A function that returns what people read, by name."""
    pytest.importorskip("matplotlib")
    from dossr.bench.table1.report import terminal_table
    from dossr.bench.table1.report.page import page
    from dossr.bench.table1.report.text import markdown

    return lambda results: {
        "terminal": terminal_table(results),
        "markdown": markdown(results),
        "page": page(results),
    }
