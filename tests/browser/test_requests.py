"""Settings reach the request, and nothing else does."""

import unittest

import servers
from case import PageTest


class Settings(PageTest):
    def test_without_settings_all_is_left_to_the_model(self):
        page = self.open(servers.scripted())
        page.send("Hi")
        body = page.bodies("/v1/chat/completions")[0]
        self.assertEqual(
            body,
            {
                "messages": [{"role": "user", "content": "Hi"}],
                "stream": True,
                "stream_options": {"include_usage": True},
                "mtp": {"enabled": True, "origins": True},
            },
        )

    def test_every_setting_reaches_the_request(self):
        page = self.open(servers.scripted())
        values = {
            "temperature": "0,5",
            "top_p": "0.9",
            "top_k": "12",
            "min_p": "0.05",
            "repetition_penalty": "1.1",
            "seed": "77",
            "max_tokens": "60",
            "depth": "2",
            "thinking": "false",
            "system": "Be brief.",
        }
        for field, value in values.items():
            page.set(field, value)
        page.send("Answer without thinking")
        self.assertIn("No thoughts, just the answer.", page.messages())
        body = page.bodies("/v1/chat/completions")[0]
        expected = {"temperature": 0.5, "top_p": 0.9, "top_k": 12, "min_p": 0.05, "repetition_penalty": 1.1, "seed": 77, "max_tokens": 60}
        self.assertEqual({name: body[name] for name in expected}, expected)
        self.assertEqual(body["mtp"], {"enabled": True, "origins": True, "depth": 2})
        self.assertEqual(body["chat_template_kwargs"], {"enable_thinking": False})
        self.assertEqual(body["messages"][0], {"role": "system", "content": "Be brief."})
        # They are this conversation's after a reload; a new one has them but for seed and system prompt.
        page.open(servers.scripted(), fresh=False)
        page.send("Hi")
        body = page.bodies("/v1/chat/completions")[-1]
        self.assertEqual((body["temperature"], "seed" in body, body["messages"][0]["role"]), (0.5, False, "user"))

    def test_mtp_is_switched_off(self):
        page = self.open(servers.scripted())
        page.one("[role=switch]").click()
        page.send("Hi")
        self.assertEqual(page.bodies("/v1/chat/completions")[0]["mtp"], {"enabled": False, "origins": True})

    def test_what_is_out_of_range_is_said_and_not_sent(self):
        page = self.open(servers.scripted())
        for field, value, said in (("temperature", "-1", "A number, 0 to 100"), ("top_k", "1.5", "A whole number"), ("top_p", "2", "at most 1"), ("seed", "abc", "A whole number")):
            with self.subTest(field):
                element = page.set(field, value)
                self.assertEqual(element.get_attribute("aria-invalid"), "true")
                self.assertIn(said, page.text(f"#set-{field}-problem"))
        page.send("Hi")
        body = page.bodies("/v1/chat/completions")[0]
        self.assertFalse({"temperature", "top_k", "top_p", "seed"} & set(body))

    def test_tools_that_are_no_json_are_said_before_anything_is_sent(self):
        page = self.open(servers.scripted())
        page.set("tools", "[{")
        self.assertIn("Tools: no JSON", page.text("#settings"))
        page.send("Hi")
        self.assertIn("Correct them in the settings", page.text(".error"))
        self.assertEqual(page.bodies("/v1/chat/completions"), [])

    def test_defaults_of_the_model_stand_in_the_fields(self):
        page = self.open(servers.scripted())
        page.click("Settings")
        self.assertEqual(page.one("#set-temperature").get_attribute("placeholder"), "0.6")
        self.assertEqual(page.one("#set-top_k").get_attribute("placeholder"), "20")


if __name__ == "__main__":
    unittest.main()
