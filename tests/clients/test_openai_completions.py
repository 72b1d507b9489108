"""`/v1/completions` through OpenAI's client: raw prompts of every shape, log-probabilities, stop strings."""

import unittest

import folds
import servers

PROMPT = "fn add(a: i32, b: i32) -> i32 {\n"
SECOND = "def main():\n"
GREEDY = {"model": "builtin", "prompt": PROMPT, "temperature": 0, "max_tokens": 8}


def complete(**fields):
    return servers.builtin().openai().completions.create(**{**GREEDY, **fields})


def text(**fields):
    return complete(**fields).choices[0].text


class Prompts(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        flags = ("--raw", "-t", "0", "-n", "8")
        cls.first, cls.second = (servers.run(*flags, prompt=prompt) for prompt in (PROMPT, SECOND))

    def test_a_text_is_continued_as_run_continues_it(self):
        answer = complete()
        self.assertEqual(answer.object, "text_completion")
        self.assertEqual(answer.choices[0].text, self.first["text"])
        self.assertEqual(answer.choices[0].finish_reason, "length")
        self.assertEqual(answer.usage.prompt_tokens, len(self.first["prompt_ids"]))
        self.assertEqual(answer.usage.completion_tokens, 8)

    def test_every_shape_of_a_prompt_gives_the_texts_of_its_prompts(self):
        one, two = self.first, self.second
        shapes = {
            "a list of one text": ([PROMPT], [one]),
            "texts": ([PROMPT, SECOND], [one, two]),
            "token ids": (one["prompt_ids"], [one]),
            "lists of token ids": ([two["prompt_ids"], one["prompt_ids"]], [two, one]),
        }
        for name, (prompt, expected) in shapes.items():
            for stream in (False, True):
                with self.subTest(name, stream=stream):
                    usage = {"stream_options": {"include_usage": True}} if stream else {}
                    answer = complete(prompt=prompt, stream=stream, **usage)
                    answer = folds.completion(c.to_dict() for c in answer) if stream else answer.to_dict()
                    self.assertEqual([choice["index"] for choice in answer["choices"]], list(range(len(expected))))
                    self.assertEqual(
                        [choice["text"] for choice in answer["choices"]], [run["text"] for run in expected]
                    )
                    self.assertEqual(answer["usage"]["prompt_tokens"], sum(len(run["prompt_ids"]) for run in expected))
                    self.assertEqual(answer["usage"]["completion_tokens"], 8 * len(expected))

    def test_special_tokens_in_a_raw_prompt_are_tokens(self):
        self.assertEqual(complete(prompt="<|im_end|>", max_tokens=1).usage.prompt_tokens, 1)

    def test_without_a_limit_sixteen_tokens_come(self):
        answer = servers.builtin().post("/v1/completions", {"prompt": PROMPT, "ignore_eos": True}).json()
        self.assertEqual(answer["usage"]["completion_tokens"], 16)

    def test_what_is_not_supported_is_refused_by_name(self):
        for fields in ({"echo": True}, {"suffix": "}"}, {"n": 2}, {"best_of": 2}):
            with self.subTest(fields):
                answer = servers.builtin().post("/v1/completions", {**GREEDY, **fields})
                self.assertEqual((answer.status, answer.json()["error"]["param"]), (400, next(iter(fields))))
        for fields in ({"echo": False}, {"suffix": None}, {"n": 1}, {"best_of": 1}):
            self.assertEqual(servers.builtin().post("/v1/completions", {**GREEDY, **fields}).status, 200, fields)


class Streamed(unittest.TestCase):
    def test_whole_answer_is_the_fold_of_the_stream(self):
        for fields in ({}, {"logprobs": 2}, {"stop": ["\n"]}, {"prompt": [PROMPT, SECOND], "logprobs": 1}):
            with self.subTest(fields):
                fields = {**fields, "extra_body": {"mtp": {"depth": 2}}}
                whole = complete(**fields).to_dict()
                whole.pop("object")
                stream = complete(**fields, stream=True, stream_options={"include_usage": True})
                self.assertEqual(folds.stable(folds.completion(c.to_dict() for c in stream)), folds.stable(whole))

    def test_stream_ends_with_done(self):
        found = servers.builtin().post("/v1/completions", {**GREEDY, "stream": True}).frames()
        self.assertEqual(found[-1][1], "[DONE]")


class Logprobs(unittest.TestCase):
    def test_an_entry_a_token_and_its_place_in_the_text(self):
        choice = complete(logprobs=3).choices[0]
        found = choice.logprobs
        for values in (found.tokens, found.token_logprobs, found.top_logprobs, found.text_offset):
            self.assertEqual(len(values), 8)
        self.assertEqual("".join(found.tokens), choice.text)
        for token, logprob, top, offset in zip(
            found.tokens, found.token_logprobs, found.top_logprobs, found.text_offset
        ):
            self.assertEqual(choice.text[offset : offset + len(token)], token)
            self.assertLessEqual(logprob, 0)
            # Greedy decoding takes the most probable token.
            self.assertAlmostEqual(max(top.values()), logprob, places=5)
            self.assertGreaterEqual(len(top), 3)


class Stops(unittest.TestCase):
    def test_text_ends_where_the_string_would_appear(self):
        free = text(max_tokens=16)
        for stop in (free[5:9], [free[10:14], "never there"], [free[-6:]]):
            with self.subTest(stop):
                strings = [stop] if isinstance(stop, str) else stop
                expected = free[: min(free.find(s) for s in strings if s in free)]
                whole = complete(max_tokens=16, stop=stop).choices[0]
                self.assertEqual((whole.text, whole.finish_reason), (expected, "stop"))
                streamed = folds.completion(c.to_dict() for c in complete(max_tokens=16, stop=stop, stream=True))
                self.assertEqual(streamed["choices"][0]["text"], expected)

    def test_a_string_that_does_not_come_changes_nothing(self):
        free = text()
        self.assertEqual(text(stop=["never there", free + "x"]), free)

    def test_sixty_four_strings_are_taken_and_no_more(self):
        server = servers.builtin()
        for count, status in ((64, 200), (65, 400)):
            answer = server.post("/v1/completions", {**GREEDY, "stop": [f"never {i}" for i in range(count)]})
            self.assertEqual(answer.status, status)
        self.assertEqual(answer.json()["error"]["param"], "stop")


if __name__ == "__main__":
    unittest.main()
