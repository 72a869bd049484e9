"""Upscale an image file on a server. Needs: pip install 'tritonclient[http]'.

python client.py gpu-host:8000 photo.jpg photo_x4.webp --steps 5 --seed 42
"""

import argparse
from pathlib import Path

import numpy as np
import tritonclient.http as http


def main():
    """Send the file, write what comes back."""
    parser = argparse.ArgumentParser(description="Upscale an image file on a server.")
    parser.add_argument("url", help="HOST:PORT of the server's HTTP service")
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--steps", type=int, default=5)
    parser.add_argument("--seed", type=int, default=42)
    parser.add_argument("--model", default="dossr")
    given = parser.parse_args()
    inputs = [
        tensor("image", "BYTES", given.source.read_bytes(), np.object_),
        tensor("format", "BYTES", given.target.suffix[1:].encode(), np.object_),
        tensor("steps", "INT64", given.steps, np.int64),
        tensor("seed", "INT64", given.seed, np.int64),
    ]
    # A large image takes minutes on a processor. A client serves one thread.
    with http.InferenceServerClient(given.url, network_timeout=3600.0) as client:
        result = client.infer(given.model, inputs)
    given.target.write_bytes(result.as_numpy("image")[0])


def tensor(name, kind, value, dtype):
    """Return an input of one element."""
    made = http.InferInput(name, [1], kind)
    made.set_data_from_numpy(np.array([value], dtype))
    return made


if __name__ == "__main__":
    main()
