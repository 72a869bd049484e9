"""Chromium without a window, driven by the DevTools protocol over a pipe."""

import base64
import fcntl
import json
import os
import select
import shutil
import signal
import time

import pytest

_KEYS = {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40, "Home": 36, "End": 35,
         "PageUp": 33, "PageDown": 34, "0": 48, "+": 187}  # fmt: skip


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser; skipped where it is not installed."""
    program = shutil.which("chromium") or shutil.which("google-chrome")
    if program is None or not hasattr(os, "posix_spawn"):
        pytest.skip("Chromium is not installed")
    browser = _Chromium(program, tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture
def page(chromium):
    """A new tab of 1280 x 900 CSS pixels."""
    return _Page(chromium)


class _Chromium:
    """A process that reads commands from its file 3 and writes answers to its file 4, ended by NUL."""

    def __init__(self, program, profile):
        (theirs, self._commands), (self._answers, writes) = os.pipe(), os.pipe()
        high = [fcntl.fcntl(handle, fcntl.F_DUPFD, 20) for handle in (theirs, writes)]
        arguments = [
            program, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--remote-debugging-pipe", "--force-color-profile=srgb", f"--user-data-dir={profile}",
        ]  # fmt: skip
        null = os.open(os.devnull, os.O_RDWR)
        actions = [
            *((os.POSIX_SPAWN_DUP2, null, handle) for handle in (0, 1, 2)),
            (os.POSIX_SPAWN_DUP2, high[0], 3), (os.POSIX_SPAWN_DUP2, high[1], 4),
        ]  # fmt: skip
        environment = {**os.environ, "HOME": str(profile), "XDG_CACHE_HOME": str(profile)}
        self._process = os.posix_spawn(program, arguments, environment, file_actions=actions)
        for handle in (theirs, writes, null, *high):
            os.close(handle)
        self._buffer, self._number, self.events = b"", 0, []

    def call(self, method, session=None, **parameters):
        """Send a command and return its result; keep the events that come before it."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                return answer["result"]
            self.events.append(answer)

    def _read(self):
        ends = time.monotonic() + 60
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._answers], [], [], max(0, ends - time.monotonic()))
            assert ready, "Chromium does not answer"
            chunk = os.read(self._answers, 1 << 20)
            assert chunk, "Chromium ended"
            self._buffer += chunk
        message, _, self._buffer = self._buffer.partition(b"\0")
        return json.loads(message)

    def close(self):
        os.kill(self._process, signal.SIGTERM)
        os.waitpid(self._process, 0)
        os.close(self._commands)
        os.close(self._answers)


class _Page:
    """One tab."""

    def __init__(self, browser):
        self._browser = browser
        target = browser.call("Target.createTarget", url="about:blank")["targetId"]
        attached = browser.call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Network", "Log"):
            self.call(f"{domain}.enable")
        self.size(1280, 900)

    def call(self, method, **parameters):
        return self._browser.call(method, self._session, **parameters)

    def size(self, width, height, ratio=1, touch=False):
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height,
                  deviceScaleFactor=ratio, mobile=touch)  # fmt: skip
        self.call("Emulation.setTouchEmulationEnabled", enabled=touch, maxTouchPoints=2)

    def scheme(self, name):
        features = [{"name": "prefers-color-scheme", "value": name}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def open(self, path):
        """Open a file and wait until its visible images are decoded."""
        self._browser.events.clear()
        self.call("Page.navigate", url=path.as_uri())
        self.wait("document.readyState === 'complete'")
        self.wait("document.querySelector('.view img').naturalWidth > 0")

    def wait(self, condition):
        ends = time.monotonic() + 30
        while not self.value(condition):
            assert time.monotonic() < ends, condition
            time.sleep(0.02)

    def value(self, expression):
        """Return the JSON value of a JavaScript expression."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def box(self, selector):
        """Return the left, top, width and height of an element in the window."""
        query = f"document.querySelector({selector!r}).getBoundingClientRect()"
        return self.value(f"(b => [b.left, b.top, b.width, b.height])({query})")

    def mouse(self, kind, x, y, **more):
        self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left",
                  **{"clickCount": 1, **more})  # fmt: skip

    def drag(self, start, end, steps=5):
        self.mouse("mousePressed", *start)
        for k in range(1, steps + 1):
            at = [a + (b - a) * k / steps for a, b in zip(start, end, strict=True)]
            self.mouse("mouseMoved", *at, buttons=1)
        self.mouse("mouseReleased", *end)

    def touch(self, kind, *points):
        self.call("Input.dispatchTouchEvent", type=kind,
                  touchPoints=[{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)])  # fmt: skip

    def press(self, key, shift=False):
        known = {"key": key, "windowsVirtualKeyCode": _KEYS.get(key, 0), "modifiers": 8 * shift}
        text = {"text": key} if len(key) == 1 else {}
        self.call("Input.dispatchKeyEvent", type="keyDown", **known, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **known)

    def screenshot(self):
        """Return what the window shows as PNG."""
        return base64.b64decode(self.call("Page.captureScreenshot", format="png")["data"])

    @property
    def events(self):
        """What happened since ``open``."""
        self.value("1")
        return self._browser.events
