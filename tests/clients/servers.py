"""Servers to ask: started on a free port, with state and settings of their own, and stopped again."""

import atexit
import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path

import anthropic
import ollama
import openai

ROOT = Path(__file__).resolve().parents[2]
BUILTIN = ROOT / "models" / "builtin"
TEMPLATE = ROOT / "tests" / "scripted" / "template.jinja"
# Both binaries print one of these lines once they listen.
LISTENING = re.compile(r"(?:serving .* on|listening on) http://([^\s:]+|\[[^]]*\]):(\d+)")
START_SECONDS = 60


class Binaries:
    """Programs under test; `suite.py` sets them."""

    mtplx = ""
    scripted = ""


class Server:
    """A running server: its address, its log, its end."""

    def __init__(self, command, environment=None, key="unused"):
        self.key = key
        self.home = tempfile.mkdtemp(prefix="mtplx-clients-")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("MTPLX_")}
        variables = {**inherited, "MTPLX_HOME": self.home, **(environment or {})}
        self.process = subprocess.Popen(
            command, env=variables, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        atexit.register(self.stop)
        self.lines, self.port, self.changed = [], None, threading.Condition()
        self.ended = 0
        for pipe in (self.process.stdout, self.process.stderr):
            threading.Thread(target=self.read, args=(pipe,), daemon=True).start()
        with self.changed:
            self.changed.wait_for(lambda: self.port or self.ended == 2, START_SECONDS)
        if not self.port:
            self.stop()
            raise RuntimeError("the server did not start:\n" + "\n".join(self.lines))
        self.url = f"http://127.0.0.1:{self.port}"
        wait_until(lambda: self.health().get("status") == "ok", START_SECONDS)

    def read(self, pipe):
        for line in pipe:
            with self.changed:
                self.lines.append(line.rstrip("\n"))
                found = LISTENING.search(line)
                if found:
                    self.port = int(found.group(2))
                self.changed.notify_all()
        with self.changed:
            self.ended += 1
            self.changed.notify_all()

    def signal(self, number=signal.SIGTERM):
        self.process.send_signal(number)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        shutil.rmtree(self.home, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def health(self):
        try:
            return self.get("/health").json()
        except (OSError, http.client.HTTPException):
            return {}

    def send(self, method, path, body=None, headers=None, timeout=30):
        """Sends a request as it is given; a `dict` is sent as JSON."""
        headers = dict(headers or {})
        if not isinstance(body, (bytes, str, type(None))):
            body = json.dumps(body)
        if isinstance(body, str):
            body = body.encode()
        if body is not None and not any(name.lower() == "content-type" for name in headers):
            headers["content-type"] = "application/json"
        headers = {name: value for name, value in headers.items() if value is not None}
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            try:
                connection.request(method, path, body, headers)
            except (BrokenPipeError, ConnectionResetError):
                # The server may answer before it has read the whole body.
                pass
            answer = connection.getresponse()
            return Answer(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def get(self, path, **options):
        return self.send("GET", path, **options)

    def post(self, path, body, **options):
        return self.send("POST", path, body, **options)

    def socket(self, data=b""):
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        connection.sendall(data)
        return connection

    def raw(self, path, body):
        """A socket on which `body` was posted, and nothing was read."""
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
        return self.socket(f"{head}content-length: {len(data)}\r\n\r\n".encode() + data)

    def idle(self, seconds=10):
        """Waits until nothing runs and nothing waits. True if that was in time."""
        return wait_until(lambda: self.busy() == (0, 0), seconds)

    def busy(self):
        health = self.health()
        return health.get("running"), health.get("queued")

    def metrics(self):
        """Samples of `/metrics` by name and labels: `name{a="b"}`, labels sorted."""
        samples = {}
        for line in self.get("/metrics", headers={"x-api-key": self.key}).text.splitlines():
            found = re.fullmatch(r"([a-z_]+)(?:\{(.*)\})? (\S+)", line)
            if found and not line.startswith("#"):
                labels = ",".join(sorted(re.findall(r'[a-z_]+="[^"]*"', found.group(2) or "")))
                samples[f"{found.group(1)}{{{labels}}}" if labels else found.group(1)] = float(found.group(3))
        return samples

    def requests(self, route, status):
        return self.metrics().get(f'mtplx_requests_total{{route="{route}",status="{status}"}}', 0)

    def openai(self, **options):
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=self.key, **{"timeout": 60, **options})

    def anthropic(self, **options):
        return anthropic.Anthropic(base_url=self.url, api_key=self.key, **{"timeout": 60, **options})

    def ollama(self):
        return ollama.Client(host=self.url)


class Answer:
    """A whole answer."""

    def __init__(self, status, headers, body):
        self.status, self.headers, self.body = status, headers, body

    @property
    def text(self):
        return self.body.decode()

    def json(self):
        return json.loads(self.body)

    def frames(self):
        """Frames of an SSE stream as `(event, data)`; a comment is `(":", text)`."""
        return frames(self.text)


def frames(text):
    found = []
    for block in text.split("\n\n"):
        lines = [line for line in block.split("\n") if line]
        if not lines:
            continue
        fields = dict(line.split(": ", 1) if ": " in line else (line, "") for line in lines)
        if lines[0].startswith(":"):
            found.append((":", lines[0][1:].strip()))
        elif fields.get("data") == "[DONE]":
            found.append(("", "[DONE]"))
        else:
            found.append((fields.get("event", ""), json.loads(fields["data"])))
    return found


def wait_until(true, seconds):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if true():
            return True
        time.sleep(0.02)
    return true()


def serve(*flags, environment=None, key="unused"):
    """`mtplx serve`, with the built-in model unless the flags name another."""
    return Server([Binaries.mtplx, "serve", "--port", "0", *flags], environment, key)


def script(document, key=None):
    """The server with `document` in the model's place."""
    folder = tempfile.mkdtemp(prefix="mtplx-script-")
    path = Path(folder) / "script.json"
    path.write_text(json.dumps({"template": TEMPLATE.read_text(), **document}))
    try:
        return Server([Binaries.scripted, str(path), "0", *([key] if key else [])], key=key or "unused")
    finally:
        shutil.rmtree(folder)


def run(*flags, prompt):
    """What `mtplx run --json` says of a prompt."""
    home = tempfile.mkdtemp(prefix="mtplx-run-")
    try:
        command = [Binaries.mtplx, "run", "--json", *flags, prompt]
        environment = {**os.environ, "MTPLX_HOME": home}
        return json.loads(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)
    finally:
        shutil.rmtree(home)


SHARED = {}


def shared(name, start):
    """A server that tests share: started when the first one asks for it."""
    if name not in SHARED or SHARED[name].process.poll() is not None:
        SHARED[name] = start()
    return SHARED[name]


def builtin():
    """The built-in model."""
    return shared("builtin", serve)


def scripted():
    """The script with the replies of `scripts.py`."""
    import scripts

    return shared("scripted", lambda: script({"context": 4096, "replies": scripts.REPLIES}))


def at_once(*calls):
    """Results of calls that run at the same time, in their order; the first error is raised."""
    results = [None] * len(calls)

    def call(place):
        try:
            results[place] = (calls[place](), None)
        except BaseException as error:  # Raised again below, on the test's own thread.
            results[place] = (None, error)

    threads = [threading.Thread(target=call, args=(place,)) for place in range(len(calls))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for _, error in results:
        if error:
            raise error
    return [result for result, _ in results]
