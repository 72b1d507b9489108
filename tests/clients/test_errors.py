"""Errors in the words of each dialect: status, body, `param`; known before the stream, and never asked for again."""

import json
import unittest

import anthropic
import openai
import servers

USER = [{"role": "user", "content": "hi"}]
CHAT, COMPLETIONS, RESPONSES = "/v1/chat/completions", "/v1/completions", "/v1/responses"
MESSAGES, COUNT, OLLAMA = "/v1/messages", "/v1/messages/count_tokens", "/api/chat"
VALID = {
    CHAT: {"messages": USER, "max_tokens": 2},
    COMPLETIONS: {"prompt": "a", "max_tokens": 2},
    RESPONSES: {"input": "hi", "max_output_tokens": 2},
    MESSAGES: {"model": "claude-x", "messages": USER, "max_tokens": 2},
    COUNT: {"model": "claude-x", "messages": USER},
    OLLAMA: {"messages": USER, "options": {"num_predict": 2}},
}
OPENAI = (CHAT, COMPLETIONS, RESPONSES)
ANTHROPIC = (MESSAGES, COUNT)


def post(route, body=None, **fields):
    return servers.builtin().post(route, {**VALID[route], **fields} if body is None else body)


class Shapes(unittest.TestCase):
    def check(self, route, answer, status, kind=None):
        self.assertEqual(answer.status, status, answer.text)
        self.assertEqual(answer.headers["x-should-retry"], "false")
        self.assertTrue(answer.headers["content-type"].startswith("application/json"))
        body = answer.json()
        if route in OPENAI:
            self.assertEqual(set(body["error"]), {"message", "type", "param", "code"})
        elif route in ANTHROPIC:
            self.assertEqual((set(body), body["type"]), ({"type", "error", "request_id"}, "error"))
            self.assertEqual(body["request_id"], answer.headers["request-id"])
            self.assertEqual(body["error"]["type"], kind or "invalid_request_error")
            self.assertTrue(body["error"]["message"])
        else:
            self.assertIsInstance(body["error"], str)
        return body

    def test_valid_requests_are_answered(self):
        for route in VALID:
            self.assertEqual(post(route).status, 200, route)

    def test_an_unknown_model_is_not_found(self):
        for route in VALID:
            with self.subTest(route):
                body = self.check(route, post(route, model="gpt-x"), 404, "not_found_error")
                if route in OPENAI:
                    self.assertEqual(body["error"]["code"], "model_not_found")
                self.assertIn("gpt-x", json.dumps(body))
        self.assertEqual(post(CHAT, model="claude-x").status, 404)

    def test_bodies_that_are_no_request_are_refused(self):
        bodies = (
            b"",
            b"{",
            b"[]",
            b"null",
            b'"a"',
            b"\xff\xfe",
            b'{"a": NaN}',
            b'{"a": 1e400}',
            b'{"a": 1,}',
            b"{} {}",
        )
        for route in VALID:
            for body in bodies:
                with self.subTest(route, body=body):
                    self.check(route, post(route, body), 400)

    def test_a_wrong_field_is_named(self):
        user = lambda content: [{"role": "user", "content": content}]
        common = {
            "temperature": ({"temperature": -1}, {"temperature": "1"}, {"temperature": 1000}),
            "top_p": ({"top_p": 0}, {"top_p": 1.5}),
            "stream": ({"stream": "yes"},),
        }
        sampler = {
            "top_k": ({"top_k": 1.5},),
            "min_p": ({"min_p": -0.1}, {"min_p": 2}),
            "seed": ({"seed": 2**64}, {"seed": 1.5}, {"seed": "7"}),
            "presence_penalty": ({"presence_penalty": 3},),
            "frequency_penalty": ({"frequency_penalty": -3},),
            "repetition_penalty": ({"repetition_penalty": -1},),
            "ignore_eos": ({"ignore_eos": 1},),
            "logit_bias": (
                {"logit_bias": {"x": 1}},
                {"logit_bias": [1]},
                {"logit_bias": {str(i): 0 for i in range(4097)}},
            ),
            "logit_bias.5": ({"logit_bias": {"5": 101}}, {"logit_bias": {"5": "1"}}),
            "max_thinking_tokens": ({"max_thinking_tokens": -1}, {"max_thinking_tokens": "5"}),
        }
        stops = {"stop": ({"stop": 5}, {"stop": ["a"] * 65}), "stop[1]": ({"stop": ["a", 5]},)}
        limit = {"max_tokens": ({"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": 1.5}, {"max_tokens": "2"})}
        wrong = {
            CHAT: common
            | sampler
            | stops
            | limit
            | {
                "messages": ({"messages": None}, {"messages": "hi"}, {"messages": []}),
                "messages[0]": ({"messages": ["hi"]},),
                "messages[0].role": (
                    {"messages": [{"content": "hi"}]},
                    {"messages": [{"role": "wizard", "content": "hi"}]},
                ),
                "messages[0].content": ({"messages": user(5)},),
                "messages[0].content[0].text": ({"messages": user([{"type": "text", "text": 5}])},),
                "messages[1].content": ({"messages": [*USER, {"role": "user", "content": {"a": 1}}]},),
                "top_logprobs": ({"logprobs": True, "top_logprobs": 21},),
                "tools": ({"tools": {}},),
                "tools[0].function.name": ({"tools": [{"type": "function", "function": {}}]},),
                "tool_choice": ({"tool_choice": "maybe"},),
                "stream_options": ({"stream": True, "stream_options": 1},),
            },
            COMPLETIONS: common
            | sampler
            | stops
            | limit
            | {
                "prompt": ({"prompt": None}, {"prompt": 5}, {"prompt": []}, {"prompt": ""}, {"prompt": [4096]}),
                "prompt[1]": ({"prompt": [1, -1]}, {"prompt": ["a", 5]}),
                "logprobs": ({"logprobs": 21}, {"logprobs": True}),
            },
            RESPONSES: common
            | sampler
            | {
                "input": ({"input": None}, {"input": 5}),
                "max_output_tokens": ({"max_output_tokens": 0},),
                "input[0].content": ({"input": user(5)},),
            },
            MESSAGES: common
            | {
                "max_tokens": ({"max_tokens": -1}, {"max_tokens": 1.5}, {"max_tokens": "2"}),
                "messages": ({"messages": None}, {"messages": "hi"}),
                "messages[0].content": ({"messages": user(5)},),
                "stop_sequences": ({"stop_sequences": 5},),
                "thinking.budget_tokens": ({"thinking": {"type": "enabled", "budget_tokens": -1}},),
            },
            OLLAMA: {
                "messages": ({"messages": "hi"},),
                "options.temperature": ({"options": {"temperature": -1}},),
                "options.seed": ({"options": {"seed": 1.5}},),
            },
        }
        for route, params in wrong.items():
            for param, requests in params.items():
                for fields in requests:
                    with self.subTest(route, fields=str(fields)[:80]):
                        body = self.check(route, post(route, **fields), 400)
                        if route in OPENAI:
                            self.assertTrue(body["error"]["param"].startswith(param), body["error"]["param"])
                        else:
                            self.assertIn(param, json.dumps(body))

    def test_what_is_not_supported_yet_is_named(self):
        schema = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object"}}}
        tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
        named = {"type": "function", "function": {"name": "f"}}
        image = {"type": "image_url", "image_url": {"url": "http://127.0.0.1:9/a.png"}}
        block = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "AAAA"}}
        user = lambda *parts: [{"role": "user", "content": [{"type": "text", "text": "a"}, *parts]}]
        messages_tool = {"name": "f", "input_schema": {"type": "object"}}
        wrong = {
            CHAT: {
                "n": ({"n": 2},),
                "response_format": ({"response_format": schema}, {"response_format": {"type": "json_object"}}),
                "tool_choice": ({"tools": [tool], "tool_choice": "required"}, {"tools": [tool], "tool_choice": named}),
                "structured_outputs": ({"structured_outputs": {"regex": "a"}},),
                "messages[0].content[1]": (
                    {"messages": user(image)},
                    {"messages": user({"type": "input_audio", "input_audio": {"data": "", "format": "wav"}})},
                ),
            },
            COMPLETIONS: {"n": ({"n": 2},), "structured_outputs": ({"structured_outputs": {"choice": ["a"]}},)},
            RESPONSES: {
                "text.format": ({"text": {"format": {"type": "json_schema", "name": "a", "schema": {}}}},),
                "tool_choice": ({"tool_choice": "required"},),
                "input[0].content[1]": ({"input": user({"type": "input_image", "image_url": "file:///etc/passwd"})},),
            },
            MESSAGES: {
                "tool_choice": (
                    {"tools": [messages_tool], "tool_choice": {"type": "any"}},
                    {"tools": [messages_tool], "tool_choice": {"type": "tool", "name": "f"}},
                ),
                "output_config.format": ({"output_config": {"format": {"type": "json_schema", "schema": {}}}},),
                "messages[0].content[1]": ({"messages": user(block)},),
            },
            OLLAMA: {
                "format": ({"format": "json"}, {"format": {"type": "object"}}),
                "messages[0].images": ({"messages": [{"role": "user", "content": "a", "images": ["AAAA"]}]},),
            },
        }
        for route, params in wrong.items():
            for param, requests in params.items():
                for fields in requests:
                    with self.subTest(route, fields=str(fields)[:80]):
                        body = self.check(route, post(route, **fields), 400)
                        if route in OPENAI:
                            self.assertTrue(body["error"]["param"].startswith(param), body["error"]["param"])
                        else:
                            self.assertIn(param, json.dumps(body))

    def test_lone_surrogates_are_refused(self):
        bodies = {
            CHAT: b'{"messages": [{"role": "user", "content": "a\\ud800b"}]}',
            COMPLETIONS: b'{"prompt": "\\udc00"}',
            MESSAGES: b'{"model": "claude-x", "max_tokens": 2, "messages": [{"role": "user", "content": "\\ud83d"}]}',
            RESPONSES: b'{"input": "\\ud83d\\u0041"}',
            OLLAMA: b'{"messages": [{"role": "user", "content": "\\ud800"}]}',
        }
        for route, body in bodies.items():
            with self.subTest(route):
                self.check(route, post(route, body), 400)
        self.assertEqual(post(COMPLETIONS, b'{"prompt": "\\ud83d\\ude00", "max_tokens": 1}').status, 200)

    def test_json_that_is_too_deep_is_refused(self):
        nested = lambda depth: b'{"prompt": "a", "max_tokens": 1, "x": ' + b"[" * depth + b"]" * depth + b"}"
        self.assertEqual(post(COMPLETIONS, nested(120)).status, 200)
        for body in (nested(129), nested(100_000), b"[" * 100_000, b'{"a":' * 100_000):
            self.check(COMPLETIONS, post(COMPLETIONS, body), 400)
        self.assertEqual(post(COMPLETIONS).status, 200)

    def test_unknown_routes_and_methods_are_named(self):
        server = servers.builtin()
        for method, path, status in (
            ("GET", "/v1/nothing", 404),
            ("POST", "/v1/embeddings", 404),
            ("GET", CHAT, 405),
            ("DELETE", MESSAGES, 405),
        ):
            with self.subTest(path):
                answer = server.send(method, path, {} if method == "POST" else None)
                self.assertEqual(answer.status, status)
                self.assertIn("error", answer.json())

    def test_wrong_requests_are_refused_before_the_stream(self):
        for route in VALID:
            if route != COUNT:
                with self.subTest(route):
                    answer = post(route, stream=True, model="gpt-x")
                    self.assertEqual((answer.status, answer.headers["content-type"]), (404, "application/json"))


class Nothing(unittest.TestCase):
    def test_a_message_of_no_tokens_has_none(self):
        # Anthropic's documents: 0 reads the prompt and generates no response.
        answer = post(MESSAGES, max_tokens=0)
        if answer.status != 400:
            self.assertEqual((answer.status, answer.json()["usage"]["output_tokens"]), (200, 0), answer.text)
            self.assertEqual(answer.json()["content"], [])


class Context(unittest.TestCase):
    LONG = "word " * 4000

    def test_a_prompt_beyond_the_context_is_refused_in_the_words_agents_look_for(self):
        user = [{"role": "user", "content": self.LONG}]
        for route, fields in {
            CHAT: {"messages": user},
            COMPLETIONS: {"prompt": [5] * 2048},
            RESPONSES: {"input": self.LONG},
            MESSAGES: {"messages": user},
        }.items():
            for stream in (False, True):
                with self.subTest(route, stream=stream):
                    answer = post(route, stream=stream, **fields)
                    self.assertEqual(answer.status, 400, answer.text)
                    error = answer.json()["error"]
                    if route == MESSAGES:
                        self.assertRegex(error["message"], r"^prompt is too long: \d+ tokens > 2048 maximum")
                    else:
                        self.assertEqual(error["code"], "context_length_exceeded")

    def test_counting_has_no_limit(self):
        answer = post(COUNT, messages=[{"role": "user", "content": self.LONG}])
        self.assertGreater(answer.json()["input_tokens"], 2048)

    def test_clients_have_their_class_for_it(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            servers.builtin().openai().completions.create(model="builtin", prompt=[5] * 3000)
        self.assertEqual(caught.exception.code, "context_length_exceeded")


class Retries(unittest.TestCase):
    """A request's own fault is asked for once."""

    def test_clients_send_no_faulty_request_twice(self):
        server = servers.builtin()
        first, second = server.openai(max_retries=2), server.anthropic(max_retries=2)
        cases = (
            (CHAT, 404, openai.NotFoundError, lambda: first.chat.completions.create(model="x", messages=USER)),
            (CHAT, 400, openai.BadRequestError, lambda: first.chat.completions.create(model="builtin", messages=[])),
            (
                COMPLETIONS,
                400,
                openai.BadRequestError,
                lambda: first.completions.create(model="builtin", prompt=[5] * 3000),
            ),
            (
                RESPONSES,
                400,
                openai.BadRequestError,
                lambda: first.responses.create(model="builtin", input="a", temperature=-1),
            ),
            (
                MESSAGES,
                400,
                anthropic.BadRequestError,
                lambda: second.messages.create(model="claude-x", max_tokens=-1, messages=USER),
            ),
            (
                MESSAGES,
                404,
                anthropic.NotFoundError,
                lambda: second.messages.create(model="x", max_tokens=1, messages=USER),
            ),
        )
        for route, status, kind, call in cases:
            with self.subTest(route, status=status):
                before = server.requests(route, status)
                self.assertRaises(kind, call)
                self.assertEqual(server.requests(route, status), before + 1)


class RequestIds(unittest.TestCase):
    def test_every_answer_has_one_under_both_names(self):
        server, seen = servers.builtin(), set()
        for answer in (
            server.get("/health"),
            server.get("/v1/models"),
            server.get("/nothing"),
            post(CHAT),
            post(MESSAGES),
            post(MESSAGES, model="x"),
            post(OLLAMA),
            post(CHAT, b"{"),
            post(CHAT, stream=True),
            post(RESPONSES, input=None),
            server.post(CHAT, "a", headers={"content-type": "text/plain"}),
            server.get("/health", headers={"host": "evil.com"}),
        ):
            self.assertEqual(answer.headers["x-request-id"], answer.headers["request-id"])
            seen.add(answer.headers["request-id"])
        self.assertEqual(len(seen), 12)

    def test_clients_find_it(self):
        chat = servers.builtin().openai().chat.completions.create(model="builtin", messages=USER, max_tokens=1)
        message = servers.builtin().anthropic().messages.create(model="claude-x", messages=USER, max_tokens=1)
        self.assertTrue(chat._request_id and message._request_id)


if __name__ == "__main__":
    unittest.main()
