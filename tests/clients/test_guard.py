"""Limits and safety: keys, hosts, origins, content types, sizes, heads, requests that break the engine."""

import socket
import unittest

import anthropic
import openai
import scripts
import servers

CHAT = "/v1/chat/completions"
BODY = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
KEY = "s3cret-key"


class Keys(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = servers.script({"replies": scripts.REPLIES}, key=KEY)

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def test_both_headers_open_the_routes(self):
        for headers in ({"authorization": f"Bearer {KEY}"}, {"x-api-key": KEY}):
            for path in ("/v1/models", "/metrics", "/api/tags", "/openapi.json"):
                self.assertEqual(self.server.get(path, headers=headers).status, 200, path)
            self.assertEqual(self.server.post(CHAT, BODY, headers=headers).status, 200)

    def test_all_but_the_health_is_closed(self):
        self.assertEqual(self.server.get("/health").status, 200)
        for headers in (
            {},
            {"authorization": "Bearer wrong"},
            {"authorization": KEY},
            {"authorization": f"Basic {KEY}"},
            {"authorization": "Bearer"},
            {"x-api-key": ""},
            {"x-api-key": KEY[:-1]},
            {"x-api-key": KEY + "x"},
        ):
            with self.subTest(headers):
                for path in (
                    "/v1/models",
                    "/v1/models/scripted",
                    "/metrics",
                    "/api/tags",
                    "/api/version",
                    "/openapi.json",
                ):
                    self.assertEqual(self.server.get(path, headers=headers).status, 401, path)
                for path in (CHAT, "/v1/messages", "/v1/messages/count_tokens", "/v1/responses", "/api/chat"):
                    answer = self.server.post(path, BODY, headers=headers)
                    self.assertEqual((answer.status, answer.headers["x-should-retry"]), (401, "false"), path)

    def test_clients_have_their_class_for_it(self):
        self.assertTrue(self.server.openai().models.list().data)
        self.assertTrue(self.server.anthropic().models.list().data)
        with self.assertRaises(openai.AuthenticationError):
            openai.OpenAI(base_url=f"{self.server.url}/v1", api_key="x").models.list()
        with self.assertRaises(anthropic.AuthenticationError) as caught:
            anthropic.Anthropic(base_url=self.server.url, api_key="x").messages.create(
                model="claude-x", max_tokens=1, messages=BODY["messages"]
            )
        self.assertEqual(caught.exception.body["error"]["type"], "authentication_error")

    def test_a_wrong_key_is_refused_before_the_body_is_read(self):
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1000000\r\n\r\n"
        with self.server.socket(head.encode()) as connection:
            connection.settimeout(5)
            self.assertIn(b" 401 ", connection.recv(4096).split(b"\r\n")[0])


class Browsers(unittest.TestCase):
    def status(self, method="POST", path=CHAT, body=BODY, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return servers.builtin().send(method, path, body if method == "POST" else None, headers).status

    def test_hosts_are_loopback(self):
        port = servers.builtin().port
        for host in ("localhost", f"localhost:{port}", "127.0.0.1", f"127.0.0.1:{port}", "[::1]", f"[::1]:{port}"):
            self.assertEqual(self.status("GET", "/health", host=host), 200, host)
        for host in ("evil.com", f"evil.com:{port}", "localhost.evil.com", "127.0.0.1.evil.com", "192.168.0.1"):
            for method, path in (("GET", "/health"), ("GET", "/v1/models"), ("POST", CHAT)):
                self.assertEqual(self.status(method, path, host=host), 403, host)

    def test_origins_are_loopback(self):
        for origin in ("http://localhost:3000", "http://127.0.0.1", "http://[::1]:5173"):
            self.assertEqual(self.status(origin=origin), 200, origin)
        for origin in (
            "https://evil.com",
            "null",
            "http://localhost.evil.com",
            "http://localhost@evil.com",
            "file://",
            "http://127.0.0.1.evil.com",
            "nonsense",
        ):
            self.assertEqual(self.status(origin=origin), 403, origin)

    def test_cors_is_for_origins_that_are_allowed(self):
        for origin, allowed in (("http://localhost:3000", True), ("https://evil.com", False)):
            headers = {
                "origin": origin,
                "access-control-request-method": "POST",
                "access-control-request-headers": "authorization,content-type",
            }
            answer = servers.builtin().send("OPTIONS", CHAT, headers=headers)
            self.assertEqual(answer.headers.get("access-control-allow-origin"), origin if allowed else None)
            answer = servers.builtin().get("/v1/models", headers={"origin": origin})
            self.assertEqual(answer.headers.get("access-control-allow-origin"), origin if allowed else None)

    def test_bodies_are_json_by_their_type(self):
        for kind in (
            "text/plain",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "application/jsonx",
        ):
            for path in (CHAT, "/v1/messages", "/v1/responses", "/v1/completions", "/api/chat"):
                self.assertEqual(self.status(path=path, content_type=kind), 415, kind)
        with servers.builtin().socket(
            f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\n{{}}".encode()
        ) as connection:
            self.assertIn(b" 415 ", connection.recv(4096).split(b"\r\n")[0])
        for kind in (
            "application/json",
            "application/json; charset=utf-8",
            "Application/JSON",
            "application/vnd.api+json",
        ):
            self.assertEqual(self.status(content_type=kind), 200, kind)


class Sizes(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = servers.serve("--max-body", "1", "--allow-host", "box.lan", "--allow-origin", "https://ui.example")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def first_line(self, data):
        with self.server.socket(data) as connection:
            connection.settimeout(5)
            return connection.recv(4096).split(b"\r\n")[0].decode()

    def test_a_body_that_announces_too_much_is_refused_unread(self):
        for route in (CHAT, "/v1/messages"):
            head = f"POST {route} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1048577\r\n\r\n"
            self.assertIn(" 413 ", self.first_line(head.encode()))

    def test_a_chunked_body_is_refused_where_it_grows_too_long(self):
        head = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
        chunk = b"10000\r\n" + b" " * 0x10000 + b"\r\n"
        with self.server.socket(head.encode()) as connection:
            connection.settimeout(5)
            try:
                # The body has no end.
                for _ in range(17):
                    connection.sendall(chunk)
            except OSError:
                pass
            self.assertIn(b" 413 ", connection.recv(4096).split(b"\r\n")[0])

    def test_errors_are_the_dialects(self):
        body = b" " * (1 << 20) + b"{}"
        for route in ("/v1/messages", CHAT):
            answer = self.server.post(route, body)
            self.assertEqual((answer.status, answer.headers["x-should-retry"]), (413, "false"))
            if route == "/v1/messages":
                self.assertEqual(answer.json()["error"]["type"], "request_too_large")

    def test_clients_learn_that_a_body_is_too_long(self):
        # A connection that is closed too early is no answer, and clients would send all of it again.
        text = "word " * 400_000
        for _ in range(3):
            with self.assertRaises(openai.APIStatusError) as caught:
                self.server.openai().completions.create(model="builtin", prompt=text)
            self.assertEqual(caught.exception.status_code, 413)
            with self.assertRaises(anthropic.APIStatusError) as caught:
                self.server.anthropic().messages.create(
                    model="claude-x", max_tokens=1, messages=[{"role": "user", "content": text}]
                )
            self.assertEqual(caught.exception.status_code, 413)

    def test_a_body_within_the_limit_is_read(self):
        padded = b'{"prompt": "a", "max_tokens": 1}' + b" " * ((1 << 20) - 100)
        self.assertEqual(self.server.post("/v1/completions", padded).status, 200)

    def test_hosts_and_origins_are_allowed_by_flag(self):
        for host, status in (("box.lan", 200), ("box.lan:8000", 200), ("box.lan.evil.com", 403), ("notbox.lan", 403)):
            self.assertEqual(self.server.get("/health", headers={"host": host}).status, status, host)
        for origin, status in (
            ("https://ui.example", 200),
            ("http://ui.example", 403),
            ("https://ui.example.evil.com", 403),
        ):
            self.assertEqual(self.server.post(CHAT, BODY, headers={"origin": origin}).status, status, origin)

    def test_a_head_has_its_bounds(self):
        many = "".join(f"x-{number}: a\r\n" for number in range(120))
        for name, headers in {"too many headers": many, "too many bytes": f"x-long: {'a' * 70_000}\r\n"}.items():
            line = self.first_line(f"GET /health HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n".encode())
            self.assertRegex(line, " 4(00|31) ", name)
        self.assertEqual(self.server.get("/health").status, 200)

    def test_what_is_no_http_harms_nobody(self):
        for data in (
            b"\x16\x03\x01\x02\x00",
            b"GET / HTTP/9.9\r\n\r\n",
            b"\r\n" * 100,
            b"GET /health HTTP/1.1\r\nhost: a\nb\r\n\r\n",
        ):
            with self.server.socket(data) as connection:
                connection.shutdown(socket.SHUT_WR)
                connection.settimeout(5)
                connection.recv(4096)
        self.assertEqual(self.server.get("/health").status, 200)

    def test_idle_connections_leave_room_for_a_request(self):
        connections = [self.server.socket() for _ in range(300)]
        try:
            self.assertEqual(self.server.get("/health", timeout=5).status, 200)
        finally:
            for connection in connections:
                connection.close()


class Poison(unittest.TestCase):
    """A request that breaks the engine takes nobody with it."""

    def test_others_go_on(self):
        server = servers.scripted()
        greeting = {"messages": scripts.messages("greeting")}
        for name in ("error", "panic"):
            for stream in (False, True):
                with self.subTest(name, stream=stream):
                    body = {"messages": scripts.messages(name), "stream": stream}
                    calls = [lambda: server.post(CHAT, body)] + [lambda: server.post(CHAT, greeting)] * 4
                    bad, *good = servers.at_once(*calls)
                    self.assertEqual(bad.status, 200 if stream else 500)
                    self.assertEqual(
                        [a.json()["choices"][0]["message"]["content"] for a in good], [scripts.GREETING] * 4
                    )
                    self.assertTrue(server.idle())
                    self.assertEqual(server.health()["status"], "ok")


if __name__ == "__main__":
    unittest.main()
