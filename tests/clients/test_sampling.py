"""Texts by seed and settings: equal to `mtplx run`'s, alone and beside others; penalties, bias, log-probabilities."""

import math
import unittest

import folds
import servers

PROMPT = "fn add(a: i32, b: i32) -> i32 {\n"
CHAT = "Write a function that adds two numbers"
# Tokens of an answer that is compared.
LENGTH = 12


def complete(prompt=PROMPT, **fields):
    body = {"prompt": prompt, "max_tokens": LENGTH, "ignore_eos": True, **fields}
    answer = servers.builtin().post("/v1/completions", body)
    assert answer.status == 200, answer.text
    return answer.json()


def text(prompt=PROMPT, **fields):
    return complete(prompt, **fields)["choices"][0]["text"]


def chat(content=CHAT, **fields):
    body = {"messages": [{"role": "user", "content": content}], "max_tokens": LENGTH, "ignore_eos": True, **fields}
    answer = servers.builtin().post("/v1/chat/completions", body)
    assert answer.status == 200, answer.text
    return answer.json()["choices"][0]


def run(*flags, mode="--raw", prompt=PROMPT):
    return servers.run(mode, "-n", str(LENGTH), "--ignore-eos", *flags, prompt=prompt)["text"]


COUPLED = {"temperature": 1, "seed": 7, "mtp": {"acceptance": "coupled"}}
COUPLED_FLAGS = ("-t", "1", "-s", "7", "--acceptance", "coupled")


class AsRun(unittest.TestCase):
    """Texts equal those of `mtplx run`."""

    def test_greedy_texts(self):
        for prompt in (PROMPT, "ü"):
            self.assertEqual(text(prompt, temperature=0), run("-t", "0", prompt=prompt), prompt)
        self.assertEqual(chat(temperature=0)["message"]["content"], run("-t", "0", mode="--chat", prompt=CHAT))

    def test_coupled_texts(self):
        self.assertEqual(text(**COUPLED), run(*COUPLED_FLAGS))
        self.assertEqual(chat(**COUPLED)["message"]["content"], run(*COUPLED_FLAGS, mode="--chat", prompt=CHAT))

    def test_seeded_texts_under_rejection(self):
        self.assertEqual(text(temperature=1, seed=7), run("-t", "1", "-s", "7"))

    def test_the_models_own_settings_where_a_request_has_none(self):
        self.assertEqual(text(seed=7), run("-s", "7"))

    def test_every_setting_of_the_sampler(self):
        fields = {
            "temperature": 1.3,
            "top_p": 0.9,
            "top_k": 30,
            "min_p": 0.02,
            "repetition_penalty": 1.1,
            "presence_penalty": 0.5,
            "frequency_penalty": 0.3,
            "logit_bias": {"203": -3, "361": 2},
        }
        flags = [
            part
            for name, value in fields.items()
            if name != "logit_bias"
            for part in (f"--{name.replace('_', '-')}", str(value))
        ]
        flags += ["--logit-bias", "203=-3", "--logit-bias", "361=2"]
        self.assertEqual(text(**{**COUPLED, **fields}), run(*flags, "-s", "7", "--acceptance", "coupled"))


class Seeds(unittest.TestCase):
    def test_one_seed_is_one_text_and_another_is_another(self):
        for acceptance in ("rejection", "coupled"):
            with self.subTest(acceptance):
                fields = {"temperature": 1, "mtp": {"acceptance": acceptance}}
                first = text(seed=7, **fields)
                self.assertEqual(text(seed=7, **fields), first)
                self.assertNotEqual(text(seed=8, **fields), first)

    def test_without_a_seed_texts_differ(self):
        self.assertGreater(len({text(temperature=1.5) for _ in range(3)}), 1)

    def test_every_seed_of_64_bits_is_taken(self):
        client = servers.builtin().openai()
        for seed in (0, 2**63, 2**64 - 1, -1):
            client.completions.create(model="builtin", prompt="a", max_tokens=1, seed=seed)

    def test_coupled_text_is_the_same_at_every_depth(self):
        expected = text(**COUPLED)
        for mtp in ({"enabled": False}, *({"depth": depth} for depth in (1, 4, 8))):
            with self.subTest(mtp):
                self.assertEqual(text(**{**COUPLED, "mtp": {"acceptance": "coupled", **mtp}}), expected)

    def test_greedy_text_is_the_same_at_every_depth(self):
        expected = text(temperature=0)
        for depth in (0, 1, 4):
            self.assertEqual(text(temperature=0, mtp={"depth": depth}), expected, depth)

    def test_a_stream_has_the_text_of_the_whole_answer(self):
        client = servers.builtin().openai()
        for fields in ({"temperature": 0}, {"temperature": 1, "seed": 7}):
            stream = client.completions.create(
                model="builtin",
                prompt=PROMPT,
                max_tokens=LENGTH,
                stream=True,
                extra_body={"ignore_eos": True},
                **fields,
            )
            folded = folds.completion(chunk.to_dict() for chunk in stream)
            self.assertEqual(folded["choices"][0]["text"], text(**fields))


class Beside(unittest.TestCase):
    """No text depends on the others that take turns with it, and none is mixed up."""

    PROMPTS = (PROMPT, "import numpy as", "def main():\n", "# Title\n\n", "SELECT * FROM")

    def test_five_texts_at_once_are_what_they_are_alone(self):
        calls = [
            lambda prompt=prompt, fields=fields: text(prompt, **fields)
            for prompt, fields in zip(self.PROMPTS, ({"temperature": 0}, COUPLED, {"temperature": 0}, COUPLED, COUPLED))
        ]
        alone = [call() for call in calls]
        self.assertEqual(servers.at_once(*calls), alone)

    def test_texts_of_different_settings_do_not_touch_each_other(self):
        settings = (
            {"temperature": 0},
            COUPLED,
            {"temperature": 1, "seed": 3},
            {"temperature": 0, "logprobs": 2},
            {"temperature": 0, "frequency_penalty": 2},
        )
        alone = [text(**fields) for fields in settings]
        self.assertEqual(servers.at_once(*(lambda f=fields: text(**f) for fields in settings)), alone)


class Logprobs(unittest.TestCase):
    def entries(self, **fields):
        return chat(temperature=0, logprobs=True, top_logprobs=5, **fields)["logprobs"]["content"]

    def test_an_entry_a_token_with_bytes_and_its_rivals_in_order(self):
        answer = (
            servers.builtin()
            .openai()
            .chat.completions.create(
                model="builtin",
                messages=[{"role": "user", "content": CHAT}],
                max_tokens=LENGTH,
                temperature=0,
                logprobs=True,
                top_logprobs=5,
                extra_body={"ignore_eos": True},
            )
        )
        choice, found = answer.choices[0], answer.choices[0].logprobs.content
        self.assertEqual(len(found), LENGTH)
        self.assertEqual(bytes(byte for entry in found for byte in entry.bytes).decode(), choice.message.content)
        for entry in found:
            self.assertEqual(len(entry.top_logprobs), 5)
            values = [rival.logprob for rival in entry.top_logprobs]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLessEqual(sum(map(math.exp, values)), 1 + 1e-5)
            self.assertEqual((entry.token, entry.logprob), (entry.top_logprobs[0].token, values[0]))
            self.assertEqual(bytes(entry.bytes).decode(), entry.token)

    def test_the_same_numbers_with_and_without_drafting(self):
        plain = self.entries(mtp={"enabled": False})
        for depth in (1, 4):
            for one, other in zip(plain, self.entries(mtp={"depth": depth}), strict=True):
                self.assertEqual(one["token"], other["token"])
                self.assertAlmostEqual(one["logprob"], other["logprob"], delta=1e-3)
                pairs = zip(one["top_logprobs"], other["top_logprobs"], strict=True)
                self.assertTrue(all(abs(a["logprob"] - b["logprob"]) < 1e-3 for a, b in pairs))

    def test_they_are_of_the_raw_logits(self):
        top = lambda entry: [(rival["token"], rival["logprob"]) for rival in entry["top_logprobs"]]
        raw = top(self.entries(max_tokens=1)[0])
        settings = {"temperature": 1.5, "seed": 1, "top_k": 3, "repetition_penalty": 1.5, "logit_bias": {"203": 90}}
        body = {"messages": [{"role": "user", "content": CHAT}], "max_tokens": 1, "logprobs": True, "top_logprobs": 5}
        answer = servers.builtin().post("/v1/chat/completions", {**body, **settings}).json()
        for (token, value), (other, expected) in zip(
            top(answer["choices"][0]["logprobs"]["content"][0]), raw, strict=True
        ):
            self.assertEqual(token, other)
            self.assertAlmostEqual(value, expected, delta=1e-3)

    def test_without_rivals_only_the_tokens_own_stands(self):
        found = chat(temperature=0, logprobs=True, max_tokens=2)["logprobs"]["content"]
        self.assertEqual([entry["top_logprobs"] for entry in found], [[], []])
        self.assertIsNone(chat(temperature=0, max_tokens=2)["logprobs"])


class BiasAndPenalties(unittest.TestCase):
    def tokens(self, **fields):
        answer = complete(temperature=0, mtp={"origins": True}, **fields)
        return [token["id"] for token in answer["mtp"]["tokens"]]

    def test_a_banned_token_never_comes(self):
        free = self.tokens()
        banned = {str(token): -100 for token in set(free[:4])}
        self.assertFalse(set(self.tokens(logit_bias=banned)) & set(map(int, banned)))

    def test_a_forced_token_always_comes(self):
        self.assertEqual(set(self.tokens(logit_bias={"361": 100})), {361})

    def test_penalties_lessen_what_repeats(self):
        repeats = "ab ab ab ab ab ab ab ab ab ab"
        most = lambda **fields: max(map(self.tokens(prompt=repeats, **fields).count, range(4096)))
        free = most()
        self.assertGreaterEqual(free, 4)
        for penalty in (
            {"frequency_penalty": 2},
            {"presence_penalty": 2, "frequency_penalty": 1},
            {"repetition_penalty": 2},
        ):
            self.assertLess(most(**penalty), free, penalty)


if __name__ == "__main__":
    unittest.main()
