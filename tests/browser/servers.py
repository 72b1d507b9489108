"""Servers behind the page: the built-in model, and a script in a model's place."""

import atexit
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path

import replies

ROOT = Path(__file__).resolve().parents[2]
TEMPLATE = ROOT / "tests" / "scripted" / "template.jinja"
# Both programs print one of these lines once they listen.
LISTENING = re.compile(r"(?:serving .* on|listening on) http://[^\s/]*:(\d+)")
START_SECONDS = 90


class Programs:
    """Programs under test; `suite.py` sets them."""

    mtplx = ""
    scripted = ""


class Server:
    """A running server."""

    def __init__(self, command):
        self.command = command
        self.home = tempfile.mkdtemp(prefix="mtplx-browser-")
        atexit.register(self.stop)
        self.start("0")

    def start(self, port):
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MTPLX_")}
        command = [part.replace("PORT", port) for part in self.command]
        self.process = subprocess.Popen(
            command,
            env={**inherited, "MTPLX_HOME": self.home},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines, self.port = [], None
        threading.Thread(target=self.read, args=(self.process.stdout,), daemon=True).start()
        end = time.monotonic() + START_SECONDS
        while not self.ready():
            if self.process.poll() is not None or time.monotonic() > end:
                raise RuntimeError("the server did not start:\n" + "\n".join(self.lines))
            time.sleep(0.05)
        self.url = f"http://127.0.0.1:{self.port}"

    def read(self, pipe):
        for line in pipe:
            self.lines.append(line.rstrip("\n"))
            found = LISTENING.search(line)
            if found:
                self.port = int(found.group(1))

    def ready(self):
        if self.port is None:
            return False
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=5).status == 200
        except (urllib.error.URLError, OSError):
            return False

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)


SHARED = {}


def shared(name, start):
    if name not in SHARED:
        SHARED[name] = start()
    return SHARED[name]


def builtin():
    """The built-in model."""
    return shared("builtin", lambda: Server([Programs.mtplx, "serve", "--port", "PORT"]))


def script(key=None, **document):
    """A script with the replies of `replies.py`."""
    folder = tempfile.mkdtemp(prefix="mtplx-script-")
    atexit.register(shutil.rmtree, folder, True)
    path = Path(folder) / "script.json"
    values = {"template": TEMPLATE.read_text(), "context": 4096, "replies": replies.REPLIES, **document}
    path.write_text(json.dumps(values))
    return Server([Programs.scripted, str(path), "PORT", *([key] if key else [])])


def scripted():
    """The script, as fast as it goes."""
    return shared("scripted", script)


def slow():
    """The script at the pace of a reader."""
    return shared("slow", lambda: script(round_ms=25))


def brisk():
    """The script with a pause between rounds, so that texts are drawn while they are not whole."""
    return shared("brisk", lambda: script(round_ms=4))


def with_key():
    """The script behind the key `sesame`."""
    return shared("with_key", lambda: script(key="sesame"))
