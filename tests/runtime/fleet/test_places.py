"""Places without a server: which are the same, what they are called, what no message may show."""

import pytest
from click import UsageError

from dossr.runtime.cli.naming import Naming
from dossr.runtime.cli.search import Found
from dossr.runtime.fleet import inputs
from dossr.runtime.fleet.places import PlaceError, find_place

AZURE = "acc.dfs.core.windows.net"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (f"abfs://in:SECRET@{AZURE}/p/a.png", f"abfs://in@{AZURE}/p/a.png"),
        (f"abfss://:SECRET@{AZURE}/in", f"abfss://{AZURE}/in"),
        ("https://user:SECRET@host/d?token=SECRET", "https://host/d"),
        ("https://host:8080/a@b.png", "https://host:8080/a@b.png"),
        ("s3://KEY:SECRET@bucket/a@b.png?region=us-east-1", "s3://bucket/a@b.png"),
        ("s3://KEY:SEC%2FRET@bucket/a.png?region=us-east-1", "s3://bucket/a.png"),
    ],
)  # fmt: skip
def test_a_name_has_no_credentials_and_no_options(text, name):
    assert find_place(text).name == name


@pytest.mark.parametrize(
    "text",
    [
        "s3://KEY:SE/CRET@bucket/x",
        "s3://KEY:12/CRET@bucket/x?scheme=http",
        "s3://KEY:SE?CRET@bucket/x",
        "s3://KEY:SE CRET@bucket/x",
        "s3://KEY:SE@CR ET@bucket/x",
        "s3://KEY:SE[CRET@bucket/x",
    ],
)
def test_the_credentials_of_a_malformed_uri_are_not_shown(text):
    with pytest.raises(PlaceError) as raised:
        find_place(text)
    message = str(raised.value)
    assert not any(part in message for part in ("KEY", "SE", "CR", "ET", "12")), message


def test_what_a_file_system_says_is_shown_without_the_credentials_in_it(monkeypatch):
    place = find_place("https://user:SECRET@host/d?token=SECRET")

    def fail(path):
        raise FileNotFoundError(f"'{path}' is not there")

    monkeypatch.setattr(place.system.handler, "get_file_info", lambda paths: fail(*paths))
    with pytest.raises(
        PlaceError, match=r"^https://host/d cannot be read: 'https://host/d' is not there$"
    ):
        place.kind()


def test_containers_of_an_account_are_different_places():
    """The same path in another container is another image, and no input that would be replaced."""
    one, two = (find_place(f"abfs://{name}@{AZURE}/p/a.png") for name in ("in", "old"))
    found = [(Found(path=None, relative=inputs.Path("a.png")), place) for place in (one, two, one)]
    planned = inputs.Inputs()
    inputs._add_items(planned, found, {}, find_place(f"abfs://out@{AZURE}/p"), Naming())
    assert [item.source for item in planned.items] == [one, two]
    assert len({item.target for item in planned.items}) == 2
    with pytest.raises(UsageError, match=f"^abfs://in@{AZURE}/p/a.png is an input and"):
        inputs._add_items(planned, found[:1], {}, find_place(f"abfs://in@{AZURE}/p"), Naming())


def test_addresses_that_differ_in_their_query_are_different_images(tmp_path):
    addresses = [f"https://host/d.png?id={number}" for number in (1, 2, 1)]
    (tmp_path / "list.txt").write_text("\n".join(addresses))
    found = inputs.find_inputs(
        [f"@{tmp_path}/list.txt"], find_place(str(tmp_path / "out")), Naming()
    )
    assert [(item.source.path, item.target) for item in found.items] == [
        (addresses[0], "d.png"), (addresses[1], "d_2.png"),
    ]  # fmt: skip


def test_inputs_without_images_are_named_without_credentials(tmp_path):
    with pytest.raises(UsageError, match=r"^no images in memory://bucket/none$"):
        inputs.find_inputs(["memory://KEY:SECRET@bucket/none"], find_place(str(tmp_path)), Naming())


def test_results_below_an_input_folder_are_no_inputs():
    for name in ("photos/a.png", "photos/out/a.png", "photos/outer/b.png"):
        find_place(f"memory://below/{name}").write(b"data")
    output = find_place("memory://below/photos/out/")
    found = inputs.find_inputs(["memory://below/photos"], output, Naming())
    assert [item.target for item in found.items] == ["a.png", "outer/b.png"]


@pytest.mark.parametrize(
    ("texts", "out", "named"),
    [
        (["memory://apart/a/"], "memory://apart/a", "memory://apart/a"),
        (["memory://apart/a", "memory://apart/b"], "memory://apart", "memory://apart/a"),
        (["photos", "memory://apart/b"], "photos", "photos"),
        (["photos", "memory://apart/b"], "file://{}/", "{}"),
    ],
)  # fmt: skip
def test_results_are_not_written_where_a_rerun_would_find_them(
    texts, out, named, photo, monkeypatch
):
    """A JPEG file gives another name, so that it would not be replaced, but its result upscaled next."""
    folder = photo.parent
    (folder / "photos" / "photos").mkdir(parents=True)
    photo.rename(folder / "photos" / "photos" / "a.png")
    monkeypatch.chdir(folder)
    for name in ("a", "b"):
        find_place(f"memory://apart/{name}/x.jpg").write(b"an image")
    here = folder / "photos"
    with pytest.raises(UsageError) as raised:
        inputs.find_inputs(texts, find_place(out.format(here)), Naming())
    assert raised.value.message == (
        f"{named.format(here)} is an input, and a rerun would upscale the results in it; "
        "give another folder"
    )
