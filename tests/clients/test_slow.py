"""What takes its time: silence in a long prompt, heads and bodies that never end, the server's own budget.

`begin` starts it all beside the other tests.
"""

import json
import shutil
import tempfile
import threading
import time
import unittest
from pathlib import Path

import scripts
import servers

CHAT = "/v1/chat/completions"
HEAD = f"POST {CHAT} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n"
RESULTS, THREADS = {}, {}


def begin():
    for name, work in (
        ("head", lambda: closed(HEAD)),
        ("body", lambda: closed(f"{HEAD}content-length: 100\r\n\r\n{{")),
        ("silence", silence),
    ):
        THREADS[name] = threading.Thread(target=lambda n=name, w=work: RESULTS.setdefault(n, attempt(w)), daemon=True)
    # Started before the threads ask for it: `servers.shared` knows no threads.
    servers.builtin()
    for thread in THREADS.values():
        thread.start()


def attempt(work):
    try:
        return work()
    except Exception as error:
        return error


def result(name):
    THREADS[name].join(60)
    found = RESULTS.get(name)
    if isinstance(found, Exception) or found is None:
        raise found or TimeoutError(name)
    return found


def closed(data):
    """Seconds until a connection on which nothing more is sent is closed, and what was read of it."""
    begun, read = time.monotonic(), b""
    with servers.builtin().socket(data.encode()) as connection:
        while piece := connection.recv(4096):
            read += piece
    return time.monotonic() - begun, read


def silence():
    """Frames of three streams whose prompts take a long time, each with its second."""
    text = "case:greeting please " + "word " * 6000
    user = [{"role": "user", "content": text}]
    bodies = {
        CHAT: {"messages": user},
        "/v1/messages": {"model": "claude-x", "messages": user, "max_tokens": 5},
        "/v1/responses": {"input": text},
    }

    def follow(route):
        found = []
        with servers.script({"context": 32768, "chunk_ms": 1000, "replies": scripts.REPLIES}) as server:
            # The rate is known once a prompt was read.
            server.post(CHAT, {"messages": [{"role": "user", "content": "word " * 500}]})
            begun = time.monotonic()
            connection = server.raw(route, {**bodies[route], "stream": True})
            while piece := connection.recv(65536):
                found.append((time.monotonic() - begun, piece.decode()))
                if piece.endswith(b"0\r\n\r\n"):
                    break
            return found, list(server.lines)

    return dict(zip(bodies, servers.at_once(*(lambda r=route: follow(r) for route in bodies))))


class Silence(unittest.TestCase):
    """A prompt of a dozen chunks, each of which takes a second."""

    def test_the_first_event_comes_at_once(self):
        first = {CHAT: '"role":"assistant"', "/v1/messages": "message_start", "/v1/responses": "response.created"}
        for route, words in first.items():
            begun = next(second for second, text in result("silence")[route][0] if words in text)
            self.assertLess(begun, 2, route)

    def test_the_dialects_sign_of_life_comes_every_ten_seconds(self):
        signs = {CHAT: "\n:", "/v1/messages": "event: ping", "/v1/responses": "event: response.in_progress"}
        for route, words in signs.items():
            seconds = [second for second, text in result("silence")[route][0]]
            self.assertGreater(seconds[-1], 11, "the prompt took too little time to tell")
            found = [
                second for second, text in result("silence")[route][0] if words in text.replace("\r", "") and second > 5
            ]
            self.assertTrue(found, route)
            self.assertTrue(8 < found[0] < 13, found)
            self.assertLess(max(b - a for a, b in zip(seconds, seconds[1:])), 13, route)

    def test_a_long_prompt_is_announced_with_an_estimate(self):
        lines = [line for line in result("silence")[CHAT][1] if line.startswith("LongPrompt")]
        self.assertTrue(lines)
        for word in ("tokens: ", "rate: ", "estimate: "):
            self.assertIn(word, lines[0])


class Unfinished(unittest.TestCase):
    def test_a_head_has_fifteen_seconds(self):
        seconds, _ = result("head")
        self.assertTrue(13 < seconds < 20, seconds)

    def test_a_body_has_thirty_seconds(self):
        seconds, read = result("body")
        self.assertTrue(28 < seconds < 40, seconds)
        self.assertTrue(not read or b" 408 " in read.split(b"\r\n")[0], read)


class ThinkBudget(unittest.TestCase):
    """`--think-budget`, with the built-in model behind a template that opens `<think>`."""

    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="mtplx-thinking-"))
        model = cls.folder / "model"
        shutil.copytree(servers.BUILTIN, model)
        settings = json.loads((model / "tokenizer_config.json").read_text())
        settings["chat_template"] = settings["chat_template"].replace(
            "<think>\n\n</think>\n\n",
            "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n"
            "{% else %}<think>\n{% endif %}",
        )
        (model / "tokenizer_config.json").write_text(json.dumps(settings))
        cls.server = servers.serve("--model", str(model), "--allow-unverified", "--think-budget", "6")

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        shutil.rmtree(cls.folder)

    def ask(self, **fields):
        body = {
            "messages": [{"role": "user", "content": "add two numbers"}],
            "max_tokens": 50,
            "temperature": 0,
            "ignore_eos": True,
        }
        return self.server.post(CHAT, {**body, **fields}).json()

    def test_it_is_for_all_and_a_request_may_state_its_own(self):
        for fields, budget in (({}, 6), ({"max_thinking_tokens": 3}, 3), ({"max_thinking_tokens": 12}, 12)):
            with self.subTest(fields):
                answer = self.ask(**fields)
                usage, message = answer["usage"], answer["choices"][0]["message"]
                self.assertTrue(usage["thinking_budget_reached"])
                self.assertTrue(message["reasoning_content"])
                self.assertTrue(message["content"])
                reasoning = usage["completion_tokens_details"]["reasoning_tokens"]
                self.assertTrue(budget <= reasoning <= budget + 25, reasoning)

    def test_reasoning_up_to_the_budget_is_that_without_one(self):
        bound, free = self.ask(), self.ask(max_thinking_tokens=100)
        bound, free = (answer["choices"][0]["message"]["reasoning_content"] for answer in (bound, free))
        self.assertEqual(bound[:8], free[:8])

    def test_coupled_text_with_a_budget_is_the_same_at_every_depth(self):
        fields = {"temperature": 1, "seed": 4}
        plain = self.ask(**fields, mtp={"acceptance": "coupled", "enabled": False})["choices"][0]["message"]
        for depth in (1, 4):
            drafted = self.ask(**fields, mtp={"acceptance": "coupled", "depth": depth})["choices"][0]["message"]
            self.assertEqual(
                (drafted["reasoning_content"], drafted["content"]), (plain["reasoning_content"], plain["content"])
            )


if __name__ == "__main__":
    unittest.main()
