"""dossr-bench serve: its figures against a server of this process, and wrong use in one line."""

import importlib.util
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from dossr.bench.cli import main

pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tritonclient") is None, reason="no tritonclient"
)


class _Answers(BaseHTTPRequestHandler):
    """Answers as Triton does, for two versions; every fifth request is refused, as with a full queue.

    After ``last`` requests it is a server that has ended.
    """

    protocol_version = "HTTP/1.1"
    answered, last = 0, 10**9
    lock = threading.Lock()

    def do_GET(self):
        if self._has_ended():
            return
        ready = "/models/dossr/" in self.path
        count = {"count": self.answered, "ns": self.answered * 10**7}
        stats = {"success": count, "queue": count, "compute_infer": count}
        none = {name: {"count": 0, "ns": 0} for name in stats}
        body = {"model_stats": [{"inference_stats": each} for each in (none, stats)]}
        self._send(200 if ready else 400, body if self.path.endswith("stats") else {})

    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        time.sleep(0.01)
        with self.lock:
            type(self).answered += 1
            ended, refused = self._has_ended(), self.answered % 5 == 0 and self.refuses
        if ended:
            return
        if refused:
            self._send(503, {"error": "Exceeds maximum queue size"})
        else:
            self._send(200, {"model_name": "dossr", "outputs": []})

    def _has_ended(self):
        self.close_connection = self.answered > self.last
        return self.close_connection

    def _send(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def url():
    """url(refuses=..., last=...) is the address of the stand-in."""
    servers = []

    def start(refuses=False, last=_Answers.last):
        own = {"refuses": refuses, "answered": 0, "last": last}
        handler = type("Handler", (_Answers,), own)
        servers.append(ThreadingHTTPServer(("127.0.0.1", 0), handler))
        threading.Thread(target=servers[0].serve_forever, daemon=True).start()
        return f"127.0.0.1:{servers[0].server_address[1]}"

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def serve(capfd):
    """serve(*arguments) runs the command and returns its exit code, stdout and stderr."""

    def run(*arguments):
        with pytest.raises(SystemExit) as ended:
            main.main(["serve", *map(str, arguments)], prog_name="dossr-bench")
        captured = capfd.readouterr()
        return ended.value.code or 0, captured.out, captured.err

    return run


def test_every_request_is_counted_once(serve, url, tmp_path):
    file = tmp_path / "serve.json"
    code, out, _ = serve("--url", url(), "--requests", 20, "--clients", 3, "--json", file)
    assert code == 0
    assert "| 3 | 20 | - |" in out
    (row,) = json.loads(file.read_text())["rows"]
    assert len(row["seconds"]) == 20
    assert row["p99_s"] == max(row["seconds"])
    assert min(row["seconds"]) <= row["p50_s"] <= row["p99_s"] <= row["elapsed_s"]
    assert row["queue_s"] == row["model_s"] == pytest.approx(0.01)


def test_refused_requests_are_told_and_not_timed(serve, url):
    code, out, _ = serve("--url", url(refuses=True), "--requests", 9, "--clients", 1)
    assert code == 1  # one request goes first, so that the fourth and the ninth are refused
    assert "| 1 | 9 | 2 |" in out
    assert out.rstrip().endswith("failed: [503] Exceeds maximum queue size")


def test_a_server_that_ends_is_told_with_the_figures_before(serve, url, tmp_path):
    file = tmp_path / "serve.json"
    arguments = ("--requests", 9, "--clients", 1, "--json", file)
    code, out, err = serve("--url", url(last=7), *arguments)
    assert code == 1
    assert err.startswith("clients: 1:")
    assert err.count("\n") == 1
    (line,) = [line for line in out.splitlines() if line.startswith("| 1 |")]
    assert line.startswith("| 1 | 9 | 3 |")
    assert line.endswith("| - | - |")
    assert "\nfailed: " in out
    (row,) = json.loads(file.read_text())["rows"]
    assert (len(row["seconds"]), row["queue_s"]) == (6, None)


def test_wrong_use_is_one_line(serve, url, tmp_path):
    address = url()
    for arguments, code, message in (
        ((), 2, "give a model repository, or --url"),
        ((tmp_path, "--url", address), 2, "one of both"),
        ((tmp_path, "--server", "no-such-server"), 2, "'no-such-server' is not found"),
        ((tmp_path, "--server", "false"), 1, "tritonserver ended: it wrote nothing"),
        (("--url", "127.0.0.1:1"), 1, "no server answers at 127.0.0.1:1"),
        (("--url", address, "--model", "other"), 1, "must have the model other ready"),
    ):
        found, _, err = serve(*arguments)
        assert (found, err.count("\n")) == (code, 1), err
        assert message in err
