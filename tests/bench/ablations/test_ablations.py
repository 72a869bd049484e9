"""dossr-bench formulations and samplers: the same images on two backends, and the report."""

import json
from contextlib import ExitStack

import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")
pytest.importorskip("matplotlib")

from msgspec.structs import replace  # noqa: E402

from dossr.bench.ablations.bars import draw  # noqa: E402
from dossr.bench.ablations.output import markdown, terminal_table  # noqa: E402
from dossr.bench.cli import main  # noqa: E402
from dossr.bench.measure.backends import OnnxBackend, TorchBackend  # noqa: E402
from dossr.bench.rows.comparison import compare  # noqa: E402
from dossr.bench.rows.results import load_results  # noqa: E402
from dossr.bench.rows.table import TABLE5, TABLE6, TABLES  # noqa: E402
from dossr.bench.systems import FORMULATIONS, SAMPLERS, load_system  # noqa: E402
from dossr.bench.systems.system import Noise  # noqa: E402

SIDE = 16  # the smallest that these systems accept
TABLES56 = (TABLE5, TABLE6)
COUNTED = {
    "formulations": ("colddiff-5", "dossr-5", "flowie-1"),
    "samplers": ("ddim", "edm", "dos-sde-3"),
}
"""Some rows of each table; counting all takes long."""


@pytest.fixture(scope="module")
def backends():
    """All networks of the rows, once on each backend; a row differs in the loop around them only."""
    with ExitStack() as stack:
        yield [
            {n.name: stack.enter_context(backend.open(n)) for n in networks.values()}
            for networks in [{n.name: n for n in load_system("dossr-5", SIDE, True).networks}]
            for backend in (TorchBackend(), OnnxBackend())
        ]


@pytest.mark.parametrize("name", dict.fromkeys((*FORMULATIONS, *SAMPLERS)))
def test_torch_and_onnx_give_the_same_image_and_make_the_stated_calls(name, backends):
    system = load_system(name, SIDE, reduced=True)
    lr = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images = []
    for runners in backends:
        calls = dict.fromkeys((network.name for network in system.networks), 0)

        def call(network, /, *, runners=runners, calls=calls, **inputs):
            calls[network] += 1
            return runners[network](**inputs)

        with torch.inference_mode():
            images.append(system.upscale(call, lr, Noise(0)))
        assert calls == {network.name: network.calls for network in system.networks}
    eager, onnx = images
    assert eager.shape == (1, 3, 4 * SIDE, 4 * SIDE)
    assert torch.isfinite(eager).all()
    assert eager.std() > 1e-2
    assert (eager - onnx).norm() / eager.norm() < 1e-3


def run(*arguments):
    result = CliRunner().invoke(main, [*map(str, arguments)], prog_name="dossr-bench")
    assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def counted(tmp_path_factory):
    """The folder of the report of each table, counted at reduced width, by name."""
    folders = {}
    for table in TABLES56:
        out = folders[table.name] = tmp_path_factory.mktemp(table.name)
        code, _, stderr = run(
            table.name, "--protocol", "count", "--reduced", "--size", 64,
            "--systems", ",".join(COUNTED[table.name]),
            "--json", out / "rows.json", "--out", out / "report",
        )  # fmt: skip
        assert code == 0, stderr
    return folders


@pytest.fixture(scope="module")
def timed(counted):
    """Results of each table with invented seconds on torch: 1, 2, 3 ... by row."""

    def invent(name):
        results = load_results(counted[name] / "rows.json")
        rows = []
        for number, row in enumerate(results.rows, 1):
            stages = tuple(replace(stage, seconds=0.1) for stage in row.stages)
            rows.append(
                replace(row, protocol="replay", backend="torch", device="cpu", precision="fp32",
                        stages=stages, latency_s=float(number))
            )  # fmt: skip
        return replace(results, rows=tuple(rows))

    return {name: invent(name) for name in counted}


@pytest.mark.parametrize("table", TABLES56, ids=lambda table: table.name)
def test_one_command_writes_the_table_the_results_and_the_picture(table, counted):
    report = counted[table.name] / "report"
    assert sorted(path.name for path in report.iterdir()) == [
        "results.json",
        "table.md",
        "table.png",
    ]
    document = json.loads((report / "results.json").read_text())
    assert document["table"] == table.name
    assert {"cpu", "versions", "commit", "command"} <= set(document["provenance"])
    assert [row["system"] for row in document["rows"]] == list(COUNTED[table.name])
    assert [row["paper"] for row in document["rows"]] == [
        table.paper[name] for name in COUNTED[table.name]
    ]
    assert (report / "table.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("table", TABLES56, ids=lambda table: table.name)
def test_the_markdown_has_calls_and_the_papers_figures_in_every_row(table, counted):
    text = (counted[table.name] / "report" / "table.md").read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")][2:]
    for line, name in zip(lines, COUNTED[table.name], strict=True):
        system = load_system(name, 64, reduced=True)
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert cells[:2] == [system.title, str(system.network("unet").calls)]
        assert [float(cell) for cell in cells[4:]] == list(table.paper[name].values())
    assert "paper: RealSR MUSIQ" in text
    assert "synthetic" in text
    assert "REDUCED NETWORKS" in text


def test_the_papers_figures_are_those_of_its_tables():
    assert TABLE6.paper["dpm-solver-3"]["DRealSR MANIQA"] == 0.3932
    assert TABLE6.paper["dos-sde-3"]["RealSR TOPIQ"] == 0.6985
    assert TABLE5.paper["dossr-1"]["RealSR MUSIQ"] == 62.69
    assert TABLE5.paper["flowie-1"]["RealSRSet MANIQA"] == 0.3644
    for table in TABLES56:
        assert set(table.paper) == set(table.systems)
        assert table.reference in table.systems


def test_seconds_and_ratios_stand_beside_the_papers_figures(timed):
    for name, ratios in (("samplers", "0.33 0.67 1.0"), ("formulations", "0.50 1.0 1.5")):
        text = markdown(timed[name])
        lines = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][2:]
        assert [cells[4] for cells in lines] == ["1.00", "2.00", "3.00"]
        assert [cells[5] for cells in lines] == ratios.split()
        assert "torch fp32 on cpu, replay" in text
        assert "3.00" in terminal_table(timed[name])


def test_the_bars_are_as_long_as_the_figures(timed):
    (comparison,) = compare(timed["samplers"])
    seconds, paper = draw(comparison).axes
    calls = sum(s.calls for s in comparison.systems[0].stages if s.name in ("control", "unet"))
    widths = [bar.get_width() for bar in seconds.patches]
    assert widths[::2] == pytest.approx([0.1 * calls] * 3)
    assert [a + b for a, b in zip(widths[::2], widths[1::2], strict=True)] == [3, 2, 1]
    printed = [TABLE6.paper[name]["RealSR MANIQA"] for name in reversed(COUNTED["samplers"])]
    assert [bar.get_width() for bar in paper.patches] == printed
    assert [label.get_text() for label in seconds.get_yticklabels()][-1] == "DDIM (eta 1)"


def test_a_second_run_measures_nothing(counted):
    file = counted["samplers"] / "rows.json"
    before = file.read_bytes()
    code, _, stderr = run(
        "samplers", "--protocol", "count", "--reduced", "--size", 64, "--json", file,
        "--systems", ",".join(COUNTED["samplers"]),
    )  # fmt: skip
    assert (code, stderr) == (0, "note: 3 rows are already measured and kept\n")
    assert file.read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("samplers", "--systems", "euler"), "system must be one of ddim, edm, "),
        (("samplers", "--systems", "bsrgan"), "system must be one of ddim, edm, "),
        (("formulations", "--systems", "ddim"), "system must be one of colddiff-5, "),
        (("formulations", "--size", "100"), "--size must be a multiple of 64, got 100"),
        (("samplers", "--backend", "jax"), "'jax' is not one of 'torch', "),
    ],
)
def test_wrong_use_is_one_line(arguments, message):
    code, stdout, stderr = run(*arguments)
    assert (code, stdout, stderr.count("\n")) == (2, "", 1)
    assert message in stderr


def test_the_rows_of_two_tables_are_never_mixed_in_one_file(counted):
    file = counted["samplers"] / "rows.json"
    code, _, stderr = run("formulations", "--protocol", "count", "--json", file)
    assert (code, stderr.count("\n")) == (2, 1)
    assert "must be of dossr-bench formulations, got one of dossr-bench samplers" in stderr


def test_a_file_of_an_unknown_table_is_refused(counted, tmp_path):
    document = json.loads((counted["samplers"] / "rows.json").read_text())
    file = tmp_path / "rows.json"
    file.write_text(json.dumps({**document, "table": "table9"}))
    code, _, stderr = run("samplers", "--json", file)
    assert code == 2
    assert f"must be of {', '.join(TABLES)}, got 'table9'" in stderr


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")
def test_a_backend_that_is_absent_fails_its_row_with_the_reason(tmp_path):
    code, stdout, _ = run(
        "samplers", "--reduced", "--size", 64, "--systems", "ddim", "--device", "cuda",
        "--backend", "onnx", "--out", tmp_path,
    )  # fmt: skip
    assert code == 1
    reason = f"torch {torch.__version__} sees no CUDA device"
    assert f"DDIM (eta 1) failed on onnx fp32 on cuda, compose: {reason}" in stdout
    assert reason in (tmp_path / "table.md").read_text()
