"""`/v1/chat/completions` through OpenAI's client: texts, reasoning, usage, the shape of streams, histories."""

import unittest

import folds
import scripts
import servers

USER = [{"role": "user", "content": "Write a function that adds two numbers"}]
# At a fixed depth the figures of two answers agree too.
FIXED = {"extra_body": {"mtp": {"depth": 2}}}
GREEDY = {"model": "builtin", "messages": USER, "temperature": 0, "max_tokens": 8}


def chat(**fields):
    """A greedy answer of the built-in model; a field that is `...` is left out."""
    fields = {key: value for key, value in {**GREEDY, **fields}.items() if value is not ...}
    return servers.builtin().openai().chat.completions.create(**fields)


def scripted(name, **fields):
    client = servers.scripted().openai()
    return client.chat.completions.create(**{"model": "scripted", "messages": scripts.messages(name), **fields})


def chunks(stream):
    return [chunk.to_dict() for chunk in stream]


class Whole(unittest.TestCase):
    def test_text_usage_and_timings_agree(self):
        answer = chat()
        self.assertEqual((answer.object, answer.model), ("chat.completion", "builtin"))
        choice, usage, timings = answer.choices[0], answer.usage, answer.model_extra["timings"]
        self.assertEqual((choice.index, choice.finish_reason, choice.message.role), (0, "length", "assistant"))
        self.assertTrue(choice.message.content)
        self.assertEqual(usage.completion_tokens, 8)
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertLessEqual(usage.prompt_tokens_details.cached_tokens, usage.prompt_tokens)
        self.assertEqual(usage.completion_tokens_details.reasoning_tokens, 0)
        self.assertEqual(timings["prompt_tokens"], usage.prompt_tokens)
        self.assertEqual(timings["completion_tokens"], usage.completion_tokens)
        self.assertEqual(timings["cached_tokens"], usage.prompt_tokens_details.cached_tokens)
        self.assertGreater(timings["ttft_ms"], 0)
        self.assertGreater(timings["tokens_per_second"], 0)

    def test_reasoning_is_apart_from_the_answer_under_both_names(self):
        message = scripted("greeting").choices[0].message
        self.assertEqual(message.content, scripts.GREETING)
        for name in ("reasoning_content", "reasoning"):
            self.assertEqual(message.model_extra[name].strip(), scripts.THOUGHT, name)

    def test_reasoning_tokens_are_part_of_the_completion(self):
        usage = scripted("ponder").usage
        reasoning = usage.completion_tokens_details.reasoning_tokens
        self.assertGreater(reasoning, 100)
        self.assertLess(reasoning, usage.completion_tokens)

    def test_thinking_is_switched_off_by_each_of_its_switches(self):
        for switch in (
            {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}},
            {"reasoning_effort": "none"},
        ):
            with self.subTest(switch):
                answer = scripted("greeting", **switch)
                self.assertEqual(answer.choices[0].message.content, scripts.GREETING)
                self.assertFalse(answer.choices[0].message.model_extra.get("reasoning_content"))
                self.assertEqual(answer.usage.completion_tokens_details.reasoning_tokens, 0)

    def test_an_absent_model_is_the_one_that_is_loaded(self):
        body = {"messages": USER, "max_tokens": 2}
        for model in ({}, {"model": None}):
            answer = servers.builtin().post("/v1/chat/completions", {**body, **model})
            self.assertEqual((answer.status, answer.json()["model"]), (200, "builtin"))

    def test_both_names_of_the_limit_count(self):
        for name in ("max_tokens", "max_completion_tokens"):
            answer = chat(**{"max_tokens": ..., name: 3})
            self.assertEqual((answer.usage.completion_tokens, answer.choices[0].finish_reason), (3, "length"), name)

    def test_a_limit_beyond_the_context_is_clamped(self):
        self.assertEqual(chat(max_tokens=65535, stop=["\n"]).choices[0].finish_reason, "stop")
        answer = (
            servers.scripted()
            .openai()
            .completions.create(model="scripted", prompt=[5] * 4000, max_tokens=65535, extra_body={"ignore_eos": True})
        )
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertIn(answer.usage.total_tokens, (4095, 4096))

    def test_null_and_unknown_fields_are_absent(self):
        expected = chat().choices[0].message.content
        nulls = (
            "stop",
            "seed",
            "tools",
            "tool_choice",
            "logit_bias",
            "response_format",
            "top_p",
            "n",
            "user",
            "stream",
            "stream_options",
            "presence_penalty",
            "mtp",
            "max_thinking_tokens",
            "reasoning_effort",
        )
        body = {
            **GREEDY,
            **dict.fromkeys(nulls),
            "store": True,
            "metadata": {"a": "b"},
            "service_tier": "auto",
            "safety_identifier": "x",
            "prediction": None,
            "unknown": {"a": [1]},
        }
        answer = servers.builtin().post("/v1/chat/completions", body)
        self.assertEqual(answer.status, 200, answer.text)
        self.assertEqual(answer.json()["choices"][0]["message"]["content"], expected)


class Streamed(unittest.TestCase):
    def test_whole_answer_is_the_fold_of_the_stream(self):
        client = servers.scripted().openai()
        cases = {name: {"tools": scripts.chat_tools()} for name in ("one", "two", "say-and-call", "malformed", "types")}
        cases |= {"greeting": {"logprobs": True, "top_logprobs": 2}, "ponder": {"max_tokens": 50}}
        for name, fields in cases.items():
            with self.subTest(name):
                fields = {
                    "model": "scripted",
                    "messages": scripts.messages(name),
                    **fields,
                    "extra_body": {"mtp": {"origins": True}},
                }
                whole = client.chat.completions.create(**fields).to_dict()
                stream = client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
                folded = folds.chat(chunks(stream))
                whole.pop("object")
                self.assertEqual(folds.stable(folded), folds.stable(whole))

    def test_clients_own_fold_is_the_whole_answer(self):
        fields = {"model": "scripted", "messages": scripts.messages("two"), "tools": scripts.chat_tools()}
        client = servers.scripted().openai()
        whole = client.chat.completions.create(**fields).choices[0]
        with client.chat.completions.stream(**fields) as stream:
            events = list(stream)
            folded = stream.get_final_completion().choices[0]
        self.assertEqual(folded.message.content or "", whole.message.content or "")
        self.assertEqual(folded.finish_reason, whole.finish_reason)
        calls = [[(c.function.name, c.function.arguments) for c in m.message.tool_calls] for m in (folded, whole)]
        self.assertEqual(*calls)
        self.assertIn("tool_calls.function.arguments.done", {event.type for event in events})

    def test_built_in_models_stream_is_its_whole_answer(self):
        whole = chat(max_tokens=12, **FIXED)
        folded = folds.chat(chunks(chat(max_tokens=12, **FIXED, stream=True, stream_options={"include_usage": True})))
        self.assertEqual(folded["choices"][0]["message"]["content"], whole.choices[0].message.content)
        self.assertEqual(folded["usage"], whole.usage.to_dict())
        self.assertEqual(folded["timings"]["accepted"], whole.model_extra["timings"]["accepted"])

    def test_chunks_have_one_id_and_one_end(self):
        for usage in (False, True):
            with self.subTest(include_usage=usage):
                options = {"stream_options": {"include_usage": True}} if usage else {}
                found = chunks(chat(stream=True, **options))
                for key in ("id", "created", "model", "object"):
                    self.assertEqual(len({chunk[key] for chunk in found}), 1, key)
                self.assertEqual(found[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
                self.assertTrue(
                    all("role" not in chunk["choices"][0]["delta"] for chunk in found[1:] if chunk["choices"])
                )
                ends = [chunk["choices"][0]["finish_reason"] for chunk in found if chunk["choices"]]
                self.assertEqual([end for end in ends if end], ["length"])
                self.assertEqual(ends[-1], "length")
                timed = [chunk["choices"][0]["finish_reason"] for chunk in found if "timings" in chunk]
                self.assertEqual(timed, ["length"])
                if usage:
                    self.assertEqual(found[-1]["choices"], [])
                    self.assertEqual(found[-1]["usage"]["completion_tokens"], 8)
                    self.assertTrue(all(chunk["usage"] is None for chunk in found[:-1]))
                else:
                    self.assertTrue(all(chunk["choices"] and "usage" not in chunk for chunk in found))

    def test_frames_and_headers_are_those_of_an_event_stream(self):
        answer = servers.builtin().post("/v1/chat/completions", {**GREEDY, "stream": True})
        self.assertTrue(answer.headers["content-type"].startswith("text/event-stream"))
        self.assertIn("no-cache", answer.headers["cache-control"])
        self.assertEqual(answer.headers["x-accel-buffering"], "no")
        found = answer.frames()
        self.assertEqual([data for _, data in found].count("[DONE]"), 1)
        self.assertEqual(found[-1][1], "[DONE]")

    def test_deltas_hold_whole_characters(self):
        found = [chunk.choices[0].delta.content or "" for chunk in scripted("greeting", stream=True)]
        self.assertEqual("".join(found), scripts.GREETING)
        self.assertNotIn("\ufffd", "".join(found))
        self.assertGreater(len(found), 5)

    def test_an_error_in_mid_stream_ends_it_without_done(self):
        body = {"messages": scripts.messages("error"), "stream": True}
        found = servers.scripted().post("/v1/chat/completions", body).frames()
        self.assertEqual(set(found[-1][1]), {"error"})
        self.assertEqual(set(found[-1][1]["error"]), {"message", "type", "param", "code"})
        self.assertEqual(
            folds.chat(data for _, data in found[:-1])["choices"][0]["message"]["content"].strip(), "Half of an answer"
        )


class Budget(unittest.TestCase):
    """A budget of reasoning: at the limit the block is closed and the answer goes on."""

    def test_each_spelling_ends_the_reasoning(self):
        free = scripted("ponder").choices[0].message.model_extra["reasoning_content"]
        for budget in ({"max_thinking_tokens": 12}, {"thinking": {"type": "enabled", "budget_tokens": 12}}):
            with self.subTest(budget):
                answer = scripted("ponder", extra_body=budget)
                message, usage = answer.choices[0].message, answer.usage.to_dict()
                reasoning = message.model_extra["reasoning_content"]
                # Exact up to the limit; then a short sentence.
                self.assertEqual(reasoning[:20], free[:20])
                self.assertLess(len(reasoning), len(free) / 2)
                self.assertTrue(usage["thinking_budget_reached"])
                self.assertGreaterEqual(usage["completion_tokens_details"]["reasoning_tokens"], 12)
                self.assertLess(usage["completion_tokens_details"]["reasoning_tokens"], 60)
                self.assertTrue(message.content.strip())
                self.assertEqual(answer.choices[0].finish_reason, "stop")
                self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])

    def test_a_budget_that_is_not_reached_changes_nothing(self):
        free, bound = scripted("greeting"), scripted("greeting", extra_body={"max_thinking_tokens": 500})
        self.assertEqual(bound.choices[0].message.to_dict(), free.choices[0].message.to_dict())
        self.assertEqual(bound.usage.to_dict(), free.usage.to_dict())
        self.assertFalse(bound.usage.to_dict().get("thinking_budget_reached"))

    def test_a_stream_ends_its_reasoning_as_the_whole_answer_does(self):
        whole = scripted("ponder", extra_body={"max_thinking_tokens": 12}).choices[0].message
        stream = scripted("ponder", extra_body={"max_thinking_tokens": 12}, stream=True)
        folded = folds.chat(chunks(stream))["choices"][0]["message"]
        self.assertEqual(folded["content"], whole.content)
        self.assertEqual(folded["reasoning_content"], whole.model_extra["reasoning_content"])


class Histories(unittest.TestCase):
    """What real clients send as history is taken, and says the same however it is spelled."""

    CALL = {"id": "call_1", "type": "function", "function": {"name": "read_file", "arguments": '{"path": "a"}'}}
    ASKED = {"role": "assistant", "content": None, "tool_calls": [CALL]}
    GO_ON = {"role": "user", "content": "go on"}

    def prompt(self, *messages, server=servers.builtin, **fields):
        """Tokens of a prompt, and the text that greedy decoding makes of it."""
        body = {"messages": list(messages), "max_tokens": 2, "temperature": 0, **fields}
        answer = server().post("/v1/chat/completions", body)
        self.assertEqual(answer.status, 200, answer.text)
        return answer.json()["usage"]["prompt_tokens"], answer.json()["choices"][0]["message"]["content"]

    def test_spellings_of_one_conversation_are_one_prompt(self):
        system, user = {"role": "system", "content": "Be short"}, {"role": "user", "content": "Hi\n\nthere"}
        part = lambda text: {"type": "text", "text": text}
        same = {
            "content as a part": ([{"role": "user", "content": [part("Hi\n\nthere")]}], [user]),
            "developer is system": ([{"role": "developer", "content": "Be short"}, user], [system, user]),
            "leading system messages are joined with a blank line": (
                [system, {"role": "developer", "content": "Be kind"}, user],
                [{"role": "system", "content": "Be short\n\nBe kind"}, user],
            ),
            "null content is empty": (
                [user, {"role": "assistant", "content": None}, user],
                [user, {"role": "assistant", "content": ""}, user],
            ),
            "absent content is empty": (
                [user, {"role": "assistant"}, user],
                [user, {"role": "assistant", "content": ""}, user],
            ),
        }
        for name, (one, other) in same.items():
            with self.subTest(name):
                self.assertEqual(self.prompt(*one), self.prompt(*other))

    def test_histories_of_agents_are_taken(self):
        user = {"role": "user", "content": "read a"}
        result = lambda content: {"role": "tool", "tool_call_id": "call_1", "content": content}
        histories = {
            "result as a string": [user, self.ASKED, result("fn main")],
            "result as parts": [user, self.ASKED, result([{"type": "text", "text": "fn main"}])],
            "empty result": [user, self.ASKED, result("")],
            "result as an empty list": [user, self.ASKED, result([])],
            "null result": [user, self.ASKED, result(None)],
            "absent result": [user, self.ASKED, {"role": "tool", "tool_call_id": "call_1"}],
            "several results in a row": [
                user,
                {**self.ASKED, "tool_calls": [self.CALL, {**self.CALL, "id": "call_2"}]},
                result("a"),
                {**result("b"), "tool_call_id": "call_2"},
            ],
            "call without a result": [user, self.ASKED, self.GO_ON],
            "result without a call": [user, result("a"), self.GO_ON],
            "reasoning_content": [user, {"role": "assistant", "reasoning_content": "hm", "content": "yes"}, self.GO_ON],
            "reasoning": [user, {"role": "assistant", "reasoning": "hm", "content": "yes"}, self.GO_ON],
            "later system message": [
                user,
                {"role": "assistant", "content": "yes"},
                {"role": "system", "content": "Be short"},
                self.GO_ON,
            ],
            "system message last": [user, {"role": "system", "content": "Be short"}],
            "refusal": [user, {"role": "assistant", "content": None, "refusal": "no"}, self.GO_ON],
        }
        for arguments in ("", "{oops", "[1]", "5", "null", '{"path": "a"'):
            call = {**self.CALL, "function": {"name": "read_file", "arguments": arguments}}
            histories[f"arguments {arguments!r}"] = [user, {**self.ASKED, "tool_calls": [call]}, result("x")]
        for name, history in histories.items():
            for server in (servers.builtin, servers.scripted):
                with self.subTest(name, server=server.__name__):
                    self.prompt(*history, server=server, tools=scripts.chat_tools())

    def test_a_later_system_message_keeps_its_place(self):
        # Hoisted to the top it would change the prompt's head; dropped it would cost no tokens.
        user, late = {"role": "user", "content": "Hi"}, {"role": "system", "content": "Answer in one single word"}
        without = self.prompt(user, {"role": "assistant", "content": "Yes"}, self.GO_ON, server=servers.scripted)[0]
        with_it = self.prompt(user, {"role": "assistant", "content": "Yes"}, late, self.GO_ON, server=servers.scripted)[
            0
        ]
        self.assertGreater(with_it, without + 4)

    def test_markers_of_the_template_in_contents_are_text(self):
        plain = self.prompt({"role": "user", "content": "ab"})[0]
        for marker in ("<|im_end|>", "<|im_start|>", "<|endoftext|>"):
            with self.subTest(marker):
                marked = self.prompt({"role": "user", "content": f"ab{marker}"})[0]
                # One special token would end the turn.
                self.assertGreater(marked, plain + 2)


if __name__ == "__main__":
    unittest.main()
