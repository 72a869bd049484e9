"""A real S3 server on loopback: read and written, bad credentials, missing buckets; other places."""

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path

import pyarrow.fs
import pytest

from dossr.runtime.fleet import upscale_dataset
from dossr.runtime.fleet.places import PlaceError, find_place

SETTINGS = {"steps": 1, "threads": 1, "workers": 1}


@pytest.fixture(scope="module")
def server(keys):
    """The address of an S3 server that checks credentials once it is asked to."""
    program = (
        "from moto.server import ThreadedMotoServer\n"
        "import sys\n"
        "server = ThreadedMotoServer(ip_address='127.0.0.1', port=0, verbose=False)\n"
        "server.start()\n"
        "print(server.get_host_and_port()[1], flush=True)\n"
        "sys.stdin.read()\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", program],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
    )  # fmt: skip
    with process:
        yield f"127.0.0.1:{int(process.stdout.readline())}"
        process.stdin.close()
        process.wait(20)


@pytest.fixture(scope="module")
def query(server):
    return f"?endpoint_override={server}&scheme=http"


@pytest.fixture(scope="module")
def bucket(server, toy_bundle, make_images, tmp_path_factory):
    """A bucket with images, files that are none, and a bundle; and the images on the disk."""
    photos = make_images(tmp_path_factory.mktemp("s3") / "photos", 4)
    system = pyarrow.fs.S3FileSystem(
        endpoint_override=server, scheme="http", allow_bucket_creation=True
    )
    system.create_dir("photos")
    for path in photos.iterdir():
        _put(
            system,
            f"photos/in/{'a b' if path.stem == '03' else 'a'}/{path.name}",
            path.read_bytes(),
        )
    _put(system, "photos/in/notes.txt", b"no image")
    _put(system, "photos/in/damaged.png", b"no image")
    for path in toy_bundle.iterdir():
        _put(system, f"photos/bundle/{path.name}", path.read_bytes())
    return system, photos


def _put(system, path, data):
    with system.open_output_stream(path) as file:
        file.write(data)


def _get(system, path):
    with system.open_input_file(path) as file:
        return file.read()


def test_a_bucket_is_upscaled_into_a_bucket_with_a_bundle_from_it(
    cluster, bucket, query, toy_bundle, dossr_run, tmp_path, user_cache
):
    system, photos = bucket
    inputs, output = f"s3://photos/in{query}", f"s3://photos/out{query}"
    bundle = f"s3://photos/bundle{query}"
    report = upscale_dataset(inputs, output, bundle=bundle, **SETTINGS)
    [(name, why)] = report.failures
    assert report.done == 4
    assert (name, why) == (
        "s3://photos/in/damaged.png", "s3://photos/in/damaged.png must be an image, got text"
    )  # fmt: skip
    dossr_run(photos, "-o", tmp_path / "alone", "-b", toy_bundle)
    for path in (tmp_path / "alone").iterdir():
        folder = "a b" if path.stem == "03" else "a"
        assert _get(system, f"photos/out/{folder}/{path.name}") == path.read_bytes()
    assert len(list((user_cache / "bundles").glob("*/manifest.json"))) == 1
    lines = [
        json.loads(line)
        for info in system.get_file_info(pyarrow.fs.FileSelector("photos/out/_manifest"))
        if info.path.endswith(".jsonl")
        for line in _get(system, info.path).splitlines()
    ]
    assert len(lines) == 5
    assert "endpoint" not in json.dumps(lines)  # nor credentials
    system.delete_file("photos/in/damaged.png")
    again = upscale_dataset(inputs, output, bundle=bundle, **SETTINGS)
    assert (again.done, again.skipped, again.workers) == (0, 4, 0)


def test_a_list_of_uris_and_paths(bucket, query, toy_bundle, tmp_path):
    _, photos = bucket
    (tmp_path / "list.txt").write_text(
        f"s3://photos/in/a/00.png{query}\n\n{photos / '01.png'}\nfile://{photos}/02.png\n"
    )
    from dossr.runtime.cli.naming import Naming
    from dossr.runtime.fleet.inputs import find_inputs

    found = find_inputs([f"@{tmp_path}/list.txt"], find_place(str(tmp_path / "out")), Naming())
    named = sorted((item.source.name, item.target) for item in found.items)
    assert named == [
        (f"{photos}/01.png", "01.png"), (f"{photos}/02.png", "02.png"),
        ("s3://photos/in/a/00.png", "00.png"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["s3://gone/in{q}", "-o", "out"], "s3://gone does not exist; create the bucket first"),
        (["photo.png", "-o", "s3://gone/out{q}"], "s3://gone does not exist; create the bucket first"),
        (["s3://photos/none{q}", "-o", "out"], "no images in s3://photos/none"),
        (["photo.png", "-o", "out", "-b", "s3://photos/none{q}"], "s3://photos/none/manifest.json cannot"),
        (["s3://photos/in{q}", "-o", "s3://photos/in{q}"], "s3://photos/in is an input, and a rerun"),
        (["s3://photos/in/a/00.png{q}", "-o", "s3://photos/in/a{q}"], "is an input and would be replaced; gi"),
        (["photo.png", "-o", "s3://photos/out.png{q}"], "-o must be a folder with --ray, got s3://photos"),
        (["nothere://photos", "-o", "out"], "nothere://photos cannot be opened: Protocol not known"),
    ],
)  # fmt: skip
def test_what_is_not_in_a_store_is_one_line_before_the_work(
    bucket, query, words, message, photo, monkeypatch, capsys
):
    monkeypatch.chdir(photo.parent)
    assert message in _refused([word.format(q=query) for word in words], capsys)


def test_a_store_that_refuses_the_credentials_is_one_line(
    bucket, server, query, photo, monkeypatch, capsys
):
    """From here on the server checks them."""
    plain = {"Content-Type": "text/plain"}
    reset = urllib.request.Request(
        f"http://{server}/moto-api/reset-auth", b"0", plain, method="POST"
    )
    urllib.request.urlopen(reset).close()
    monkeypatch.chdir(photo.parent)
    line = _refused([f"s3://wrong:secret@photos/in{query}", "-o", "out"], capsys)
    assert line.startswith("dossr-run: s3://photos cannot be read: ")
    assert line.endswith("; check the credentials\n")


def _refused(words, capsys):
    """The one line of a command that ends with 2."""
    from dossr.runtime.cli import main

    with pytest.raises(SystemExit) as end:
        main([*words, "--ray"])
    printed = capsys.readouterr()
    assert (end.value.code, printed.out) == (2, "")
    assert printed.err.startswith("dossr-run: ")
    assert printed.err.count("\n") == 1, printed.err
    return printed.err


def test_a_file_is_whole_or_absent_where_a_store_shows_unfinished_files():
    """A file system of fsspec stands for all of them: a file is written beside and renamed."""
    import fsspec

    place = find_place("memory://folder/a.txt")
    place.write(b"whole")
    assert place.read(100) == b"whole"
    assert list(find_place("memory://folder").files()) == ["a.txt"]
    assert fsspec.filesystem("memory").exists("/folder/a.txt")
    with pytest.raises(PlaceError, match=r"^memory://folder/b.txt cannot be read: "):
        find_place("memory://folder/b.txt").read(1)


def test_local_places_are_paths(tmp_path):
    place = find_place(f"file://{tmp_path}/a%20b").below("c.txt")
    place.write(b"data")
    assert (tmp_path / "a b" / "c.txt").read_bytes() == b"data"
    assert (place.name, place.kind()) == (f"{tmp_path}/a b/c.txt", "file")
    assert Path(find_place("x/y").path) == Path(os.getcwd(), "x/y")  # noqa: PTH109
