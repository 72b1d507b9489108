"""Tool calls on `/v1/chat/completions`: parsed as they stream, malformed ones as text, none of them lost."""

import json
import unittest

import folds
import scripts
import servers


def chat(name, **fields):
    fields = {"model": "scripted", "messages": scripts.messages(name), "tools": scripts.chat_tools(), **fields}
    return servers.scripted().openai().chat.completions.create(**fields)


def calls(message):
    return [(call.function.name, json.loads(call.function.arguments)) for call in message.tool_calls or []]


READ = ("read_file", {"path": "src/main.rs", "limit": 5})
READ_SECOND = ("read_file", {"path": "Cargo.toml"})


class Calls(unittest.TestCase):
    def test_calls_come_apart_from_text_and_reasoning(self):
        cases = {
            "one": ([READ], ""),
            "two": ([READ, READ_SECOND], ""),
            "say-and-call": ([READ], "I will read it now."),
            "early": ([READ], ""),
            "types": ([("every_type", scripts.EVERY_VALUE)], ""),
            "awkward": ([("read_file", {"path": scripts.AWKWARD})], ""),
        }
        for name, (expected, text) in cases.items():
            with self.subTest(name):
                choice = chat(name).choices[0]
                self.assertEqual(calls(choice.message), expected)
                self.assertEqual((choice.message.content or "").strip(), text)
                self.assertEqual(choice.finish_reason, "tool_calls")
                self.assertTrue(choice.message.model_extra["reasoning_content"].strip())
                ids = [call.id for call in choice.message.tool_calls]
                self.assertEqual(len(set(ids)), len(expected))
                self.assertTrue(all(call.type == "function" for call in choice.message.tool_calls))

    def test_arguments_keep_the_order_in_which_they_were_written(self):
        arguments = chat("types").choices[0].message.tool_calls[0].function.arguments
        self.assertEqual(list(json.loads(arguments)), list(scripts.EVERY_VALUE))

    def test_first_delta_of_a_call_names_it_and_the_rest_are_arguments(self):
        found = [
            delta
            for chunk in chat("two", stream=True)
            for delta in chunk.to_dict()["choices"][0]["delta"].get("tool_calls", [])
        ]
        self.assertEqual([delta["index"] for delta in found], sorted(delta["index"] for delta in found))
        for index in (0, 1):
            first, *rest = [delta for delta in found if delta["index"] == index]
            self.assertEqual(set(first), {"index", "id", "type", "function"})
            self.assertEqual(first["function"], {"name": "read_file", "arguments": ""})
            self.assertTrue(rest)
            for delta in rest:
                self.assertEqual(set(delta), {"index", "function"})
                self.assertEqual(set(delta["function"]), {"arguments"})

    def test_arguments_come_as_they_are_written(self):
        deltas = [chunk.choices[0].delta.tool_calls for chunk in chat("long-call", stream=True)]
        self.assertGreater(len([delta for delta in deltas if delta]), 50)

    def test_a_malformed_call_comes_back_as_text(self):
        for stream in (False, True):
            with self.subTest(stream=stream):
                answer = chat("malformed", stream=stream)
                choice = (
                    folds.chat(c.to_dict() for c in answer)["choices"][0] if stream else answer.to_dict()["choices"][0]
                )
                self.assertEqual(choice["message"]["content"].strip(), scripts.MALFORMED)
                self.assertFalse(choice["message"].get("tool_calls"))
                self.assertEqual(choice["finish_reason"], "stop")

    def test_a_call_cut_by_the_limit_ends_with_length(self):
        for stream in (False, True):
            with self.subTest(stream=stream):
                answer = chat("long-call", stream=stream, max_tokens=60)
                choice = (
                    folds.chat(c.to_dict() for c in answer)["choices"][0] if stream else answer.to_dict()["choices"][0]
                )
                self.assertEqual(choice["finish_reason"], "length")
                call = choice["message"]["tool_calls"][0]["function"]
                self.assertEqual(call["name"], "read_file")
                self.assertIn("directory/", call["arguments"])

    def test_markup_without_tools_is_text(self):
        for name, fields in {
            "no tools": {"tools": None},
            "empty list": {"tools": []},
            "none": {"tool_choice": "none"},
        }.items():
            with self.subTest(name):
                body = {"messages": scripts.messages("one"), "tools": scripts.chat_tools(), **fields}
                choice = servers.scripted().post("/v1/chat/completions", body).json()["choices"][0]
                self.assertFalse(choice["message"].get("tool_calls"))
                self.assertEqual(choice["message"]["content"].strip(), scripts.READ)
                self.assertEqual(choice["finish_reason"], "stop")

    def test_tool_choice_auto_is_the_default(self):
        self.assertEqual(calls(chat("one", tool_choice="auto").choices[0].message), [READ])

    def test_without_parallel_calls_there_is_one(self):
        choice = chat("two", parallel_tool_calls=False).choices[0]
        self.assertEqual(calls(choice.message), [READ])
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertEqual(len(calls(chat("two", parallel_tool_calls=True).choices[0].message)), 2)

    def test_tools_that_are_no_functions_are_passed_over(self):
        hosted = [
            {"type": kind} for kind in ("web_search", "local_shell", "image_generation", "code_interpreter", "mystery")
        ]
        body = {"messages": scripts.messages("one"), "tools": [*hosted, *scripts.chat_tools()]}
        answer = servers.scripted().post("/v1/chat/completions", body)
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.json()["choices"][0]["finish_reason"], "tool_calls")

    def test_strict_is_taken_and_not_enforced(self):
        tools = scripts.chat_tools()
        tools[0]["function"]["strict"] = True
        self.assertEqual(calls(chat("one", tools=tools).choices[0].message), [READ])

    def test_a_task_is_done_over_two_turns(self):
        messages = [{"role": "user", "content": "case:task please"}]
        first = chat("", messages=messages).choices[0].message
        messages.append(first.to_dict())
        messages.append({"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "fn main() {}"})
        second = chat("", messages=messages).choices[0]
        self.assertEqual(second.message.content, "The file has a main function.")
        self.assertEqual(second.finish_reason, "stop")


if __name__ == "__main__":
    unittest.main()
