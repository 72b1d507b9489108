"""Requests in turns: the queue, hang-ups, clients that do not read, weights that are dropped, the end."""

import json
import signal
import socket
import time
import unittest

import anthropic
import openai
import scripts
import servers

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
# About as long as the context allows: half a minute and more.
LONG = {"prompt": "fn main() {", "max_tokens": 2000, "ignore_eos": True}
SHORT = {"prompt": "fn main() {", "max_tokens": 4}


def long(route, **fields):
    user = [{"role": "user", "content": "go on"}]
    body = {
        COMPLETIONS: LONG,
        CHAT: {"messages": user, "max_tokens": 2000, "ignore_eos": True},
        "/v1/messages": {"model": "claude-x", "messages": user, "max_tokens": 2000, "ignore_eos": True},
        "/v1/responses": {"input": "go on", "max_output_tokens": 2000, "ignore_eos": True},
        "/api/chat": {"messages": user, "options": {"num_predict": 2000}, "ignore_eos": True},
    }[route]
    return {**body, **fields}


def running(server, count, queued=0):
    return servers.wait_until(lambda: server.busy() == (count, queued), 10)


class HangUps(unittest.TestCase):
    """A client that goes away is noticed at once, wherever its request is."""

    def gone(self, server, connection):
        connection.close()
        begun = time.monotonic()
        self.assertTrue(server.idle(5))
        self.assertLess(time.monotonic() - begun, 1)
        self.assertEqual(server.post(COMPLETIONS, SHORT).status, 200)

    def test_in_a_stream(self):
        server = servers.builtin()
        for route in (CHAT, COMPLETIONS, "/v1/messages", "/v1/responses", "/api/chat"):
            with self.subTest(route):
                connection = server.raw(route, long(route, stream=True))
                self.assertIn(b" 200 ", connection.recv(4096))
                self.assertTrue(running(server, 1))
                self.gone(server, connection)

    def test_in_a_whole_answer(self):
        server = servers.builtin()
        for route in (CHAT, "/v1/messages", "/v1/responses", "/api/chat"):
            with self.subTest(route):
                connection = server.raw(route, long(route, stream=False))
                self.assertTrue(running(server, 1))
                self.gone(server, connection)

    def test_in_a_prompt(self):
        server = servers.builtin()
        connection = server.raw(COMPLETIONS, {"prompt": [5] * 2000, "max_tokens": 40, "ignore_eos": True})
        self.gone(server, connection)

    def test_in_the_queue(self):
        with servers.serve("--max-running", "1") as server:
            first = server.raw(COMPLETIONS, LONG)
            self.assertTrue(running(server, 1))
            for stream in (False, True):
                waiting = server.raw(COMPLETIONS, {**LONG, "stream": stream})
                self.assertTrue(running(server, 1, 1))
                waiting.close()
                self.assertTrue(servers.wait_until(lambda: server.busy() == (1, 0), 1), server.busy())
            self.gone(server, first)

    def test_clients_close_their_streams(self):
        server = servers.builtin()
        stream = server.openai().completions.create(
            model="builtin",
            **{k: LONG[k] for k in ("prompt", "max_tokens")},
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        stream.close()
        self.assertTrue(server.idle(1))
        with server.anthropic().messages.stream(
            model="claude-x",
            max_tokens=2000,
            messages=[{"role": "user", "content": "go"}],
            extra_body={"ignore_eos": True},
        ) as messages:
            next(iter(messages))
        self.assertTrue(server.idle(1))


class Turns(unittest.TestCase):
    def test_a_short_request_does_not_wait_for_long_ones(self):
        server = servers.builtin()
        connections = [server.raw(COMPLETIONS, LONG) for _ in range(3)]
        try:
            self.assertTrue(running(server, 3))
            answer = server.post(COMPLETIONS, SHORT)
            self.assertEqual(answer.status, 200)
            self.assertTrue(running(server, 3), "the long ones still run")
        finally:
            for connection in connections:
                connection.close()
        self.assertTrue(server.idle(2))

    def test_a_client_that_does_not_read_stops_nobody(self):
        server = servers.builtin()
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        connection.connect(("127.0.0.1", server.port))
        body = json.dumps(long(CHAT, stream=True, logprobs=True, top_logprobs=20, mtp={"origins": True})).encode()
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        try:
            self.assertTrue(running(server, 1))
            for _ in range(3):
                self.assertEqual(server.post(COMPLETIONS, SHORT).status, 200)
        finally:
            connection.close()
        self.assertTrue(server.idle(2))

    def test_many_clients_get_each_their_own_answer(self):
        server = servers.scripted()
        names = ("greeting", "one", "two", "types", "malformed", "say-and-call") * 6
        ask = lambda name, stream: server.post(
            CHAT, {"messages": scripts.messages(name), "tools": scripts.chat_tools(), "stream": stream}
        )
        alone = {name: ask(name, False).json()["choices"] for name in set(names)}
        strip = lambda choices: json.dumps(
            [
                {
                    **c,
                    "message": {
                        **c["message"],
                        "tool_calls": [call["function"] for call in c["message"].get("tool_calls") or []],
                    },
                }
                for c in choices
            ]
        )
        answers = servers.at_once(*(lambda n=name: ask(n, False) for name in names))
        for name, answer in zip(names, answers):
            self.assertEqual(strip(answer.json()["choices"]), strip(alone[name]))


class Queue(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = servers.serve("--max-running", "1", "--max-queue", "1")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_a_full_queue_is_429_with_a_time_to_wait(self):
        server = self.server
        connections = [server.raw(COMPLETIONS, LONG)]
        self.assertTrue(running(server, 1))
        connections.append(server.raw(COMPLETIONS, LONG))
        self.assertTrue(running(server, 1, 1))
        try:
            user = [{"role": "user", "content": "hi"}]
            for route, body in (
                (COMPLETIONS, SHORT),
                (CHAT, {"messages": user, "stream": True}),
                ("/v1/responses", {"input": "hi"}),
                ("/v1/messages", {"model": "claude-x", "messages": user, "max_tokens": 4}),
                ("/api/chat", {"messages": user}),
            ):
                answer = server.post(route, body)
                self.assertEqual(answer.status, 429, route)
                self.assertGreaterEqual(int(answer.headers["retry-after"]), 1)
                self.assertNotEqual(answer.headers.get("x-should-retry"), "false")
            self.assertEqual(
                server.post("/v1/messages/count_tokens", {"model": "claude-x", "messages": user}).status, 200
            )
            with self.assertRaises(openai.RateLimitError):
                server.openai(max_retries=0).completions.create(model="builtin", prompt="a")
            with self.assertRaises(anthropic.RateLimitError) as caught:
                server.anthropic(max_retries=0).messages.create(model="claude-x", max_tokens=4, messages=user)
            self.assertEqual(caught.exception.body["error"]["type"], "rate_limit_error")
        finally:
            for connection in connections:
                connection.close()
        self.assertTrue(server.idle(2))
        self.assertEqual(server.post(COMPLETIONS, SHORT).status, 200)

    def test_a_request_that_waits_is_answered_in_its_turn(self):
        body = {**SHORT, "temperature": 0, "max_tokens": 6}
        alone = self.server.post(COMPLETIONS, body).json()["choices"]
        for answer in servers.at_once(*[lambda: self.server.post(COMPLETIONS, body)] * 2):
            self.assertEqual(answer.json()["choices"], alone)


class IdleUnload(unittest.TestCase):
    def test_weights_are_dropped_and_loaded_again(self):
        with servers.serve("--idle-unload", "0.02") as server:
            body = {**SHORT, "temperature": 0}
            first = server.post(COMPLETIONS, body).json()["choices"]
            self.assertTrue(servers.wait_until(lambda: server.health().get("status") == "idle", 10))
            self.assertEqual(server.get("/health").status, 200)
            self.assertEqual(server.get("/v1/models").json()["data"][0]["id"], "builtin")
            self.assertEqual(server.post(COMPLETIONS, body).json()["choices"], first)
            self.assertEqual(server.health()["status"], "ok")


class End(unittest.TestCase):
    def test_streams_end_in_their_dialects_way_and_the_exit_is_clean(self):
        routes = (CHAT, COMPLETIONS, "/v1/messages", "/v1/responses", "/api/chat")
        with servers.serve() as server:
            connections = {route: server.raw(route, long(route, stream=True)) for route in routes}
            self.assertTrue(running(server, len(routes)))
            short = server.raw(CHAT, long(CHAT, stream=True, max_tokens=8))
            # A request that the server has not read is not one that it has to answer.
            short.recv(1, socket.MSG_PEEK)
            begun = time.monotonic()
            server.signal(signal.SIGTERM)
            texts = {route: read(connection) for route, connection in connections.items()}
            self.assertEqual(server.process.wait(10), 0)
            self.assertTrue(3 < time.monotonic() - begun < 10, "streams have five seconds")
            # What could end by itself did.
            self.assertTrue(read(short).endswith("data: [DONE]"))
            for route in (CHAT, COMPLETIONS):
                self.assertNotIn("[DONE]", texts[route])
                self.assertIn("error", json.loads(texts[route].split("data: ")[-1]))
            self.assertIn("event: error", texts["/v1/messages"].split("\n\n")[-1])
            self.assertIn("event: response.failed", texts["/v1/responses"].split("\n\n")[-1])
            self.assertIn("error", json.loads(texts["/api/chat"].splitlines()[-1]))

    def test_nothing_to_wait_for_ends_at_once(self):
        for number in (signal.SIGTERM, signal.SIGINT):
            with servers.serve() as server:
                server.post(COMPLETIONS, SHORT)
                server.signal(number)
                self.assertEqual(server.process.wait(3), 0)


def read(connection):
    """The body of a chunked answer, to its end."""
    data = b""
    with connection:
        while piece := connection.recv(65536):
            data += piece
            if data.endswith(b"0\r\n\r\n"):
                break
    body, text = data.split(b"\r\n\r\n", 1)[1], b""
    while body:
        size, _, body = body.partition(b"\r\n")
        text, body = text + body[: int(size, 16)], body[int(size, 16) + 2 :]
    return text.decode().strip()


if __name__ == "__main__":
    unittest.main()
