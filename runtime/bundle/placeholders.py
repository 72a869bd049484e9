"""Files that stand where a network should be: what a download or a checkout left instead."""

from pathlib import Path

_READ = 1 << 10
_POINTER = b"version https://"  # then git-lfs.github.com/spec/v1, or hawser.github.com in old ones
_ANNEX = (b"/annex/objects/", b"../.git/annex/objects/", b".git/annex/objects/")
_PAGES = (b"<!doctype html", b"<html", b"<?xml", b"<head", b"<error")


def placeholder(path: Path) -> str | None:
    """Return what a file is instead of data, and what to do; None if nothing is known about it."""
    if not path.is_file():  # reading a pipe would block
        return None
    try:
        with path.open("rb") as file:
            start = file.read(_READ)
    except OSError:
        return None
    if start.startswith(_POINTER) and b"\noid sha256:" in start:
        return "it is a Git LFS pointer, not the file; run git lfs pull"
    if start.startswith(_ANNEX):
        return "it is a git-annex pointer, not the file; run git annex get"
    if start.removeprefix(b"\xef\xbb\xbf").lstrip().lower().startswith(_PAGES):
        return "it is a web page, not the file; the download failed or needs a login: repeat it"
    return None
