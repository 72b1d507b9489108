"""Ollama's routes through its client: a chat over the same engine, the list of models, the version."""

import json
import unittest

import folds
import ollama
import scripts
import servers

USER = [{"role": "user", "content": "Write a function that adds two numbers"}]


def chat(name, **fields):
    return servers.scripted().ollama().chat(**{"model": "scripted", "messages": scripts.messages(name), **fields})


class Chat(unittest.TestCase):
    def test_text_thinking_and_counts_are_apart(self):
        answer = chat("greeting")
        self.assertEqual((answer.model, answer.done, answer.done_reason), ("scripted", True, "stop"))
        self.assertEqual((answer.message.role, answer.message.content), ("assistant", scripts.GREETING))
        self.assertEqual(answer.message.thinking.strip(), scripts.THOUGHT)
        for duration in (answer.total_duration, answer.prompt_eval_duration, answer.eval_duration):
            self.assertIsInstance(duration, int)
        # Nanoseconds: no answer takes less than a thousandth of a millisecond.
        self.assertGreater(answer.total_duration, 1000)
        usage = (
            servers.scripted()
            .openai()
            .chat.completions.create(model="scripted", messages=scripts.messages("greeting"))
            .usage
        )
        self.assertEqual((answer.prompt_eval_count, answer.eval_count), (usage.prompt_tokens, usage.completion_tokens))

    def test_think_switches_thinking(self):
        self.assertFalse(chat("greeting", think=False).message.thinking)
        self.assertTrue(chat("greeting", think=True).message.thinking)

    def test_whole_answer_is_the_fold_of_the_stream(self):
        for name in ("greeting", "one", "two", "say-and-call", "malformed", "types"):
            with self.subTest(name):
                body = {"messages": scripts.messages(name), "tools": scripts.chat_tools()}
                server = servers.scripted()
                lines = [json.loads(line) for line in server.post("/api/chat", body).text.splitlines()]
                whole = server.post("/api/chat", {**body, "stream": False}).json()
                self.assertEqual(folds.stable(folds.ollama(lines)), folds.stable(whole))
                self.assertEqual([line["done"] for line in lines], [False] * (len(lines) - 1) + [True])

    def test_a_line_is_an_object_unless_the_answer_is_whole(self):
        server = servers.scripted()
        answer = server.post("/api/chat", {"messages": scripts.messages("greeting")})
        self.assertIn("ndjson", answer.headers["content-type"])
        self.assertGreater(len(answer.text.splitlines()), 3)
        whole = server.post("/api/chat", {"messages": scripts.messages("greeting"), "stream": False})
        self.assertTrue(whole.headers["content-type"].startswith("application/json"))

    def test_client_reads_the_stream(self):
        found = list(chat("greeting", stream=True))
        self.assertEqual("".join(part.message.content or "" for part in found), scripts.GREETING)
        self.assertEqual("".join(part.message.thinking or "" for part in found).strip(), scripts.THOUGHT)
        self.assertEqual(found[-1].done_reason, "stop")

    def test_arguments_are_a_mapping(self):
        calls = chat("two", tools=scripts.chat_tools()).message.tool_calls
        self.assertEqual(
            [(call.function.name, dict(call.function.arguments)) for call in calls],
            [("read_file", {"path": "src/main.rs", "limit": 5}), ("read_file", {"path": "Cargo.toml"})],
        )
        calls = chat("types", tools=scripts.chat_tools()).message.tool_calls
        self.assertEqual(dict(calls[0].function.arguments), scripts.EVERY_VALUE)

    def test_a_task_is_done_over_two_turns(self):
        messages = [{"role": "user", "content": "case:task please"}]
        messages.append(chat("", messages=messages, tools=scripts.chat_tools()).message)
        messages.append({"role": "tool", "tool_name": "read_file", "content": "fn main() {}"})
        answer = chat("", messages=messages, tools=scripts.chat_tools())
        self.assertEqual(answer.message.content, "The file has a main function.")

    def test_options_are_those_of_the_other_routes(self):
        client, openai = servers.builtin().ollama(), servers.builtin().openai()
        for options, fields in (
            ({"temperature": 0, "num_predict": 12}, {"temperature": 0, "max_tokens": 12}),
            (
                {"temperature": 0, "num_predict": 24, "stop": ["\n"]},
                {"temperature": 0, "max_tokens": 24, "stop": ["\n"]},
            ),
            (
                {"temperature": 1, "top_p": 0.9, "top_k": 30, "seed": 5, "num_predict": 12},
                {"temperature": 1, "top_p": 0.9, "seed": 5, "max_tokens": 12, "extra_body": {"top_k": 30}},
            ),
        ):
            with self.subTest(options):
                answer = client.chat(model="builtin", messages=USER, options=options)
                expected = openai.chat.completions.create(model="builtin", messages=USER, **fields)
                self.assertEqual(answer.message.content, expected.choices[0].message.content)
                self.assertEqual(answer.done_reason, expected.choices[0].finish_reason)

    def test_own_fields_work_here_too(self):
        body = {"messages": scripts.messages("ponder"), "stream": False, "max_thinking_tokens": 12}
        answer = servers.scripted().post("/api/chat", body).json()
        self.assertTrue(answer["thinking_budget_reached"])
        self.assertLess(len(answer["message"]["thinking"]), 200)
        self.assertIn("accepted", answer["timings"])

    def test_errors_are_ollamas(self):
        with self.assertRaises(ollama.ResponseError) as caught:
            chat("greeting", model="other")
        self.assertEqual(caught.exception.status_code, 404)
        answer = servers.builtin().post("/api/chat", {"messages": [{"role": "user", "content": "word " * 3000}]})
        self.assertEqual(answer.status, 400)
        self.assertIsInstance(answer.json()["error"], str)

    def test_an_error_in_mid_stream_is_the_last_line(self):
        lines = servers.scripted().post("/api/chat", {"messages": scripts.messages("error")}).text.splitlines()
        self.assertIn("error", json.loads(lines[-1]))


class Models(unittest.TestCase):
    def test_tags_list_the_served_model(self):
        models = servers.builtin().ollama().list().models
        self.assertEqual([model.model for model in models], ["builtin"])
        self.assertGreater(models[0].size, 0)

    def test_version_is_a_version(self):
        version = servers.builtin().get("/api/version").json()["version"]
        self.assertRegex(version, r"^\d+\.\d+\.\d+")

    def test_the_rest_of_the_api_names_v1(self):
        for path in ("/api/generate", "/api/pull", "/api/show", "/api/embed"):
            with self.subTest(path):
                answer = servers.builtin().post(path, {"model": "builtin"})
                self.assertEqual(answer.status, 404)
                self.assertIn("/v1", answer.text)
        self.assertEqual(servers.builtin().get("/api/ps").status, 404)


if __name__ == "__main__":
    unittest.main()
