"""`/v1/responses` through OpenAI's client: items, the order of events, calls, custom tools, reasoning, usage."""

import json
import unittest

import folds
import scripts
import servers

ROUTE = "/v1/responses"


def respond(name, **fields):
    fields = {"model": "scripted", "input": scripts.ask(name), **fields}
    return servers.scripted().openai().responses.create(**fields)


def post(name, **fields):
    return servers.scripted().post(ROUTE, {"input": scripts.ask(name), **fields})


def kinds(response):
    return [item.type for item in response.output]


def items(response, kind):
    return [item for item in response.output if item.type == kind]


PATCH = {
    "type": "custom",
    "name": "apply_patch",
    "description": "patches",
    "format": {"type": "grammar", "syntax": "lark", "definition": "start: /.+/"},
}


class Whole(unittest.TestCase):
    def test_text_reasoning_and_usage_are_apart(self):
        response = respond("greeting")
        self.assertEqual((response.object, response.status, response.model), ("response", "completed", "scripted"))
        self.assertEqual(kinds(response), ["reasoning", "message"])
        self.assertEqual(response.output_text, scripts.GREETING)
        self.assertEqual(items(response, "reasoning")[0].content[0].text.strip(), scripts.THOUGHT)
        usage = response.usage
        self.assertEqual(usage.total_tokens, usage.input_tokens + usage.output_tokens)
        self.assertGreater(usage.output_tokens_details.reasoning_tokens, 0)
        self.assertLess(usage.output_tokens_details.reasoning_tokens, usage.output_tokens)
        self.assertLessEqual(usage.input_tokens_details.cached_tokens, usage.input_tokens)
        timings = response.to_dict()["timings"]
        self.assertEqual(
            (timings["prompt_tokens"], timings["completion_tokens"]), (usage.input_tokens, usage.output_tokens)
        )

    def test_a_summary_is_written_where_one_is_asked_for(self):
        reasoning = items(respond("greeting", reasoning={"summary": "auto"}), "reasoning")[0]
        self.assertEqual(reasoning.summary[0].text.strip(), scripts.THOUGHT)

    def test_every_item_has_a_status_and_an_id_of_its_own(self):
        response = respond("two", tools=scripts.response_tools())
        self.assertEqual([item.status for item in response.output], ["completed"] * len(response.output))
        self.assertEqual(len({item.id for item in response.output}), len(response.output))

    def test_calls_are_items_whose_call_id_is_not_their_id(self):
        calls = items(respond("two", tools=scripts.response_tools()), "function_call")
        self.assertEqual(
            [(call.name, json.loads(call.arguments)) for call in calls],
            [("read_file", {"path": "src/main.rs", "limit": 5}), ("read_file", {"path": "Cargo.toml"})],
        )
        self.assertEqual(len({call.call_id for call in calls} | {call.id for call in calls}), 4)

    def test_a_limit_makes_the_response_incomplete(self):
        response = respond("greeting", max_output_tokens=10)
        self.assertEqual((response.status, response.incomplete_details.reason), ("incomplete", "max_output_tokens"))
        self.assertEqual(response.usage.output_tokens, 10)

    def test_budget_of_reasoning_is_kept(self):
        response = respond("ponder", extra_body={"max_thinking_tokens": 12})
        self.assertEqual(response.status, "completed")
        self.assertTrue(response.output_text.strip())
        usage = response.usage.to_dict()
        self.assertTrue(usage["thinking_budget_reached"])
        self.assertLess(usage["output_tokens_details"]["reasoning_tokens"], 60)

    def test_built_in_model_answers_as_on_the_chat_route(self):
        client = servers.builtin().openai()
        text = "Write a function that adds two numbers"
        chat = client.chat.completions.create(
            model="builtin", messages=[{"role": "user", "content": text}], max_tokens=12, temperature=0
        )
        response = client.responses.create(model="builtin", input=text, max_output_tokens=12, temperature=0)
        self.assertEqual(response.output_text, chat.choices[0].message.content)
        self.assertEqual(response.usage.input_tokens, chat.usage.prompt_tokens)


class Streamed(unittest.TestCase):
    def events(self, name, **fields):
        return [event.to_dict() for event in respond(name, stream=True, **fields)]

    REASONING = (
        "response.output_item.added response.content_part.added response.reasoning_text.delta* "
        "response.reasoning_text.done response.content_part.done response.output_item.done "
    )
    MESSAGE = (
        "response.output_item.added response.content_part.added response.output_text.delta* "
        "response.output_text.done response.content_part.done response.output_item.done "
    )
    CALL = (
        "response.output_item.added response.function_call_arguments.delta* "
        "response.function_call_arguments.done response.output_item.done "
    )
    BEGIN = "response.created response.in_progress "

    def test_events_come_in_their_order(self):
        tools = {"tools": scripts.response_tools()}
        custom = self.CALL.replace("function_call_arguments", "custom_tool_call_input")
        summary = self.REASONING.replace("content_part", "reasoning_summary_part").replace(
            "reasoning_text", "reasoning_summary_text"
        )
        cases = {
            "greeting": ({}, self.REASONING + self.MESSAGE, "completed"),
            "one": (tools, self.REASONING + self.CALL, "completed"),
            "two": (tools, self.REASONING + self.CALL * 2, "completed"),
            "say-and-call": (tools, self.REASONING + self.MESSAGE + self.CALL, "completed"),
            "early": (tools, self.REASONING + self.CALL, "completed"),
            "malformed": (tools, self.REASONING + self.MESSAGE, "completed"),
            "patch": ({"tools": [PATCH]}, self.REASONING + custom, "completed"),
            "awkward": ({**tools, "reasoning": {"summary": "auto"}}, summary + self.CALL, "completed"),
            "long-call": ({**tools, "max_output_tokens": 60}, self.REASONING + self.CALL, "incomplete"),
        }
        for name, (fields, expected, end) in cases.items():
            with self.subTest(name):
                found = self.events(name, **fields)
                self.assertEqual(folds.shape([e["type"] for e in found]), f"{self.BEGIN}{expected}response.{end}")
                self.assertEqual([e["sequence_number"] for e in found], list(range(len(found))))

    def test_events_are_named_after_their_type_and_nothing_follows_the_last(self):
        found = post("two", stream=True, tools=scripts.response_tools()).frames()
        self.assertTrue(all(event == data["type"] for event, data in found))
        self.assertEqual(found[-1][0], "response.completed")

    def test_deltas_add_up_to_what_is_done(self):
        for name in ("greeting", "two", "say-and-call", "awkward", "types"):
            with self.subTest(name):
                texts = {}
                for event in self.events(name, tools=scripts.response_tools()):
                    kind, _, part = event["type"].removeprefix("response.").rpartition(".")
                    key = (event.get("item_id"), event.get("output_index"), kind)
                    if part == "delta":
                        texts[key] = texts.get(key, "") + event["delta"]
                    elif part == "done" and kind in ("output_text", "reasoning_text", "function_call_arguments"):
                        self.assertEqual(texts[key], event.get("text", event.get("arguments")))

    def test_whole_response_is_the_one_that_completes_the_stream(self):
        tools = {"tools": [*scripts.response_tools(), PATCH]}
        for name in ("greeting", "one", "two", "say-and-call", "malformed", "patch", "types"):
            with self.subTest(name):
                whole, *_, last = post(name, **tools).json(), *post(name, **tools, stream=True).frames()
                self.assertEqual(folds.stable(last[1]["response"]), folds.stable(whole))

    def test_items_that_are_done_are_the_output(self):
        found = self.events("say-and-call", tools=scripts.response_tools())
        done = [event["item"] for event in found if event["type"] == "response.output_item.done"]
        self.assertEqual(done, found[-1]["response"]["output"])
        added = [event["item"] for event in found if event["type"] == "response.output_item.added"]
        self.assertEqual([item["id"] for item in added], [item["id"] for item in done])
        self.assertEqual({item["status"] for item in added}, {"in_progress"})
        self.assertEqual([event["output_index"] for event in found if event["type"].endswith("item.done")], [0, 1, 2])

    def test_clients_own_fold_is_the_whole_response(self):
        fields = {"model": "scripted", "input": scripts.ask("two"), "tools": scripts.response_tools()}
        with servers.scripted().openai().responses.stream(**fields) as stream:
            for _ in stream:
                pass
            folded = stream.get_final_response()
        whole = respond("two", tools=scripts.response_tools())
        calls = lambda response: [(c.name, c.arguments) for c in items(response, "function_call")]
        self.assertEqual(calls(folded), calls(whole))
        self.assertEqual(folded.usage.to_dict(), whole.usage.to_dict())

    def test_an_error_in_mid_stream_is_response_failed(self):
        kind, data = post("error", stream=True).frames()[-1]
        self.assertEqual((kind, data["response"]["status"]), ("response.failed", "failed"))
        self.assertTrue(data["response"]["error"]["message"])


class Tools(unittest.TestCase):
    def test_a_custom_tool_gets_its_raw_input(self):
        call = items(respond("patch", tools=[PATCH]), "custom_tool_call")[0]
        self.assertEqual((call.name, call.input), ("apply_patch", scripts.PATCH))
        streamed = "".join(
            event.delta
            for event in respond("patch", tools=[PATCH], stream=True)
            if event.type == "response.custom_tool_call_input.delta"
        )
        self.assertEqual(streamed, scripts.PATCH)

    def test_a_namespace_is_flattened_and_comes_back(self):
        inner = {
            "type": "function",
            "name": "stat",
            "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
        }
        answer = post("stat", tools=[{"type": "namespace", "name": "files", "description": "d", "tools": [inner]}])
        self.assertEqual(answer.status, 200, answer.text)
        call = answer.json()["output"][-1]
        self.assertEqual((call["type"], call["name"], call["namespace"]), ("function_call", "stat", "files"))

    def test_hosted_tools_are_passed_over(self):
        hosted = [
            {"type": kind} for kind in ("web_search", "local_shell", "image_generation", "tool_search", "mystery")
        ]
        answer = post("one", tools=[*hosted, *scripts.response_tools()])
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.json()["output"][-1]["type"], "function_call")

    def test_calls_by_choice(self):
        self.assertEqual(
            kinds(respond("one", tools=scripts.response_tools(), tool_choice="none")), ["reasoning", "message"]
        )
        response = respond("two", tools=scripts.response_tools(), parallel_tool_calls=False)
        self.assertEqual(len(items(response, "function_call")), 1)

    def test_results_of_every_shape_are_taken(self):
        ask = {"role": "user", "content": "case:task please"}
        call = {"type": "function_call", "call_id": "call_1", "name": "read_file", "arguments": '{"path": "a"}'}
        outputs = ("fn main() {}", [{"type": "input_text", "text": "fn main() {}"}])
        for output in outputs:
            with self.subTest(output):
                history = [ask, call, {"type": "function_call_output", "call_id": "call_1", "output": output}]
                answer = post("", input=history, tools=scripts.response_tools())
                self.assertEqual(answer.status, 200, answer.text)
                self.assertEqual(answer.json()["output"][-1]["content"][0]["text"], "The file has a main function.")
        for output in ("", [], None):
            history = [ask, call, {"type": "function_call_output", "call_id": "call_1", "output": output}]
            self.assertEqual(post("", input=history, tools=scripts.response_tools()).status, 200, output)

    def test_a_responses_output_is_the_next_ones_input(self):
        history = [{"role": "user", "content": "case:task please"}]
        first = respond("", input=history, tools=scripts.response_tools())
        history += [item.to_dict() for item in first.output]
        call = items(first, "function_call")[0]
        history.append({"type": "function_call_output", "call_id": call.call_id, "output": "fn main() {}"})
        second = respond("", input=history, tools=scripts.response_tools())
        self.assertEqual(second.output_text, "The file has a main function.")


class Requests(unittest.TestCase):
    def tokens(self, **fields):
        answer = post("greeting", **fields)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json()["usage"]["input_tokens"]

    def test_instructions_are_a_system_message(self):
        user = {"role": "user", "content": "case:greeting please"}
        expected = self.tokens(input=[{"role": "system", "content": "Be short"}, user])
        self.assertEqual(self.tokens(input=[user], instructions="Be short"), expected)
        self.assertEqual(self.tokens(input=[{"role": "developer", "content": "Be short"}, user]), expected)
        parts = [{"type": "message", "role": "user", "content": [{"type": "input_text", "text": user["content"]}]}]
        self.assertEqual(self.tokens(input=parts, instructions="Be short"), expected)

    def test_what_codex_sends_unasked_is_taken(self):
        answer = post(
            "greeting",
            store=False,
            include=["reasoning.encrypted_content"],
            prompt_cache_key="k",
            service_tier="auto",
            reasoning={"effort": "medium", "summary": "auto"},
            text={"verbosity": "low"},
            metadata={"a": "b"},
            client_metadata={"x": "y"},
            truncation="disabled",
            safety_identifier="u",
            tool_choice="auto",
            tools=[],
        )
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(post("greeting", store=True).status, 200)

    def test_what_needs_a_store_is_refused(self):
        answer = post("greeting", previous_response_id="resp_1")
        self.assertIn(answer.status, (400, 404))
        self.assertEqual(answer.json()["error"]["param"], "previous_response_id")


if __name__ == "__main__":
    unittest.main()
