"""Drafting by request: `mtp` in the body; origins, acceptance by depth and timings in the answer."""

import unittest

import servers

ROUTES = {
    "/v1/chat/completions": ({"messages": [{"role": "user", "content": "Write a loop"}]}, "max_tokens"),
    "/v1/completions": ({"prompt": "for i in"}, "max_tokens"),
    "/v1/messages": ({"messages": [{"role": "user", "content": "Write a loop"}]}, "max_tokens"),
    "/v1/responses": ({"input": "Write a loop"}, "max_output_tokens"),
}


def ask(route, **fields):
    body, limit = ROUTES[route]
    answer = servers.builtin().post(route, {**body, limit: 12, "temperature": 0, "ignore_eos": True, **fields})
    assert answer.status == 200, answer.text
    return answer


def origins(answer):
    return answer.json()["mtp"]["tokens"]


class Requests(unittest.TestCase):
    def test_without_drafting_every_token_is_plain(self):
        for route in ROUTES:
            for mtp in ({"enabled": False}, {"depth": 0}):
                with self.subTest(route, mtp=mtp):
                    answer = ask(route, mtp={**mtp, "origins": True})
                    self.assertEqual([token["origin"] for token in origins(answer)], ["plain"] * 12)
                    timings = answer.json()["timings"]
                    self.assertEqual((sum(timings["drafted"]), sum(timings["accepted"])), (0, 0))

    def test_origins_agree_with_the_acceptance_by_depth(self):
        for route in ROUTES:
            for depth in (1, 4):
                with self.subTest(route, depth=depth):
                    answer = ask(route, mtp={"depth": depth, "origins": True})
                    timings, tokens = answer.json()["timings"], origins(answer)
                    self.assertEqual(len(tokens), 12)
                    self.assertTrue({token["origin"] for token in tokens} <= {"plain", "draft", "recovered", "bonus"})
                    drafts = [token["depth"] for token in tokens if token["origin"] == "draft"]
                    by_depth = [drafts.count(place + 1) for place in range(len(timings["accepted"]))]
                    self.assertEqual(sum(by_depth), len(drafts))
                    self.assertEqual(by_depth, timings["accepted"])
                    self.assertLessEqual(len(timings["drafted"]), depth)
                    self.assertEqual(len(timings["drafted"]), len(timings["accepted"]))
                    for drafted, accepted in zip(timings["drafted"], timings["accepted"]):
                        self.assertLessEqual(accepted, drafted)
                        self.assertLessEqual(drafted, timings["rounds"])
                    # A round emits its accepted drafts and one more; the first token comes from the prompt.
                    self.assertIn(12 - 1 - sum(timings["accepted"]), (timings["rounds"], timings["rounds"] - 1))

    def test_texts_of_origins_are_the_text(self):
        answer = ask("/v1/completions", mtp={"origins": True})
        self.assertEqual("".join(token["text"] for token in origins(answer)), answer.json()["choices"][0]["text"])

    def test_origins_stand_in_the_chunks_of_their_tokens(self):
        frames = ask("/v1/chat/completions", mtp={"origins": True}, stream=True).frames()
        chunks = [data for _, data in frames if isinstance(data, dict)]
        tokens = [token for chunk in chunks for token in chunk.get("mtp", {}).get("tokens", [])]
        self.assertEqual(len(tokens), 12)
        text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
        self.assertEqual("".join(token["text"] for token in tokens), text)

    def test_origins_are_told_only_where_they_are_asked_for(self):
        self.assertNotIn("mtp", ask("/v1/chat/completions").json())

    def test_a_depth_beyond_the_models_is_clamped(self):
        self.assertLessEqual(len(ask("/v1/completions", mtp={"depth": 8}).json()["timings"]["drafted"]), 8)

    def test_what_is_out_of_range_is_named(self):
        wrong = {
            "mtp.depth": ({"depth": 9}, {"depth": -1}, {"depth": "2"}, {"depth": 1.5}),
            "mtp.acceptance": ({"acceptance": "typical"}, {"acceptance": 1}),
            "mtp.enabled": ({"enabled": "yes"},),
            "mtp.origins": ({"origins": 1},),
            "mtp": ("off", [1], 5),
        }
        for param, values in wrong.items():
            for value in values:
                with self.subTest(value):
                    answer = servers.builtin().post("/v1/completions", {"prompt": "a", "mtp": value})
                    self.assertEqual((answer.status, answer.json()["error"]["param"]), (400, param))


if __name__ == "__main__":
    unittest.main()
