"""dossr-bench scale: what a user sees."""

import json

import pytest
from click.testing import CliRunner

pytest.importorskip("matplotlib")

from dossr.bench.scale.assumptions import ASSUMPTIONS, CLUSTER, JOB, assumptions
from dossr.bench.scale.cli import scale


def test_a_run_says_how_it_went_and_where_it_stops_scaling(tmp_path):
    options = ["--images", "20000", "--gpus", "100", "--storage", "5", "--mtbf", "100"]
    options += ["--out", str(tmp_path)]
    done = CliRunner().invoke(scale, options)
    assert done.exit_code == 0, done.output
    assert "| simulated: 20,000 images, 100 GPUs |" in done.stdout
    assert "| images finished twice | 0 |" in done.stdout
    document = json.loads((tmp_path / "scale.json").read_text())
    assert document["kind"] == "simulated"
    assert document["provenance"]["command"]
    assert all(run["finished_once"] for run in (document["run"], *document["runs"]))
    assert document["run"]["cluster"]["gpus"] == 100
    page = (tmp_path / "scale.md").read_text()
    assert "| storage | 5 GB/s for all nodes together | given |" in page
    assert (
        "| failures | 100 h between failures of a node, exponential; it starts again after 300 s | given |"
        in page
    )
    assert "| task | 16 images | assumed |" in page
    assert [each["source"] for each in document["assumptions"]].count("given") == 2
    assert (tmp_path / "scale.png").read_bytes().startswith(b"\x89PNG")


def test_more_actors_than_the_memory_holds_is_wrong_use():
    done = CliRunner().invoke(scale, ["--actors", "14"])
    assert done.exit_code == 2
    assert "--actors must fit the memory of a GPU, 13 of 6 GB in 80 GB, got 14" in done.stderr


def test_nodes_that_fail_all_the_time_are_one_line():
    done = CliRunner().invoke(scale, ["--mtbf", "0.0001", "--images", "100", "--gpus", "8"])
    assert done.exit_code == 2
    assert "raise the time between failures" in done.stderr


def test_clusters_whose_nodes_fail_before_a_task_ends_are_left_out_with_a_note(tmp_path):
    options = ["--images", "64", "--gpus", "8", "--seconds-per-megapixel", "300"]
    done = CliRunner().invoke(scale, [*options, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == {"scale.json", "scale.md", "scale.png"}
    note = "clusters are left out: their nodes fail before a task ends."
    assert note in (tmp_path / "scale.md").read_text()


def test_the_defaults_are_the_assumptions():
    options = {option.name: option.default for option in scale.params}
    assert options["gpus"] == CLUSTER.gpus
    assert options["images"] == JOB.images
    assert options["storage"] * 1e9 == CLUSTER.storage_bytes_per_s
    assert assumptions(CLUSTER, JOB) == ASSUMPTIONS
