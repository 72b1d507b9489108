"""Open WebUI as a client: starts it, and has its model change notes.txt in this folder through a tool of its own.

    webui.py PROGRAM MODEL TASK
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid

TOOL = '''
class Tools:
    def read_file(self, path: str) -> str:
        """
        Reads a text file.
        :param path: its path
        """
        return open({folder!r} + "/" + path).read()

    def replace_in_file(self, path: str, old: str, new: str) -> str:
        """
        Replaces a text in a file.
        :param path: the file's path
        :param old: the text
        :param new: its replacement
        """
        path = {folder!r} + "/" + path
        text = open(path).read()
        open(path, "w").write(text.replace(old, new, 1))
        return "replaced"
'''


class Client:
    def __init__(self, url):
        self.url, self.headers = url, {"content-type": "application/json"}

    def call(self, path, body=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, self.headers)
        return urllib.request.urlopen(request, timeout=60).read().decode()

    def json(self, path, body=None):
        return json.loads(self.call(path, body))


def started(client, process):
    while process.poll() is None:
        try:
            return client.call("/health")
        except (urllib.error.URLError, ConnectionError):
            time.sleep(0.5)
    sys.exit("Open WebUI ended")


def task(client, model, text):
    """Whole and streamed chat, then a chat with tools; the answer's text."""
    client.headers["authorization"] = "Bearer " + client.json("/api/v1/auths/signin", {"email": "", "password": ""})["token"]
    models = [entry["id"] for entry in client.json("/api/models")["data"]]
    assert model in models, models
    hello = {"model": model, "messages": [{"role": "user", "content": "Say hello."}]}
    whole = client.json("/api/chat/completions", {**hello, "stream": False})
    assert whole["choices"][0]["message"]["content"], whole
    streamed = client.call("/api/chat/completions", {**hello, "stream": True})
    assert "data: [DONE]" in streamed, streamed
    tool = {"id": "notes", "name": "notes", "content": TOOL.format(folder=os.getcwd()), "meta": {"description": "files"}}
    client.call("/api/v1/tools/create", {**tool, "access_grants": []})
    question, answer = str(uuid.uuid4()), str(uuid.uuid4())
    message = {"id": question, "parentId": None, "childrenIds": [answer], "role": "user", "content": text}
    background = dict.fromkeys(["title_generation", "tags_generation", "follow_up_generation"], True)
    body = {
        "model": model,
        "messages": [{"role": "user", "content": text}],
        "stream": True,
        "tool_ids": ["notes"],
        "params": {},
        "parent_id": None,
        "user_message": {**message, "timestamp": int(time.time()), "models": [model]},
        "id": answer,
        "session_id": str(uuid.uuid4()),
        "background_tasks": background,
    }
    chat = client.json("/api/chat/completions", body)["chat_id"]
    for _ in range(120):
        time.sleep(0.5)
        state = client.json(f"/api/v1/chats/{chat}")["chat"]["history"]["messages"].get(answer) or {}
        if state.get("error"):
            sys.exit(f"error: {state['error']}")
        if state.get("done"):
            # Titles, tags and follow-up questions are asked for behind the answer.
            time.sleep(3)
            return state["content"]
    sys.exit("no answer")


def main():
    program, model, text = sys.argv[1:]
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [program, "serve", "--host", "127.0.0.1", "--port", str(port)]
    process = subprocess.Popen(command, cwd=pathlib.Path.home())
    try:
        client = Client(f"http://127.0.0.1:{port}")
        started(client, process)
        print(task(client, model, text))
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    main()
