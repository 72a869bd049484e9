"""Faults that were found by fuzzing, each held here as the right behaviour. Real processes, real
limits of the system: a test of a full disk fills one."""

import io
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, TiffImagePlugin

from dossr.runtime import BundleError, EngineError, load_pipeline
from dossr.runtime.bundle import DEMO, MANIFEST, sha256
from dossr.runtime.errors import ImageError
from dossr.runtime.files import whole_file, whole_folder, write_whole
from dossr.runtime.images.files import check_writable, read_image, write_image

RUN = [sys.executable, "-c", "from dossr.runtime.launch import run; run()"]
DOCTOR = [sys.executable, "-c", "from dossr.runtime.launch import doctor; doctor()"]
WRITTEN = ["png", "jpg", "webp", "tif", "bmp", "ppm", "tga", "jp2", "avif"]


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    _noise(32).save(path)
    return path


@pytest.fixture
def small_disk(tmp_path):
    """small_disk(kilobytes) mounts a file system of that size; it takes root."""
    mounted = []

    def mount(kilobytes):
        folder = tmp_path / "disk"
        folder.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", folder]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("a file system cannot be mounted here; it takes root")
        mounted.append(folder)
        return folder

    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def demo(tmp_path):
    """A copy of the demo bundle that a test may spoil."""
    return Path(shutil.copytree(DEMO, tmp_path / "demo"))


def _noise(side):
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8))


def _run(*arguments, **options):
    return subprocess.run(
        [*RUN, *map(str, arguments), "--steps", "1"],
        capture_output=True, text=True, timeout=120, **options,
    )  # fmt: skip


def _one_line(stderr):
    assert stderr.count("\n") == 1, stderr
    assert stderr.startswith("dossr-run: "), stderr
    assert len(stderr) < 600
    return stderr


def _edit(bundle, change):
    path = bundle / MANIFEST
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def _replace(bundle, name, data):
    """Put other bytes into a file of a bundle, and make the manifest agree."""
    (bundle / name).write_bytes(data)
    record = {"size": len(data), "sha256": sha256(bundle / name)}
    _edit(bundle, lambda document: document["files"].update({name: record}))


# F1 and F2: a disk that is full


@pytest.mark.parametrize("suffix", WRITTEN)
def test_a_file_that_may_not_grow_is_refused_and_the_old_one_stays(toy_bundle, photo, suffix):
    target = photo.with_name(f"big.{suffix}")
    _noise(4).save(target)
    before = target.read_bytes()

    def limit():
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (1024, 1024))

    done = _run(photo, "-o", target, "-b", toy_bundle, "--overwrite", preexec_fn=limit)
    assert done.returncode == 1
    assert f"big.{suffix} cannot be written: File too large" in _one_line(done.stderr)
    assert target.read_bytes() == before
    assert {path.name for path in photo.parent.iterdir()} == {photo.name, target.name}


@pytest.mark.parametrize("suffix", WRITTEN)
@pytest.mark.parametrize("share", [0.0, 0.6, 0.99])
def test_a_full_disk_leaves_no_file(toy_bundle, photo, small_disk, suffix, share):
    _run(photo, "-o", photo.with_name(f"whole.{suffix}"), "-b", toy_bundle)
    size = photo.with_name(f"whole.{suffix}").stat().st_size
    disk = small_disk(128)
    free = int(share * size) // 4096 * 4
    (disk / "fill").write_bytes(b"\0" * 1024 * (128 - free))
    done = _run(photo, "-o", disk / f"big.{suffix}", "-b", toy_bundle)
    assert done.returncode == 1
    assert f"big.{suffix} cannot be written: No space left on device" in _one_line(done.stderr)
    assert [path.name for path in disk.iterdir()] == ["fill"]


def test_no_kind_of_file_is_left_half_written_on_a_full_disk(small_disk):
    import torch

    disk = small_disk(64)
    old = disk / "results.json"
    write_whole(old, b"old")
    with pytest.raises(OSError, match="No space left"):
        write_whole(old, bytes(1 << 20))
    with pytest.raises((OSError, RuntimeError)), whole_file(disk / "a.ckpt") as temporary:
        torch.save({"tensor": torch.zeros(1 << 18)}, temporary)
    with pytest.raises(OSError, match="No space left"), whole_folder(disk / "bundle") as folder:
        (folder / "weights").write_bytes(bytes(1 << 20))
    assert old.read_bytes() == b"old"
    assert [path.name for path in disk.iterdir()] == ["results.json"]


# F3: what libraries print


def test_a_decoder_that_complains_is_one_line(tmp_path, toy_bundle):
    file = io.BytesIO()
    Image.new("RGB", (8, 8), (9, 99, 200)).save(file, "TIFF", compression="tiff_deflate")
    data = bytearray(file.getvalue())
    data[12] ^= 255
    (tmp_path / "z.tif").write_bytes(data)
    done = _run(tmp_path / "z.tif", "-o", tmp_path / "z.png", "-b", toy_bundle)
    assert done.returncode == 1
    assert "z.tif cannot be read" in _one_line(done.stderr)


def test_an_image_is_refused_where_its_decoder_complains(tmp_path, capfd):
    """Pillow takes a fax with a bad code word for an image; libtiff only prints that it is none."""
    file = io.BytesIO()
    _noise(24).convert("1").save(file, "TIFF", compression="group3")
    data = bytearray(file.getvalue())
    data[128] ^= 255  # within line 11
    (tmp_path / "fax.tif").write_bytes(data)
    with Image.open(tmp_path / "fax.tif") as pillow:
        pillow.load()
    assert "Fax3" in capfd.readouterr().err
    with pytest.raises(ImageError, match=r"^[^\n]*fax\.tif is damaged: Fax3[^\n]*$"):
        read_image(tmp_path / "fax.tif")
    assert capfd.readouterr() == ("", "")


def test_what_pillow_logs_is_not_shown(tmp_path):
    file = io.BytesIO()
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[277] = 200  # samples per pixel
    Image.new("RGB", (8, 8)).save(file, "TIFF")
    data = file.getvalue()
    at = data.index(b"\x15\x01\x03\x00\x01\x00\x00\x00") + 8
    (tmp_path / "many.tif").write_bytes(data[:at] + b"\xc8\x00" + data[at + 2 :])
    program = (
        "import sys; from pathlib import Path; from dossr.runtime.images.files import *\n"
        "try: read_image(Path(sys.argv[1]))\nexcept ImageError as error: print(error)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, tmp_path / "many.tif"], capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.count("\n") == 1


# F4: numbers of a manifest that do not fit its networks


@pytest.mark.parametrize(
    ("field", "values"),
    [
        ("vae_factor", [4, 3, 5, 7, 64, 65536, 0, -2, 2.5, "2", None, True]),
        ("latent_channels", [5, 7, 1, 65536, 0, [6]]),
        ("size_multiple", [3, 5, 7, 4096, 65536, 2, 1, 0]),
        ("latent_scale", [0, -1, 1e300, "1"]),
        ("precision", ["int8", "", 16]),
    ],
)
def test_a_number_that_does_not_fit_the_networks_is_refused(demo, field, values):
    for value in values:
        _edit(demo, lambda document, value=value: document.update({field: value}))
        with pytest.raises(BundleError, match=r"^[^\n]*manifest\.json is damaged: [^\n]*$") as got:
            load_pipeline(demo)
        assert len(str(got.value)) < 600


@pytest.mark.parametrize(
    "schedule",
    [
        {"timesteps": 1000.5},
        {"timesteps": 2147483648},
        {"linear_start": 0.9, "linear_end": 0.99},
        {"linear_start": 0.0},
        {"linear_end": 1e400},
    ],
)
def test_a_schedule_that_cannot_be_sampled_is_refused(demo, schedule):
    _edit(demo, lambda document: document["schedule"].update(schedule))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged: "):
        load_pipeline(demo)


def test_a_factor_that_only_the_networks_refute_is_one_line(demo, photo):
    """size_multiple 4 fits a VAE that does not shrink at all; this one does."""
    _edit(demo, lambda document: document.update(vae_factor=1))
    done = _run(photo, "-o", photo.with_name("big.png"), "-b", demo)
    assert done.returncode == 1
    assert "the encoder must give [1, 6, 128, 128] by the manifest" in _one_line(done.stderr)
    assert not photo.with_name("big.png").exists()


@pytest.mark.parametrize(
    ("stage", "change"),
    [
        ("encoder", lambda stage: stage["outputs"].pop()),
        ("encoder", lambda stage: stage["outputs"].append(stage["outputs"][0])),
        ("decoder", lambda stage: stage["inputs"][0].update(name="y")),
        ("denoiser", lambda stage: stage["inputs"][0].update(dtype="int64")),
        ("denoiser", lambda stage: stage["inputs"][2].update(shape=["batch", 6, "h", "w"])),
        ("restorer", lambda stage: stage["inputs"][0].update(shape=["batch", -3, "h", "w"])),
    ],
)
def test_a_stage_must_have_the_inputs_and_outputs_that_are_used(demo, stage, change):
    _edit(demo, lambda document: change(document["stages"][stage]))
    with pytest.raises(BundleError, match=r"^[^\n]*manifest\.json is damaged: [^\n]*$"):
        load_pipeline(demo)


# F5: whatever is wrong with a bundle is a BundleError or an EngineError


@pytest.mark.parametrize("name", [[], {}, None, 3])
@pytest.mark.parametrize("low_memory", [False, True])
def test_a_tensor_without_a_name_is_refused(demo, name, low_memory):
    _edit(demo, lambda document: document["stages"]["encoder"]["inputs"][0].update(name=name))
    with pytest.raises(BundleError, match=r"manifest\.json is damaged: .*name"):
        load_pipeline(demo, low_memory=low_memory)


def test_a_loop_of_links_is_refused(demo):
    (demo / "decoder.onnx").unlink()
    (demo / "decoder.onnx").symlink_to("decoder.onnx")
    with pytest.raises(BundleError, match=r"^[^\n]*$"):
        load_pipeline(demo)


def test_a_network_that_is_another_is_one_line_also_when_it_is_opened_late(demo, photo):
    def swap(document):
        stages = document["stages"]
        files = stages["encoder"]["file"], stages["decoder"]["file"]
        stages["decoder"]["file"], stages["encoder"]["file"] = files

    _edit(demo, swap)
    done = _run(photo, "-o", photo.with_name("big.png"), "-b", demo, "--low-memory")
    assert done.returncode == 1
    assert "do not match the manifest" in _one_line(done.stderr)


@pytest.mark.parametrize("low_memory", [False, True])
def test_a_network_with_names_that_are_no_text_is_refused(demo, low_memory):
    data = (demo / "restorer.onnx").read_bytes()
    _replace(demo, "restorer.onnx", data.replace(b"restorer.onnx.data", b"\xff\xfe" + b"." * 16))
    with pytest.raises(EngineError, match=r"^[^\n]*cannot open[^\n]*$"):
        load_pipeline(demo, low_memory=low_memory).upscale(np.zeros((8, 8, 3), np.uint8))


def test_a_manifest_that_is_a_pipe_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / MANIFEST)
    with pytest.raises(BundleError, match="must be a regular file"):
        load_pipeline(tmp_path)


# F6: metadata that cannot be written


@pytest.mark.parametrize("suffix", ["png", "jpg", "tif", "webp", "avif", "jp2"])
@pytest.mark.parametrize(
    ("tag", "value", "kind"),
    [(34675, 7, 4), (34675, "text", 2), (282, b"xx", 7), (282, "72", 2), (33432, 7, 4)],
)  # profile, resolution, copyright, of a type that they may not have
def test_metadata_that_cannot_be_written_is_left_out(tmp_path, tag, value, kind, suffix):
    tags = TiffImagePlugin.ImageFileDirectory_v2()
    tags[tag], tags.tagtype[tag] = value, kind
    Image.new("RGB", (8, 8), (9, 99, 200)).save(tmp_path / "in.tif", tiffinfo=tags)
    source = read_image(tmp_path / "in.tif")
    check_writable(tmp_path / f"out.{suffix}", source)
    pixels = source.pixels.repeat(4, axis=0).repeat(4, axis=1)
    write_image(tmp_path / f"out.{suffix}", pixels, source, 4)
    with Image.open(tmp_path / f"out.{suffix}") as out:
        out.load()
        assert out.size == (32, 32)


def test_a_size_that_the_format_cannot_hold_is_refused_before_the_work(tmp_path, toy_bundle):
    Image.new("RGB", (4100, 2)).save(tmp_path / "wide.png")
    done = _run(tmp_path / "wide.png", "-o", tmp_path / "o.webp", "-b", toy_bundle)
    assert done.returncode == 1
    assert "sides of at most 16383 pixels, got 16400" in _one_line(done.stderr)


# F7: an output that appears during the run


def test_an_output_that_appears_meanwhile_is_left_as_it_is(tmp_path, photo):
    source = read_image(photo)
    pixels = source.pixels.repeat(4, axis=0).repeat(4, axis=1)
    target = tmp_path / "big.png"
    target.write_text("precious")
    with pytest.raises(ImageError, match=r"big\.png cannot be written: it was created meanwhile"):
        write_image(target, pixels, source, 4, replace=False)
    assert target.read_text() == "precious"
    assert {path.name for path in tmp_path.iterdir()} == {"photo.png", "big.png"}


def test_a_run_without_overwrite_never_replaces_a_file(tmp_path):
    """The third of three images appears while the second is made."""
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        _noise(96).save(folder / name)
    command = [*RUN, folder, "-o", out, "--steps", "2"]
    process = subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True)
    while not (out / "a.png").exists() and process.poll() is None:
        time.sleep(0.01)
    (out / "c.png").write_text("precious")
    _, stderr = process.communicate(timeout=120)
    assert process.returncode == 1
    assert (out / "c.png").read_text() == "precious"
    assert "c.png was created meanwhile" in stderr
    assert sorted(path.name for path in out.iterdir()) == ["a.png", "b.png", "c.png"]


# F8: what a killed run leaves


def _age(path):
    os.utime(path, (time.time() - 60,) * 2)


def test_leftovers_are_removed_and_never_taken_for_images(tmp_path, toy_bundle, photo):
    out = tmp_path / "out"
    out.mkdir()
    for name in (".dossr-0123.png", ".dossr-4567.jpg"):
        (out / name).write_bytes(photo.read_bytes()[:50])
        _age(out / name)
    (out / ".dossr-folder").mkdir()
    _age(out / ".dossr-folder")
    done = _run(out, photo, "-o", tmp_path / "out2", "-b", toy_bundle)
    assert (done.returncode, done.stderr) == (0, "")
    assert _run(photo, "-o", out, "-b", toy_bundle).returncode == 0
    assert [path.name for path in out.iterdir()] == ["photo.png"]


def test_what_a_live_process_writes_is_not_taken_for_a_leftover(tmp_path, toy_bundle, photo):
    with whole_file(tmp_path / "mine.png") as temporary:
        temporary.write_bytes(b"half")
        _age(temporary)
        done = _run(photo, "-o", tmp_path / "big.png", "-b", toy_bundle)
        assert done.returncode == 0
        assert temporary.read_bytes() == b"half"
    assert (tmp_path / "mine.png").read_bytes() == b"half"


# F9: ONNX Runtime's own lines


@pytest.mark.parametrize("name", ["encoder.onnx.data", "encoder.onnx"])
def test_an_engine_that_does_not_open_is_one_line(demo, photo, name):
    _replace(demo, name, b"")
    done = _run(photo, "-o", photo.with_name("big.png"), "-b", demo)
    assert done.returncode == 2
    assert "encoder.onnx" in _one_line(done.stderr)


# F10 and the limit on work


def test_a_file_that_asks_for_too_much_memory_is_said_to_be_at_fault(photo, toy_bundle):
    data = bytearray(photo.read_bytes())
    data[data.index(b"IDAT") - 4] = 255
    photo.write_bytes(data)

    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (4_000_000 * 1024,) * 2)

    done = _run(photo, "-o", photo.with_name("o.png"), "-b", toy_bundle, preexec_fn=limit)
    assert done.returncode == 1
    assert "--tile" not in _one_line(done.stderr)
    assert "photo.png" in done.stderr


def test_an_image_with_more_pixels_than_allowed_is_refused_before_it_is_decoded(
    tmp_path, toy_bundle
):
    """A file of 170 bytes may say that it has 84 million pixels."""
    tags = {256: 5, 257: 16842752, 258: 8, 259: 1, 262: 1, 273: 8, 277: 1, 278: 16842752, 279: 9}
    entries = b"".join(
        tag.to_bytes(2, "little") + b"\x04\x00\x01\x00\x00\x00" + value.to_bytes(4, "little")
        for tag, value in tags.items()
    )
    head = b"II*\x00\x08\x00\x00\x00" + len(tags).to_bytes(2, "little")
    (tmp_path / "tall.tif").write_bytes(head + entries + b"\0" * 4)
    done = _run(tmp_path / "tall.tif", "-o", tmp_path / "o.png", "-b", toy_bundle)
    assert done.returncode == 1
    said = "must have at most 16777216 pixels, got 5 x 16842752; pass a larger --max-pixels"
    assert said in _one_line(done.stderr)


def test_the_limit_of_pixels_is_the_users(photo, toy_bundle):
    target = photo.with_name("o.png")
    assert _run(photo, "-o", target, "-b", toy_bundle, "--max-pixels", 1023).returncode == 1
    assert _run(photo, "-o", target, "-b", toy_bundle, "--max-pixels", 1024).returncode == 0


# F11: an output that takes nothing, a signal that comes early


@pytest.mark.parametrize(
    "arguments", [[*RUN, "photo.png", "-o", "big.png"], [*RUN, "photo.png", "-o", "big.png", "--json"], DOCTOR]
)  # fmt: skip
def test_a_full_standard_output_is_one_line(photo, toy_bundle, arguments):
    bundle = [] if arguments is DOCTOR else ["-b", str(toy_bundle), "--steps", "1"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*arguments, *bundle], stdout=full, stderr=subprocess.PIPE, text=True, cwd=photo.parent
        )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "cannot write the output: No space left on device" in done.stderr


def test_ctrl_c_during_the_imports_is_one_line(photo, heeding):
    arguments = [str(photo), "-o", str(photo.with_name("o.png"))]
    command = [sys.executable, "-X", "importtime", *RUN[1:], *arguments]
    for number in range(12):
        with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if "dossr.runtime.launch" in line:  # Python itself is up
                    break
            time.sleep(0.02 * number)
            process.send_signal(signal.SIGINT)
            said = [line for line in process.stderr if not line.startswith("import time:")]
            assert process.wait(timeout=60) == 1
        assert "dossr-run: stopped\n" in said
        assert "Traceback" not in "".join(said)


def test_too_little_memory_to_start_is_one_line(photo):
    def limit():
        resource.setrlimit(resource.RLIMIT_AS, (150 << 20,) * 2)

    done = _run(photo, "-o", photo.with_name("o.png"), preexec_fn=limit)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith("dossr-run: ")


# F12: standard streams that are closed


@pytest.mark.parametrize("closed", ["2>&-", ">&-", "<&-", "<&- >&- 2>&-"])
def test_a_closed_stream_is_no_reason_to_fail(photo, toy_bundle, closed):
    target = photo.with_name("big.png")
    program = f'exec "$@" {closed}'
    command = [*RUN, photo, "-o", target, "-b", toy_bundle, "--steps", "1"]
    done = subprocess.run(["sh", "-c", program, "sh", *map(str, command)], timeout=60)
    assert done.returncode == 0
    with Image.open(target) as image:
        assert image.size == (128, 128)


# F13: telemetry


@pytest.mark.parametrize("command", [RUN, DOCTOR])
def test_nothing_is_written_to_the_home_folder(photo, toy_bundle, tmp_path, command):
    home = tmp_path / "home"
    home.mkdir()
    arguments = [photo, "-o", photo.with_name("o.png"), "-b", toy_bundle] if command is RUN else []
    environment = {**os.environ, "HOME": str(home)}
    environment.pop("ORT_DISABLE_TELEMETRY", None)
    environment.pop("XDG_CACHE_HOME", None)
    done = subprocess.run([*command, *map(str, arguments)], env=environment, capture_output=True)
    assert done.returncode == 0
    assert [path for path in home.rglob("*") if path.is_file()] == []


def test_a_folder_that_cannot_be_read_is_named_and_the_rest_is_done(photo, toy_bundle, tmp_path):
    (tmp_path / "in" / "locked").mkdir(parents=True)
    shutil.copy(photo, tmp_path / "in")
    (tmp_path / "in" / "locked").chmod(0)
    as_user = []
    if os.geteuid() == 0:  # root may read every folder, unless it gives that up
        if shutil.which("setpriv") is None:
            pytest.skip("root cannot give up its rights here: there is no setpriv")
        as_user = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"]
    command = [*as_user, *RUN, tmp_path / "in", "-o", tmp_path / "out", "-b", toy_bundle]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True)
    (tmp_path / "in" / "locked").chmod(0o700)
    assert done.returncode == 1
    assert "locked cannot be read: Permission denied" in _one_line(done.stderr)
    assert (tmp_path / "out" / "photo.png").exists()
