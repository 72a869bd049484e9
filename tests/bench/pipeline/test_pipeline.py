"""dossr-bench pipeline: the released procedure in torch against its bundles."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

torch = pytest.importorskip("torch")

from dossr.bench.pipeline.cli import pipeline  # noqa: E402
from dossr.bench.pipeline.comparison import NETWORKS, Comparison, Contender  # noqa: E402
from dossr.bench.pipeline.report import comparison_text  # noqa: E402
from dossr.runtime.bundle import FileRecord, read_manifest, sha256  # noqa: E402

OUTSIDE = {"upload", "solver", "colour fix", "download"}


@pytest.fixture(scope="module")
def invoke(checkpoints, golden):
    """dossr-bench pipeline on the tiny checkpoint: what a user sees."""

    def run(*arguments, checkpoint="separate"):
        arguments = (
            checkpoints / f"{checkpoint}.ckpt",
            "--config",
            golden / "tiny.yaml",
            *arguments,
        )
        return CliRunner().invoke(pipeline, list(map(str, arguments)))

    return run


@pytest.fixture(scope="module")
def measured(invoke, bundles, tmp_path_factory):
    """Four contenders of one run: what was printed, and the document."""
    file = tmp_path_factory.mktemp("pipeline") / "pipeline.json"
    done = invoke(
        "-b", bundles("separate"), "-b", bundles("separate", fp16=True), "--torch", "torch-bf16",
        "--size", 16, "--steps", 2, "--warmup", 0, "--repetitions", 2, "--json", file,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    return done.stdout, json.loads(file.read_text())


def _contenders(document):
    return document["contenders"]


def test_every_contender_gives_the_same_image(measured):
    """Same weights, same noise: a rounding apart in float32, a few levels in half precision."""
    reference, bf16, fp32, fp16 = _contenders(measured[1])
    assert [side["precision"] for side in (reference, bf16, fp32, fp16)] == ["fp32", "bf16", "fp32", "fp32"]  # fmt: skip
    assert [side["weights"] for side in (reference, bf16, fp32, fp16)] == ["", "", "fp32", "fp16"]
    assert measured[1]["base"] == "torch"
    assert reference["psnr"] is reference["largest"] is None
    assert fp32["largest"] <= 1
    exact = fp32["psnr"] or np.inf  # equal images have none
    assert exact > 60
    assert fp16["psnr"] > 50
    assert exact > bf16["psnr"] > 35


def test_every_side_has_times_and_memory(measured):
    for contender in _contenders(measured[1]):
        assert len(contender["seconds"]) == len(contender["stages"]) == 2
        assert (
            0
            < min(contender["seconds"])
            <= contender["p50_s"]
            <= contender["p90_s"]
            <= max(contender["seconds"])
        )
        assert min(contender["first_s"], contender["load_s"]) > 0
        assert contender["memory_bytes"] > contender["mapped_bytes"] > 2**20
        assert contender["utilization"] > 0
        assert contender["speed_up_over"].keys() == {"torch", "torch-bf16"}
        assert contender["failed"] == ""


def test_a_start_is_told_cold_and_warm_in_three_moments(measured):
    for contender in _contenders(measured[1]):
        for start in (contender["cold_start"], contender["warm_start"]):
            assert 0 < start["called_s"] < start["network_s"] < start["image_s"]
        assert contender["cold_start"]["image_s"] > contender["load_s"] + contender["first_s"]


def test_a_bundle_is_measured_without_torch(measured):
    """Its memory and its start are those of dossr-run."""
    reference, _, fp32, _ = _contenders(measured[1])
    assert fp32["memory_bytes"] < reference["memory_bytes"] / 2
    assert fp32["warm_start"]["called_s"] < reference["warm_start"]["called_s"]


def test_a_stage_is_compared_with_the_matrix_product_of_its_precision(measured):
    """What a stage would take at that rate, over what it took; the image is the sum of its stages."""
    document = measured[1]
    for contender in _contenders(document):
        assert set(contender["stage_precisions"].values()) == {contender["computed"]}
        rate = max(document["matmul_tmac_s"][name] for name in {contender["computed"], "fp32"})
        assert contender["stage_utilization"].keys() == contender["stage_gmac"].keys()
        for stage, share in contender["stage_utilization"].items():
            seconds = contender["stage_gmac"][stage] / 1e3 / rate
            assert share == pytest.approx(seconds / contender["stage_p50_s"][stage])
        assert contender["gmac"] == pytest.approx(sum(contender["stage_gmac"].values()))


def test_stages_are_complete(measured):
    torch_names, bundle_names = {*NETWORKS, "rest"}, {*NETWORKS, *OUTSIDE} - {"text"}
    for contender in _contenders(measured[1]):
        names = torch_names if contender["kind"] == "torch" else bundle_names
        for stages in contender["stages"]:
            assert stages.keys() == names
            assert min(stages.values()) >= 0
            assert stages["denoiser"] > 0
        assert 0 < contender["outside_share"] < 1


def test_a_bundle_computes_less_than_the_released_script(measured):
    """Two encoder passes of three, no text, no projection of the prompt; so does every bundle."""
    reference, bf16, fp32, fp16 = (contender["gmac"] for contender in _contenders(measured[1]))
    assert reference == bf16 > fp32 == fp16 > 0


def test_the_document_says_where_it_comes_from(measured):
    document = measured[1]
    assert document["provenance"]["commit"]
    assert (document["size"], document["steps"], document["warmup"]) == (16, 2, 0)
    assert document["matmul_tmac_s"].keys() == {"fp32", "bf16"}  # the fp16 bundle computes in fp32
    assert min(document["matmul_tmac_s"].values()) > 0


def test_the_tables_have_a_column_for_every_contender(measured, bundles):
    stdout = measured[0]
    figures, stages, notes = stdout.strip().split("\n\n")
    for table in (figures, stages):
        assert {line.count(" | ") for line in table.splitlines() if "--" not in line} == {4}
        assert f"| torch-bf16, bf16, cpu | {bundles('separate')}, fp32, cpu |" in table
    for name in ("image, p50 (", "image, p90 (", "memory (GiB)", "of it mapped files (GiB)",
                 "cold start to the first image (s)", "warm start to the first network (s)",
                 "speed-up over torch-bf16"):  # fmt: skip
        assert f"| {name}" in figures
    assert "| weights | fp32 | bf16 | fp32 | fp16 |" in figures
    assert "| outside the networks (%) |" in stages
    assert "| denoiser: matrix product utilization (%) |" in stages
    assert notes.startswith("16 x 16 pixels, 2 steps; 2 images after the first and a warm-up of 0")


def test_a_side_that_fails_is_shown_and_the_others_go_on(invoke, bundles, tmp_path):
    broken = shutil.copytree(bundles("separate"), tmp_path / "broken")
    (broken / "decoder.cpu.onnx").write_bytes(b"no network")
    manifest = read_manifest(broken / "manifest.json")
    record = FileRecord(len(b"no network"), sha256(broken / "decoder.cpu.onnx"))
    replace(manifest, files={**manifest.files, "decoder.cpu.onnx": record}).write(broken)
    file = tmp_path / "pipeline.json"
    done = invoke(
        "-b", broken, "--size", 16, "--steps", 1, "--warmup", 0, "--repetitions", 1, "--json", file
    )
    assert done.exit_code == 1
    reference, failed = _contenders(json.loads(file.read_text()))
    assert reference["p50_s"] > 0
    assert failed["failed"].startswith("EngineError: ONNX Runtime cannot open ")
    assert failed["p50_s"] is failed["memory_bytes"] is None
    assert f"failed: {failed['failed']}" in done.stdout.splitlines()[2]


def test_devices_and_precisions_are_sides_of_one_run(invoke, bundles, tmp_path):
    pytest.importorskip("openvino")
    bundle, file = bundles("separate"), tmp_path / "pipeline.json"
    done = invoke(
        "-b", bundle, "--device", "cpu", "--device", "openvino", "--precision", "auto",
        "--precision", "fp32", "--size", 16, "--steps", 1, "--warmup", 0, "--repetitions", 1,
        "--json", file,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    _, cpu, auto, fp32 = _contenders(json.loads(file.read_text()))
    assert [side["name"] for side in (cpu, auto, fp32)] == [
        f"{bundle}, cpu, fp32", f"{bundle}, openvino, auto", f"{bundle}, openvino, fp32",
    ]  # fmt: skip
    assert cpu["computed"] == fp32["computed"] == "fp32"
    assert set(auto["stage_precisions"].values()) <= {"fp32", "bf16"}
    head = done.stdout.splitlines()[0]
    assert f"| {bundle}, auto ({auto['computed']}), openvino | {bundle}, fp32, openvino |" in head
    assert min(cpu["psnr"] or 99, fp32["psnr"] or 99) > 60
    assert (auto["psnr"] or 99) > 35


@pytest.mark.skipif(torch.cuda.is_available(), reason="shows what happens without a GPU")
def test_without_a_gpu_every_side_of_one_says_why(invoke, bundles):
    done = invoke("-b", bundles("separate"), "--device", "cuda", "--torch", "torch-tf32")
    assert done.exit_code == 1
    figures, notes = done.stdout.strip().split("\n\n")
    assert figures.count(f"failed: torch {torch.__version__} sees no CUDA device") == 2
    assert figures.count("failed: ") == 3
    assert "50 images after the first and a warm-up of 5" in notes


def _contender(name, seconds=(), **others):
    return Contender(
        name, "torch", name, "cuda", "fp16", {"denoiser": 1000.0}, seconds=tuple(seconds), **others
    )


def test_where_the_reference_fails_the_first_that_ran_takes_its_place():
    contenders = (
        _contender("torch", failed="out of memory: 9 GiB"),
        replace(_contender("bundle", [0.03, 0.02, 0.025], stages=({"denoiser": 0.02, "solver": 0.005},)), kind="bundle"),
        _contender("torch-fp16", [0.1], stages=({"denoiser": 0.09, "rest": 0.01},)),
    )  # fmt: skip
    found = Comparison(128, 5, 3, 3, contenders, {"fp32": 20.0, "fp16": 400.0})
    text = comparison_text(found)
    rows = {line.split(" | ")[0]: line.split(" | ")[1:] for line in text.splitlines()}
    assert rows["| image, p50 (ms)"] == ["failed: out of memory: 9 GiB", "25.0", "100 |"]
    assert rows["| speed-up over bundle"] == ["-", "1.00", "0.250 |"]
    assert rows["| speed-up over torch-fp16"] == ["-", "4.00", "1.00 |"]
    assert rows["| matrix product utilization (%)"] == ["-", "10", "2.5 |"]
    assert rows["| denoiser: matrix product utilization (%)"] == ["12", "2.8 |"]
    assert rows["| solver (ms)"] == ["5.00", "- |"]
    assert rows["| outside the networks (%)"] == ["20", "10 |"]
    assert text.endswith("torch failed: ratios and images are compared with bundle")


@pytest.mark.parametrize(
    ("options", "checkpoint", "message"),
    [
        ((), "shared", "must be the export of"),
        (("--size", 20), "separate", "--size must be a multiple of 16"),
        (("--torch", "torch-tf32"), "separate", "TF32 must run on a GPU"),
        (("--device", "cuda", "--warmup", 2), "separate", "--warmup must be 3 or more on a GPU"),
        (("--json", "/dev/null/pipeline.json"), "separate", "cannot write to /dev/null"),
        (("--torch", "onnx"), "separate", "'onnx' is not one of 'torch', "),
        (("--torch", "openvino"), "separate", "'openvino' is not one of 'torch', "),
        (
            ("--device", "cpu", "--device", "cuda"),
            "separate",
            "--device must be all of CPUs or all of NVIDIA's",
        ),
        (
            ("--device", "cuda", "--precision", "fp32"),
            "separate",
            "--precision fp32 is not for the device cuda",
        ),
        (("--precision", "bf16"), "separate", "--precision bf16 is not for the device cpu"),
        (("--precision", "int4"), "separate", "--precision must be auto, fp32, bf16, int8"),
    ],
)
def test_wrong_use_is_refused_before_anything_runs(invoke, bundles, options, checkpoint, message):
    done = invoke("-b", bundles("separate"), *options, checkpoint=checkpoint)
    assert done.exit_code == 2
    assert message in done.stderr
    assert done.stdout == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch sees no CUDA device")
def test_all_sides_on_a_gpu(invoke, bundles, tmp_path):
    file = tmp_path / "pipeline.json"
    done = invoke(
        "-b", bundles("separate"), "-b", bundles("separate", fp16=True), "--device", "cuda",
        "--torch", "torch-tf32", "--torch", "torch-fp16", "--size", 16, "--steps", 2,
        "--warmup", 3, "--repetitions", 5, "--json", file,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    document = json.loads(file.read_text())
    assert document["matmul_tmac_s"]["fp16"] > document["matmul_tmac_s"]["fp32"]
    for contender in _contenders(document):
        assert contender["device"] == "cuda"
        assert contender["memory_bytes"] > 0
        assert min(min(stages.values()) for stages in contender["stages"]) >= 0
        assert contender["psnr"] is None or contender["psnr"] > 40
