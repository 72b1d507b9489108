"""What runs a server: models, health, metrics that add up, the API's document, the log."""

import datetime
import json
import unittest

import anthropic
import openai
import openapi_spec_validator
import servers

CHAT = "/v1/chat/completions"
CANARY = "canary7431"
ROUTES = (
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/responses",
    "/v1/messages",
    "/v1/messages/count_tokens",
    "/v1/models",
    "/api/chat",
    "/api/tags",
    "/api/version",
    "/health",
    "/status",
    "/",
    "/metrics",
    "/openapi.json",
)


class Models(unittest.TestCase):
    def test_one_list_serves_three_readers(self):
        server = servers.builtin()
        found = server.get("/v1/models").json()
        self.assertEqual((found["object"], found["has_more"]), ("list", False))
        self.assertIsInstance(found["models"], list)
        entry = found["data"][0]
        self.assertEqual((found["first_id"], found["last_id"]), (entry["id"], found["data"][-1]["id"]))
        self.assertEqual((entry["id"], entry["object"], entry["type"]), ("builtin", "model", "model"))
        self.assertTrue(entry["owned_by"] and entry["display_name"])
        self.assertEqual(entry["max_model_len"], 2048)
        created = datetime.datetime.fromisoformat(entry["created_at"].replace("Z", "+00:00"))
        self.assertEqual(int(created.timestamp()), entry["created"])
        self.assertEqual([model.id for model in server.openai().models.list()], ["builtin"])
        self.assertEqual([model.id for model in server.anthropic().models.list()], ["builtin"])

    def test_a_model_is_found_by_its_name(self):
        server = servers.builtin()
        self.assertEqual(server.openai().models.retrieve("builtin").id, "builtin")
        self.assertEqual(server.anthropic().models.retrieve("builtin").id, "builtin")
        self.assertRaises(openai.NotFoundError, server.openai().models.retrieve, "other")
        self.assertRaises(anthropic.NotFoundError, server.anthropic().models.retrieve, "other")

    def test_served_names_are_further_names(self):
        with servers.serve("--served-name", "org/name", "--served-name", "gpt-x") as server:
            for name in ("org/name", "gpt-x", "builtin"):
                answer = server.post("/v1/completions", {"model": name, "prompt": "a", "max_tokens": 1})
                self.assertEqual(answer.status, 200, name)
                self.assertEqual(server.get(f"/v1/models/{name}").status, 200, name)
            self.assertTrue(server.openai().models.retrieve("org/name"))
            self.assertEqual(server.post("/v1/completions", {"model": "gpt-y", "prompt": "a"}).status, 404)


class Health(unittest.TestCase):
    def test_it_says_what_is_served_and_what_runs(self):
        self.assertTrue(servers.builtin().idle())
        self.assertEqual(servers.builtin().health(), {"status": "ok", "model": "builtin", "running": 0, "queued": 0})


class Status(unittest.TestCase):
    def test_it_tells_what_the_page_shows(self):
        found = servers.builtin().get("/status").json()
        self.assertEqual((found["status"], found["model"]), ("ok", "builtin"))
        self.assertIn(found["device"]["kind"], ("cpu", "gpu"))
        self.assertGreater(found["memory_bytes"]["active"], 0)
        self.assertIn("prefixes", found["memory_bytes"])
        details = found["details"]
        self.assertEqual(details["verdict"], {"name": "verified", "text": "verified"})
        self.assertEqual((details["context"], details["prompt_mode"], details["chat"]), (2048, "raw", True))
        self.assertEqual((details["max_depth"], details["defaults"]["depth"]), (4, "auto"))
        self.assertEqual((details["defaults"]["temperature"], details["defaults"]["top_k"]), (0.6, 20))
        self.assertGreater(details["weight_bytes"], 10**6)

    def test_a_prompts_tokens_are_in_the_head(self):
        for stream in (False, True):
            answer = servers.builtin().post("/v1/completions", {"prompt": "for i in", "max_tokens": 2, "stream": stream})
            self.assertEqual(answer.headers["x-mtplx-prompt-tokens"], "3")


class Page(unittest.TestCase):
    def test_its_files_are_open_and_asked_for_once(self):
        with servers.serve("--api-key", "sesame") as server:
            answer = server.get("/")
            self.assertEqual((answer.status, answer.headers["content-type"]), (200, "text/html; charset=utf-8"))
            self.assertEqual(server.get("/page/app.js").status, 200)
            self.assertEqual(server.get("/page/none.js").status, 404)
            self.assertEqual(server.get("/status").status, 401)
            again = server.get("/", headers={"if-none-match": answer.headers["etag"]})
            self.assertEqual((again.status, again.body), (304, b""))
            self.assertEqual(server.get("/", headers={"host": "evil.example"}).status, 403)


class Metrics(unittest.TestCase):
    def test_counters_are_the_sums_over_the_answers(self):
        server = servers.builtin()
        self.assertTrue(server.idle())
        before = server.metrics()
        user = [{"role": "user", "content": "Write a loop"}]
        bodies = [
            (CHAT, {"messages": user, "max_tokens": 9}),
            (CHAT, {"messages": user, "max_tokens": 9, "mtp": {"enabled": False}}),
            ("/v1/completions", {"prompt": ["a b", "for i in"], "max_tokens": 7}),
            ("/v1/messages", {"model": "claude-x", "messages": user, "max_tokens": 8}),
            ("/v1/responses", {"input": "Write a loop", "max_output_tokens": 6}),
            ("/api/chat", {"messages": user, "stream": False, "options": {"num_predict": 5}}),
        ]
        answers = servers.at_once(*(lambda r=route, b=body: server.post(r, b) for route, body in bodies))
        streamed = server.post(
            CHAT, {"messages": user, "max_tokens": 9, "stream": True, "stream_options": {"include_usage": True}}
        )
        refused = server.post(CHAT, {"messages": user, "model": "x"})
        self.assertEqual(refused.status, 404)
        documents = [answer.json() for answer in answers]
        chunks = [data for _, data in streamed.frames() if isinstance(data, dict)]
        documents.append({"timings": next(chunk["timings"] for chunk in chunks if "timings" in chunk)})
        timings = [
            choice["timings"] for document in documents for choice in document.get("choices", []) if "timings" in choice
        ]
        timings += [document["timings"] for document in documents if "timings" in document]
        self.assertEqual(len(timings), 8)
        self.assertTrue(server.idle())
        after = server.metrics()
        grown = lambda name: after.get(name, 0) - before.get(name, 0)
        for name, key in (
            ("prompt", "prompt_tokens"),
            ("generated", "completion_tokens"),
            ("cached_prompt", "cached_tokens"),
        ):
            self.assertEqual(grown(f"mtplx_{name}_tokens_total"), sum(t[key] for t in timings), name)
        for name in ("drafted", "accepted"):
            for place in range(8):
                expected = sum(t[name][place] for t in timings if place < len(t[name]))
                self.assertEqual(grown(f'mtplx_{name}_tokens_total{{position="{place + 1}"}}'), expected, (name, place))
        for route, status, count in ((CHAT, 200, 3), (CHAT, 404, 1), ("/v1/messages", 200, 1), ("/api/chat", 200, 1)):
            self.assertEqual(grown(f'mtplx_requests_total{{route="{route}",status="{status}"}}'), count)
        self.assertEqual(grown("mtplx_time_to_first_token_seconds_count"), 8)
        self.assertEqual((after["mtplx_requests_running"], after["mtplx_requests_queued"]), (0, 0))

    def test_every_metric_is_there(self):
        servers.builtin().post("/v1/completions", {"prompt": "a", "max_tokens": 4})
        text = servers.builtin().get("/metrics").text
        for name in (
            "prompt_tokens_total",
            "generated_tokens_total",
            "cached_prompt_tokens_total",
            "requests_total",
            "requests_running",
            "requests_queued",
            "drafted_tokens_total",
            "accepted_tokens_total",
            "time_to_first_token_seconds_bucket",
            "inter_token_seconds_bucket",
            "memory_bytes{kind=",
        ):
            self.assertIn(f"\nmtplx_{name}", text)


class Document(unittest.TestCase):
    def test_it_is_valid_and_has_every_route(self):
        document = servers.builtin().get("/openapi.json").json()
        openapi_spec_validator.validate(document)
        for route in ROUTES:
            self.assertIn(route, document["paths"])
        self.assertTrue(any(path.startswith("/v1/models/{") for path in document["paths"]))


class Log(unittest.TestCase):
    def test_a_line_a_request_without_texts(self):
        for form in ("text", "json"):
            with self.subTest(form), servers.serve("--log-format", form) as server:
                begun = len(server.lines)
                server.post(CHAT, {"messages": [{"role": "user", "content": CANARY}], "max_tokens": 3})
                server.post(CHAT, {"messages": [{"role": "user", "content": CANARY}], "max_tokens": "x"})
                server.get("/nothing%0afake%1b[31m")
                # A control character in what a client sends starts no line of its own.
                server.post(CHAT, {"messages": [], "model": "a\n2026-01-01 fake \x1b[31m"})
                servers.wait_until(
                    lambda: len([line for line in server.lines[begun:] if "/health" not in line]) >= 4, 3
                )
                lines = [line for line in server.lines[begun:] if "/health" not in line]
                self.assertEqual(len(lines), 4, lines)
                self.assertNotIn(CANARY, "\n".join(lines))
                self.assertNotIn("\x1b", "\n".join(lines))
                self.assertIn("200", lines[0])
                for line in lines if form == "json" else ():
                    self.assertIsInstance(json.loads(line), dict)


if __name__ == "__main__":
    unittest.main()
