"""`/v1/messages` through Anthropic's client: text, thinking, tool use, counting, what Claude Code sends."""

import json
import unittest

import anthropic
import folds
import scripts
import servers

ROUTE = "/v1/messages"
USER = [{"role": "user", "content": "Write a function that adds two numbers"}]


def create(name, **fields):
    fields = {"model": "claude-sonnet-4-5", "max_tokens": 2000, "messages": scripts.messages(name), **fields}
    return servers.scripted().anthropic().messages.create(**fields)


def post(body, server=servers.scripted, route=ROUTE):
    return server().post(route, {"model": "claude-x", "max_tokens": 2000, **body})


def stream(name, **fields):
    return post({"messages": scripts.messages(name), "stream": True, **fields}).frames()


class Whole(unittest.TestCase):
    def test_text_thinking_and_usage_are_apart(self):
        message = create("greeting")
        self.assertEqual((message.type, message.role, message.stop_reason), ("message", "assistant", "end_turn"))
        thinking, text = message.content
        self.assertEqual((thinking.type, thinking.thinking.strip()), ("thinking", scripts.THOUGHT))
        self.assertIsInstance(thinking.signature, str)
        self.assertEqual((text.type, text.text), ("text", scripts.GREETING))
        self.assertGreater(message.usage.input_tokens, 0)
        self.assertGreater(message.usage.output_tokens, 5)

    def test_thinking_is_switched_off(self):
        message = create("greeting", thinking={"type": "disabled"})
        self.assertEqual([block.type for block in message.content], ["text"])
        self.assertEqual(message.content[0].text, scripts.GREETING)

    def test_switches_of_thinking_are_taken(self):
        for fields in (
            {"thinking": {"type": "adaptive"}},
            {"thinking": {"type": "enabled", "budget_tokens": 1024}},
            {"output_config": {"effort": "high"}},
        ):
            with self.subTest(fields):
                answer = post({"messages": scripts.messages("greeting"), **fields})
                self.assertEqual(answer.status, 200, answer.text)
                self.assertEqual(answer.json()["content"][0]["type"], "thinking")

    def test_a_budget_closes_the_thinking_and_the_answer_goes_on(self):
        free = create("ponder")
        for budget in ({"thinking": {"type": "enabled", "budget_tokens": 12}}, {"max_thinking_tokens": 12}):
            with self.subTest(budget):
                answer = post({"messages": scripts.messages("ponder"), **budget})
                self.assertEqual(answer.status, 200, answer.text)
                thinking, text = answer.json()["content"]
                self.assertEqual(thinking["thinking"][:20], free.content[0].thinking[:20])
                self.assertLess(len(thinking["thinking"]), 200)
                self.assertTrue(text["text"].strip())
                self.assertTrue(answer.json()["usage"]["thinking_budget_reached"])
                self.assertEqual(answer.json()["stop_reason"], "end_turn")

    def test_every_end_has_its_reason(self):
        cases = {
            "max_tokens": ({"max_tokens": 3}, None),
            "stop_sequence": ({"stop_sequences": ["wör"]}, "wör"),
            "end_turn": ({}, None),
            "tool_use": ({"messages": scripts.messages("one"), "tools": scripts.anthropic_tools()}, None),
        }
        for reason, (fields, sequence) in cases.items():
            with self.subTest(reason):
                message = create("greeting", **fields)
                self.assertEqual((message.stop_reason, message.stop_sequence), (reason, sequence))
        message = create("greeting", stop_sequences=["never", "wör"])
        self.assertEqual(message.content[-1].text, scripts.GREETING.split("wör")[0])

    def test_every_name_of_claude_is_served_and_echoed(self):
        for model in ("claude-sonnet-4-5", "claude-3-5-haiku-20241022", "claude-next[1m]"):
            self.assertEqual(create("greeting", model=model).model, model)

    def test_beta_route_is_the_same_route(self):
        message = (
            servers.scripted()
            .anthropic()
            .beta.messages.create(
                model="claude-x",
                max_tokens=2000,
                messages=scripts.messages("greeting"),
                betas=["interleaved-thinking-2025-05-14"],
            )
        )
        self.assertEqual(message.content[-1].text, scripts.GREETING)
        answer = post({"messages": scripts.messages("greeting")}, route=f"{ROUTE}?beta=true")
        self.assertEqual(answer.status, 200)

    def test_a_limit_beyond_the_context_is_clamped(self):
        answer = post({"messages": USER, "max_tokens": 64000, "stop_sequences": ["\n"]}, server=servers.builtin)
        self.assertEqual(answer.status, 200, answer.text)

    def test_text_is_that_of_the_chat_route(self):
        chat = (
            servers.builtin()
            .openai()
            .chat.completions.create(model="builtin", messages=USER, max_tokens=12, temperature=0)
        )
        answer = post({"messages": USER, "max_tokens": 12, "temperature": 0}, server=servers.builtin).json()
        self.assertEqual(answer["content"], [{"type": "text", "text": chat.choices[0].message.content}])
        usage = answer["usage"]
        self.assertEqual(usage["input_tokens"] + usage["cache_read_input_tokens"], chat.usage.prompt_tokens)
        self.assertEqual(usage["output_tokens"], chat.usage.completion_tokens)


class Streamed(unittest.TestCase):
    def test_events_come_in_their_order(self):
        block = "content_block_start content_block_delta* content_block_stop "
        cases = {"greeting": 2, "one": 2, "two": 3, "say-and-call": 3, "malformed": 2, "early": 2}
        for name, blocks in cases.items():
            with self.subTest(name):
                found = [frame for frame in stream(name, tools=scripts.anthropic_tools()) if frame[0] != "ping"]
                self.assertTrue(all(event == data["type"] for event, data in found))
                self.assertEqual(
                    folds.shape([event for event, _ in found]),
                    f"message_start {block * blocks}message_delta message_stop",
                )

    def test_one_block_is_open_and_its_deltas_are_of_its_type(self):
        deltas = {
            "thinking": {"thinking_delta", "signature_delta"},
            "text": {"text_delta"},
            "tool_use": {"input_json_delta"},
        }
        opened, count = None, 0
        for _, data in stream("say-and-call", tools=scripts.anthropic_tools()):
            if data["type"] == "content_block_start":
                self.assertIsNone(opened)
                self.assertEqual(data["index"], count)
                opened, count = data["content_block"]["type"], count + 1
            elif data["type"] == "content_block_delta":
                self.assertEqual(data["index"], count - 1)
                self.assertIn(data["delta"]["type"], deltas[opened])
            elif data["type"] == "content_block_stop":
                opened = None
        self.assertEqual(count, 3)

    def test_thinking_ends_with_a_signature(self):
        kinds = [data["delta"]["type"] for _, data in stream("greeting") if data["type"] == "content_block_delta"]
        self.assertEqual(folds.shape(kinds), "thinking_delta* signature_delta* text_delta*")
        self.assertEqual(kinds.count("signature_delta"), 1)

    def test_input_of_a_call_adds_up(self):
        found = stream("awkward", tools=scripts.anthropic_tools())
        start = next(
            d for _, d in found if d["type"] == "content_block_start" and d["content_block"]["type"] == "tool_use"
        )
        self.assertEqual(start["content_block"]["input"], {})
        self.assertEqual(start["content_block"]["name"], "read_file")
        pieces = [d["delta"]["partial_json"] for _, d in found if d.get("delta", {}).get("type") == "input_json_delta"]
        self.assertEqual(json.loads("".join(pieces)), {"path": scripts.AWKWARD})

    def test_usage_stands_at_both_ends(self):
        found = stream("greeting")
        whole = post({"messages": scripts.messages("greeting")}).json()["usage"]
        start = next(data for _, data in found if data["type"] == "message_start")["message"]
        delta = next(data for _, data in found if data["type"] == "message_delta")
        self.assertEqual((start["content"], start["stop_reason"], start["role"]), ([], None, "assistant"))
        self.assertEqual(start["usage"]["input_tokens"], whole["input_tokens"])
        self.assertEqual(delta["usage"]["output_tokens"], whole["output_tokens"])
        self.assertEqual(delta["delta"]["stop_reason"], "end_turn")

    def test_whole_message_is_the_clients_fold_of_the_stream(self):
        tools = scripts.anthropic_tools()
        cases = {
            "greeting": {},
            "one": {"tools": tools},
            "two": {"tools": tools},
            "say-and-call": {"tools": tools},
            "malformed": {"tools": tools},
            "types": {"tools": tools},
            "ponder": {"max_tokens": 50},
        }
        for name, fields in cases.items():
            with self.subTest(name):
                whole = create(name, **fields).to_dict()
                fields = {
                    "model": "claude-sonnet-4-5",
                    "max_tokens": 2000,
                    "messages": scripts.messages(name),
                    **fields,
                }
                with servers.scripted().anthropic().messages.stream(**fields) as found:
                    folded = found.get_final_message().to_dict()
                for message in (whole, folded):
                    message.pop("timings", None)
                self.assertEqual(folds.stable(folded), folds.stable(whole))

    def test_a_stream_has_no_done_and_is_not_cached(self):
        answer = post({"messages": scripts.messages("greeting"), "stream": True})
        self.assertNotIn("[DONE]", answer.text)
        self.assertTrue(answer.headers["content-type"].startswith("text/event-stream"))
        self.assertIn("no-cache", answer.headers["cache-control"])

    def test_an_error_in_mid_stream_is_an_error_event(self):
        kind, data = stream("error")[-1]
        self.assertEqual((kind, data["type"]), ("error", "error"))
        self.assertEqual(data["error"]["type"], "api_error")
        with self.assertRaises(anthropic.APIError):
            with (
                servers.scripted()
                .anthropic(max_retries=0)
                .messages.stream(model="claude-x", max_tokens=100, messages=scripts.messages("error")) as found
            ):
                found.get_final_message()


class Tools(unittest.TestCase):
    def test_calls_are_tool_use_blocks(self):
        message = create("two", tools=scripts.anthropic_tools())
        calls = [block for block in message.content if block.type == "tool_use"]
        self.assertEqual(
            [(call.name, call.input) for call in calls],
            [("read_file", {"path": "src/main.rs", "limit": 5}), ("read_file", {"path": "Cargo.toml"})],
        )
        self.assertEqual(len({call.id for call in calls}), 2)
        self.assertEqual(create("types", tools=scripts.anthropic_tools()).content[-1].input, scripts.EVERY_VALUE)

    def test_calls_by_choice(self):
        tools = scripts.anthropic_tools()
        one = create("two", tools=tools, tool_choice={"type": "auto", "disable_parallel_tool_use": True})
        self.assertEqual([block.type for block in one.content].count("tool_use"), 1)
        none = create("one", tools=tools, tool_choice={"type": "none"})
        self.assertEqual(([block.type for block in none.content], none.stop_reason), (["thinking", "text"], "end_turn"))
        self.assertEqual(none.content[-1].text.strip(), scripts.READ)

    def test_a_malformed_call_comes_back_as_text(self):
        message = create("malformed", tools=scripts.anthropic_tools())
        self.assertEqual((message.content[-1].text.strip(), message.stop_reason), (scripts.MALFORMED, "end_turn"))

    def test_a_call_cut_by_the_limit_ends_with_max_tokens(self):
        tools = scripts.anthropic_tools()
        message = create("long-call", tools=tools, max_tokens=60)
        self.assertEqual((message.stop_reason, message.content[-1].name), ("max_tokens", "read_file"))
        # What is there: the client's own fold drops the string that has no end.
        deltas = [data["delta"] for _, data in stream("long-call", tools=tools, max_tokens=60) if "delta" in data]
        self.assertIn("directory/", "".join(delta.get("partial_json", "") for delta in deltas))

    def test_hosted_tools_are_passed_over(self):
        hosted = [{"type": "web_search_20250305", "name": "web_search", "max_uses": 8}]
        answer = post({"messages": scripts.messages("one"), "tools": [*hosted, *scripts.anthropic_tools()]})
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.json()["stop_reason"], "tool_use")

    def test_a_task_is_done_over_two_turns(self):
        for result in ("fn main() {}", [{"type": "text", "text": "fn main() {}"}]):
            with self.subTest(result):
                messages = [{"role": "user", "content": "case:task please"}]
                first = create("", messages=messages, tools=scripts.anthropic_tools())
                messages.append({"role": "assistant", "content": [block.to_dict() for block in first.content]})
                result = {"type": "tool_result", "tool_use_id": first.content[-1].id, "content": result}
                messages.append({"role": "user", "content": [result]})
                second = create("", messages=messages, tools=scripts.anthropic_tools())
                self.assertEqual(second.content[-1].text, "The file has a main function.")

    def test_results_of_every_shape_are_taken(self):
        call = {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a"}}
        result = lambda **fields: {"type": "tool_result", "tool_use_id": "toolu_1", **fields}
        text = {"type": "text", "text": "look"}
        for blocks in (
            [result(content="")],
            [result(content=[])],
            [result()],
            [result(content=None)],
            [result(content="no such file", is_error=True)],
            [text, result(content="x")],
            [result(content="x"), text],
            [result(content="x"), {**result(content="y"), "tool_use_id": "toolu_2"}],
            [result(content=[{"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}])],
        ):
            with self.subTest(blocks):
                history = [*USER, {"role": "assistant", "content": [call]}, {"role": "user", "content": blocks}]
                for server in (servers.builtin, servers.scripted):
                    answer = post({"messages": history, "max_tokens": 2, "tools": scripts.anthropic_tools()}, server)
                    self.assertEqual(answer.status, 200, answer.text)


class Counting(unittest.TestCase):
    BILLING = "x-anthropic-billing-header: cc_version=2.1.156.abc; cc_entrypoint=cli; cch={};"

    def count(self, server=servers.scripted, **fields):
        answer = server().post(f"{ROUTE}/count_tokens", {"model": "claude-x", "messages": USER, **fields})
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(set(answer.json()), {"input_tokens"})
        return answer.json()["input_tokens"]

    def test_count_is_the_usage(self):
        cases = (
            {},
            {"system": "Be short"},
            {"system": [{"type": "text", "text": "Be short"}]},
            {"tools": scripts.anthropic_tools()},
            {"thinking": {"type": "disabled"}},
        )
        for fields in cases:
            with self.subTest(fields):
                client = servers.scripted().anthropic()
                counted = client.messages.count_tokens(model="claude-x", messages=USER, **fields).input_tokens
                usage = create("", messages=USER, **fields).usage
                self.assertEqual(counted, usage.input_tokens + (usage.cache_read_input_tokens or 0))

    def test_counting_generates_nothing(self):
        before = servers.scripted().metrics()["mtplx_generated_tokens_total"]
        self.count()
        self.assertEqual(servers.scripted().metrics()["mtplx_generated_tokens_total"], before)

    def test_billing_header_does_not_change_the_prompt(self):
        text = lambda value: {"type": "text", "text": value}
        expected = self.count(system="Be short")
        for nonce in ("00000", "f3a9b"):
            header = self.BILLING.format(nonce)
            for system in ([text(header), text("Be short")], [text(f"{header}\nBe short")], f"{header}\nBe short"):
                with self.subTest(system):
                    self.assertEqual(self.count(system=system), expected)
        self.assertEqual(self.count(system=[text(self.BILLING.format("a"))]), self.count())

    def test_cache_control_does_not_change_the_prompt(self):
        mark = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}
        user = USER[0]["content"]
        plain = self.count(system="Be short", tools=scripts.anthropic_tools())
        tools = scripts.anthropic_tools()
        tools[-1] |= mark
        marked = self.count(
            system=[{"type": "text", "text": "Be short", **mark}],
            tools=tools,
            messages=[{"role": "user", "content": [{"type": "text", "text": user, **mark}]}],
        )
        self.assertEqual(marked, plain)

    def test_system_messages_among_the_messages_keep_their_place(self):
        call = {"type": "tool_use", "id": "toolu_1", "name": "read_file", "input": {"path": "a"}}
        result = {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "toolu_1", "content": "x"}]}
        late = {"role": "system", "content": "Remember to be as short as you can"}
        history = [*USER, {"role": "assistant", "content": [call]}, result]
        for server in (servers.scripted, servers.builtin):
            with self.subTest(server.__name__):
                self.assertGreater(
                    self.count(server, messages=[*history, late]), self.count(server, messages=history) + 4
                )
                answer = post({"messages": [*history, late, *USER], "max_tokens": 2}, server)
                self.assertEqual(answer.status, 200, answer.text)

    def test_thinking_of_earlier_turns_is_taken_with_any_signature(self):
        blocks = (
            {"type": "thinking", "thinking": "hm", "signature": "anything"},
            {"type": "thinking", "thinking": "hm", "signature": ""},
            {"type": "thinking", "thinking": "hm"},
            {"type": "redacted_thinking", "data": "b3BhcXVl"},
        )
        for block in blocks:
            with self.subTest(block):
                content = [block, {"type": "text", "text": "yes"}]
                answer = post({"messages": [*USER, {"role": "assistant", "content": content}, *USER], "max_tokens": 2})
                self.assertEqual(answer.status, 200, answer.text)


if __name__ == "__main__":
    unittest.main()
