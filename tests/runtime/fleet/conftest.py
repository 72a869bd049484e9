"""Fixtures of the fleet's tests: a Ray cluster of two workers on this machine, and an S3 server."""

import json
import shutil
import tempfile

import numpy as np
import pytest
from PIL import Image

KEYS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true"}  # fmt: skip


@pytest.fixture(scope="session")
def keys():
    """The environment has credentials of a store, which processes started later inherit."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in KEYS.items():
            patch.setenv(name, value)
        yield


@pytest.fixture(scope="session")
def cluster(user_cache, keys):
    """This process has joined a cluster of two cores, which ends with the tests."""
    import ray

    folder = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # paths of its sockets must be short
    ray.init(
        address="local",
        num_cpus=2,
        include_dashboard=False,
        object_store_memory=100 << 20,
        log_to_driver=False,
        logging_level="ERROR",
        _temp_dir=folder,
        _system_config={"worker_niceness": 0},  # nice ones would starve beside other tests
    )
    yield ray
    ray.shutdown()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def make_images():
    """make_images(folder, number) writes that many small images."""
    return _images


@pytest.fixture(scope="session")
def read_rows():
    """read_rows(output) returns all lines of a manifest in a folder."""
    return _rows


def _images(folder, number):
    folder.mkdir(exist_ok=True)
    for seed in range(number):
        pixels = np.random.default_rng(seed).integers(0, 256, (20, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{seed:02d}.png")
    return folder


def _rows(output):
    parts = sorted((output / "_manifest").glob("*.jsonl"))
    return [json.loads(line) for part in parts for line in part.read_text().splitlines()]
