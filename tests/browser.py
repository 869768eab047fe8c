"""Headless Chromium for tests, over WebDriver: Debian's package chromium-driver."""

import base64
import contextlib
import http.client
import json
import shutil
import socket
import subprocess
import time

DRIVER, CHROMIUM = shutil.which("chromedriver"), shutil.which("chromium")
# Nothing but the page is to be loaded: Chromium would call its maker.
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-dev-shm-usage",
    "--disable-sync",
    "--force-color-profile=srgb",
]
_ELEMENT = "element-6066-11e4-a52e-4f735466cecf"


class Browser:
    """A window of headless Chromium.

    Args:
        width, height: int; the size of the page in pixels.
        folder: path of an empty folder for its profile.
    """

    def __init__(self, width, height, folder):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        self.process = subprocess.Popen(
            [DRIVER, f"--port={self.port}"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self.session = ""
        options = {
            "binary": CHROMIUM,
            "args": [*ARGUMENTS, f"--user-data-dir={folder}"],
        }
        options["mobileEmulation"] = {
            "deviceMetrics": {"width": width, "height": height, "pixelRatio": 1}
        }
        capabilities = {
            "goog:chromeOptions": options,
            "goog:loggingPrefs": {"browser": "ALL"},
        }
        body = {"capabilities": {"alwaysMatch": capabilities}}
        try:
            self.wait(self._is_ready)
            created = self._call("POST", "/session", body)
        except BaseException:
            self.process.kill()
            raise
        self.session = f"/session/{created['sessionId']}"

    def _is_ready(self):
        with contextlib.suppress(OSError):
            return self._call("GET", "/status")["ready"]
        return False

    def _call(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(value["message"])
        return value

    def wait(self, condition, seconds=30):
        """Wait until a function returns something true, and return that."""
        end = time.monotonic() + seconds
        while not (value := condition()):
            assert time.monotonic() < end, "the page has not got there"
            time.sleep(0.02)
        return value

    def open(self, url):
        self._call("POST", f"{self.session}/url", {"url": url})

    def run(self, script, *arguments):
        """Run JavaScript, the body of a function, and return its value."""
        body = {"script": script, "args": list(arguments)}
        return self._call("POST", f"{self.session}/execute/sync", body)

    def keys(self, selector, text):
        """Type into an element; for a file input, the path of the file."""
        body = {"using": "css selector", "value": selector}
        found = self._call("POST", f"{self.session}/element", body)[_ELEMENT]
        path = f"{self.session}/element/{found}/value"
        self._call("POST", path, {"text": str(text)})

    def press(self, *keys):
        """Press keys, wherever the focus is."""
        actions = [
            {"type": kind, "value": key}
            for key in keys
            for kind in ("keyDown", "keyUp")
        ]
        body = {"actions": [{"type": "key", "id": "keyboard", "actions": actions}]}
        self._call("POST", f"{self.session}/actions", body)

    def log(self):
        """What the console has said since the last call."""
        body = {"type": "browser"}
        entries = self._call("POST", f"{self.session}/se/log", body)
        return [entry["message"] for entry in entries]

    def screenshot(self, path):
        data = self._call("GET", f"{self.session}/screenshot")
        path.write_bytes(base64.b64decode(data))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        with contextlib.suppress(AssertionError, OSError):
            self._call("DELETE", self.session)
        self.process.terminate()
        self.process.wait(10)
