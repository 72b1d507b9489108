"""Completion, comparison, tinted drafts, status: on the built-in model, whose texts are its own."""

import unittest

import servers
from case import PageTest
from selenium.webdriver.common.keys import Keys


class Completion(PageTest):
    def test_a_model_for_raw_text_begins_with_it(self):
        page = self.open(servers.builtin())
        area = page.one(".paper-text")
        area.send_keys("fn main() {")
        page.set("max_tokens", "24")
        page.set("seed", "5")
        page.click("Complete")
        ended = lambda: page.wait(lambda: page.all(".paper .figures:not(.live)") and page.button("Complete").is_displayed())
        ended()
        text = area.get_attribute("value")
        self.assertTrue(text.startswith("fn main() {") and len(text) > 20, text)
        self.assertRegex(page.text(".figures"), r"\b24\s+tokens")
        body = page.bodies("/v1/completions")[0]
        self.assertEqual((body["prompt"], body["max_tokens"], body["seed"]), ("fn main() {", 24, 5))

        page.click("Undo")
        self.assertEqual(area.get_attribute("value"), "fn main() {")
        area.send_keys(Keys.CONTROL, Keys.ENTER, Keys.NULL)
        page.wait(lambda: area.get_attribute("value") == text, "the same seed gave another text")
        ended()
        page.click("Retry")
        page.wait(lambda: page.text(".figures") and area.get_attribute("value") == text)
        ended()

        page.click("Show drafts")
        tints = page.one(".paper-tints")
        self.assertEqual(page.js("return arguments[0].textContent", tints), text)
        self.assertTrue(page.all(".paper-tints .draft-1"))
        self.assertIn("draft accepted at depth 1", page.text(".legend"))
        drafts = page.js("return document.querySelectorAll('.paper-tints [class*=draft-]').length")
        accepted = page.js("return document.querySelector('.depths').getAttribute('aria-label')")
        self.assertEqual(drafts, sum(int(part.split(" of ")[0]) for part in accepted.split(": ")[1:]))
        page.click("Show drafts")
        page.open(servers.builtin(), fresh=False)
        page.press(".entry-open")
        self.assertEqual(page.one(".paper-text").get_attribute("value"), text)

    def test_it_stops(self):
        page = self.open(servers.builtin())
        page.one(".paper-text").send_keys("for i in")
        page.set("max_tokens", "1500")
        page.click("Complete")
        page.wait(lambda: page.all(".figures.live") and "tok/s" in page.text(".figures"))
        page.key(Keys.ESCAPE)
        page.wait(lambda: "Stopped." in page.text(".paper"))
        self.assertEqual(page.wait(lambda: page.text("#model") and page.js("return fetch('/health').then((r) => r.json())"))["model"], "builtin")


class Comparison(PageTest):
    def test_one_seed_gives_one_text_both_ways(self):
        page = self.open(servers.builtin())
        page.wait(lambda: "verified" in page.text("#model"))
        page.click("Compare")
        page.set("max_tokens", "64")
        page.send("def add(a, b):", wait=False)
        page.wait(lambda: page.all(".compare-equal, .compare-differs"), "no verdict", 60)
        self.assertEqual(page.text(".compare-equal"), "The texts are equal.")
        on, off = [column.text for column in page.all(".compare-text")]
        self.assertTrue(on)
        self.assertEqual(on, off)
        self.assertRegex(page.text(".compare-ratio"), r"^\d+\.\d\d × the speed: [\d.]+ against [\d.]+ tok/s$")
        warm_up, with_drafts, without = page.bodies("/v1/completions")
        self.assertEqual((warm_up["max_tokens"], warm_up["prompt"]), (16, "def add(a, b):"))
        self.assertEqual(with_drafts["mtp"], {"enabled": True, "acceptance": "coupled", "origins": True})
        self.assertEqual(without["mtp"], {"enabled": False, "acceptance": "coupled", "origins": True})
        self.assertEqual({**with_drafts, "mtp": 0}, {**without, "mtp": 0})
        self.assertIsInstance(with_drafts["seed"], int)
        self.assertEqual(page.text(".compare-text:first-child"), page.text(".compare-text:first-child"))
        columns = page.all(".compare-column")
        self.assertTrue(columns[0].find_elements("css selector", ".depths"))
        self.assertFalse(columns[1].find_elements("css selector", ".depths"))
        page.click("Show drafts")
        self.assertTrue(page.all(".compare-column:first-child .draft-1"))
        self.assertFalse(page.all(".compare-column:last-child [class*=draft-]"))
        page.click("Show drafts")
        page.open(servers.builtin(), fresh=False)
        page.click("def add(a, b):", "#sidebar")
        self.assertEqual(page.text(".compare-equal"), "The texts are equal.")

    def test_a_chat_model_is_compared_in_its_chat(self):
        page = self.open(servers.scripted())
        page.click("Compare")
        page.send("How does multi-token prediction work?", wait=False)
        page.wait(lambda: page.all(".compare-equal"))
        self.assertEqual(len(page.all(".compare-text h2")), 2)

    def test_the_first_difference_is_found(self):
        page = self.open(servers.scripted())
        cases = [["same", "same", None], ["abc", "abd", 2], ["ab", "abc", 2], ["abc", "ab", 2], ["", "", None], ["🦀a", "🦀b", 1]]
        found = page.driver.execute_async_script(
            "const done = arguments[1]; import('/page/compare.js').then((m) => done(arguments[0].map(([a, b]) => m.difference(a, b))))", cases
        )
        self.assertEqual(found, [place for _, _, place in cases])

    def test_a_comparison_that_differs_says_where(self):
        page = self.open(servers.scripted())
        page.click("Compare")
        page.send("Hi", wait=False)
        page.wait(lambda: page.all(".compare-equal"))
        page.driver.execute_async_script(
            "const done = arguments[0]; import('/page/store.js').then(async (store) => { const [one] = await store.all();"
            "one.runs[1].content = one.runs[1].content.replace('Ask', 'Tell'); await store.put(one); done(); })"
        )
        page.open(servers.scripted(), fresh=False)
        page.click("Hi", "#sidebar")
        self.assertIn("The texts differ from character", page.text(".compare-differs"))
        self.assertFalse(page.all(".compare-equal"))


class Drafts(PageTest):
    def test_tokens_are_tinted_by_their_origin(self):
        page = self.open(servers.scripted())
        page.send("How does multi-token prediction work?")
        page.click("Show drafts")
        origins = page.js("return [...new Set([...document.querySelectorAll('.tinted .token')].map((e) => e.className))].sort()")
        self.assertEqual(origins, ["token draft-1", "token recovered"])
        self.assertIn("drawn in place of a draft", page.text(".legend"))
        self.assertIn("## Drafts without a difference", page.text(".tinted"))
        tints = page.js("return ['draft-1', 'recovered'].map((c) => getComputedStyle(document.querySelector('.tinted .' + c)).backgroundColor)")
        self.assertEqual(len(set(tints)), 2)
        page.click("Show drafts")
        self.assertTrue(page.all(".prose h2"))


class Status(PageTest):
    def test_the_panel(self):
        page = self.open(servers.builtin())
        page.wait(lambda: "verified" in page.text("#model"))
        page.press("#model")
        page.wait(lambda: "Requests" in page.text("dialog"))
        said = page.text("dialog")
        for words in ("builtin", "verified", "2\u202f048 tokens", "Weights", "MB in use", "0 running, 0 queued", "CPU", "raw text", "ready", "mtplx "):
            self.assertIn(words, said)
        page.key(Keys.ESCAPE)
        page.wait(lambda: not page.all("dialog"))


if __name__ == "__main__":
    unittest.main()
