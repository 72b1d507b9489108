"""The chat: send, stream, stop, retry, edit, branches, copy, reasoning, calls, errors, keyboard."""

import time
import unittest

import replies
import servers
from case import PageTest
from selenium.webdriver.common.keys import Keys


class Answers(PageTest):
    def test_an_answer_streams_as_markdown_with_live_figures(self):
        page = self.open(servers.slow())
        page.send("How does multi-token prediction work?", wait=False)
        page.wait(lambda: page.all(".message.is-running .figures.live .depths") and "tok/s" in page.text(".figures"), "no live figures")
        live = page.text(".message.is-running .figures")
        for words in ("tok/s", "to the first token", "tokens", "of 4\u202f096 context", "accepted by depth"):
            self.assertIn(words, live)
        early = page.text(".message.assistant")
        self.assertTrue(page.all(".send.is-stop"))
        page.answered()
        self.assertLess(len(early), len(page.text(".message.assistant")))
        prose = page.one(".message.assistant .prose")
        self.assertEqual(prose.find_element("css selector", "h2").text, "Drafts without a difference")
        self.assertEqual(len(prose.find_elements("css selector", "ol > li")), 3)
        self.assertEqual(prose.find_element("css selector", "td.align-right").text, "92 %")
        self.assertTrue(prose.find_elements("css selector", "code.language-rust .hljs-keyword"))
        figures = page.text(".message.assistant .figures")
        for words in ("tok/s", "tokens a round", "% accepted by depth"):
            self.assertIn(words, figures)
        self.assertNotIn("live", page.one(".message.assistant .figures").get_attribute("class"))
        self.assertEqual(page.text("#title"), "How does multi-token prediction work?")
        self.assertIn("Answer complete", page.js("return document.getElementById('announcer').textContent"))

    def test_live_figures_are_those_of_the_end(self):
        page = self.open(servers.scripted())
        page.send("How does multi-token prediction work?")
        found = page.driver.execute_async_script(
            """const done = arguments[0];
            Promise.all([import('/page/meter.js'), import('/page/generate.js')]).then(async ([meter, generate]) => {
              const own = new meter.Meter();
              const take = meter.Meter.prototype.take;
              meter.Meter.prototype.take = function (tokens) { take.call(own, tokens); return take.call(this, tokens); };
              const answer = generate.emptyAnswer();
              const settings = { mtp: true, depth: null, thinking: null, tools: '', temperature: null, top_p: null, top_k: null,
                min_p: null, repetition_penalty: null, seed: null, max_tokens: null };
              const body = { ...generate.chatFields(settings), messages: [{ role: 'user', content: 'multi-token' }] };
              await generate.generate('/v1/chat/completions', body, answer, () => {}, undefined);
              meter.Meter.prototype.take = take;
              done([own.figures(), answer.figures, answer.tokens.map((token) => token.text).join('') === answer.content]);
            });"""
        )
        live, end, whole = found
        for taken, exact in zip(live["accepted"], end["accepted"], strict=True):
            self.assertLessEqual(abs(taken - exact), 1)
        # The stop token is a token, and has no text of its own.
        self.assertLessEqual(abs(live["completion_tokens"] - end["completion_tokens"]), 1)
        for drafted, exact in zip(live["drafted"], end["drafted"], strict=True):
            self.assertLessEqual(abs(drafted - exact), 1)
        self.assertTrue(whole, "the tokens' texts are not the text")

    def test_reasoning_is_folded(self):
        page = self.open(servers.scripted())
        page.send("How does multi-token prediction work?")
        details = page.one("details.reasoning")
        self.assertIsNone(details.get_attribute("open"))
        self.assertIn("Reasoning (22 words)", details.text)
        self.assertNotIn("two steps", page.text(".message.assistant"))
        details.find_element("css selector", "summary").click()
        self.assertIn("two steps", page.text("details.reasoning"))

    def test_stop_keeps_what_came(self):
        page = self.open(servers.slow())
        for stop in ("button", "key"):
            with self.subTest(stop):
                page.click("New chat")
                page.send("Tell me a long story", wait=False)
                page.wait(lambda: "Sentence 3" in page.messages())
                page.click("Stop") if stop == "button" else page.key(Keys.ESCAPE)
                page.answered()
                self.assertIn("Stopped.", page.messages())
                kept = page.text(".message.assistant .prose")
                time.sleep(0.3)
                self.assertEqual(page.text(".message.assistant .prose"), kept)
                self.assertNotIn("Sentence 399", kept)

    def test_parts_of_a_character_become_one(self):
        page = self.open(servers.scripted())
        page.send("emoji")
        self.assertEqual(page.text(".message.assistant .prose"), "Crab 🦀, wörld, 日本語.")

    def test_copy(self):
        page = self.open(servers.scripted())
        page.driver.execute_cdp_cmd(
            "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"], "origin": page.url}
        )
        clipboard = lambda: page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
        page.send("How does multi-token prediction work?")
        page.click("Copy message", ".message.assistant .message-foot")
        page.wait(lambda: clipboard().strip() == replies.EXPLANATION.strip(), "the message was not copied")
        page.click("Copy code", ".code-block")
        page.wait(lambda: clipboard().startswith("/// True where"), "the code was not copied")
        self.assertEqual(page.text(".code-copy"), "Copied")
        page.click("Copy message", ".message.user")
        page.wait(lambda: clipboard() == "How does multi-token prediction work?")


class Branches(PageTest):
    def test_edit_and_retry_make_branches(self):
        page = self.open(servers.scripted())
        page.send("How does multi-token prediction work?")
        page.send("A second question")
        self.assertIn("The second answer.", page.messages())
        page.click("Edit message", ".message.user:first-child")
        editor = page.one(".editor-text")
        self.assertEqual(editor.get_attribute("value"), "How does multi-token prediction work?")
        editor.clear()
        editor.send_keys("Say hello instead", Keys.ENTER)
        page.wait(lambda: "Hello! Ask me anything." in page.messages())
        page.answered()
        self.assertEqual(len(page.all(".message")), 2)
        self.assertEqual(page.text(".message.user .branch-place"), "2/2")
        # The request has this branch alone.
        self.assertEqual(page.bodies("/v1/chat/completions")[-1]["messages"], [{"role": "user", "content": "Say hello instead"}])

        page.click("Answer again")
        page.wait(lambda: page.text(".message.assistant .branch-place") == "2/2")
        page.answered()

        page.click("Earlier branch", ".message.user")
        page.wait(lambda: len(page.all(".message")) == 4)
        self.assertIn("The second answer.", page.messages())
        self.assertEqual(page.text(".message.user:first-child .branch-place"), "1/2")
        # A reload finds the same branch.
        page.open(servers.scripted(), fresh=False)
        page.click("How does multi-token prediction work?", "#sidebar")
        self.assertIn("The second answer.", page.messages())
        page.click("Later branch", ".message.user")
        page.wait(lambda: len(page.all(".message")) == 2)

    def test_an_edit_can_be_called_off(self):
        page = self.open(servers.scripted())
        page.send("Hi")
        page.click("Edit message")
        page.one(".editor-text").send_keys("xx", Keys.ESCAPE)
        self.assertEqual(page.text(".bubble"), "Hi")
        self.assertFalse(page.all(".branches"))


class Calls(PageTest):
    def test_a_call_is_shown_and_its_result_goes_back(self):
        page = self.open(servers.scripted())
        page.set("tools", replies.WEATHER_TOOL)
        page.send("Please read the file")
        self.assertEqual(page.text(".call-head code"), "read_file")
        self.assertIn('"path": "src/main.rs"', page.text(".call pre"))
        page.one(".results textarea").send_keys("42 lines")
        page.click("Send the result")
        page.wait(lambda: "The file has 42 lines." in page.messages())
        page.answered()
        first, second = page.bodies("/v1/chat/completions")
        self.assertEqual([tool["function"]["name"] for tool in first["tools"]], ["get_weather", "read_file"])
        call, result = second["messages"][-2:]
        self.assertEqual(call["tool_calls"][0]["function"]["name"], "read_file")
        self.assertEqual((result["role"], result["content"]), ("tool", "42 lines"))
        self.assertEqual(result["tool_call_id"], call["tool_calls"][0]["id"])

    def test_arguments_stream(self):
        page = self.open(servers.slow())
        page.set("tools", replies.WEATHER_TOOL)
        page.send("What is the weather in Lisbon?", wait=False)
        page.wait(lambda: page.all(".message.is-running .call"), "the call is not shown while it streams")
        page.answered()
        self.assertIn('"city": "Lisbon"', page.text(".call pre"))


class Errors(PageTest):
    expected_problems = ("400 (Bad Request)", "401 (Unauthorized)", "ERR_CONNECTION_REFUSED", "500 (Internal", "ERR_INCOMPLETE", "ERR_CONNECTION_RESET")

    def test_an_error_in_mid_answer_keeps_it_and_offers_another(self):
        page = self.open(servers.scripted())
        page.send("Please break off")
        self.assertIn("This answer goes well until", page.messages())
        self.assertIn("What came so far is kept", page.text(".error"))
        page.click("Retry", ".error")
        page.wait(lambda: page.text(".message.assistant .branch-place") == "2/2")

    def test_a_context_that_is_full(self):
        page = self.open(servers.scripted())
        page.send("word " * 5000)
        self.assertIn("maximum context length is 4096 tokens", page.text(".error"))
        self.assertIn("Start a new chat", page.text(".error"))

    def test_a_server_that_is_gone_and_comes_back(self):
        server = servers.script()
        page = self.open(server)
        page.send("Hi")
        server.process.kill()
        server.process.wait()
        page.send("Hi again")
        self.assertIn("The server does not answer. Start it again, then press Retry.", page.text(".error"))
        server.start(str(server.port))
        page.click("Retry", ".error")
        page.wait(lambda: page.text(".message.assistant:last-child .branch-place") == "2/2")
        page.answered()
        self.assertFalse(page.all(".error"))
        server.stop()

    def test_the_key_is_asked_for_and_kept_in_the_tab(self):
        page = self.open(servers.with_key())
        field = page.one("#key-field")
        field.send_keys("wrong", Keys.ENTER)
        page.wait(lambda: "The key was wrong" in page.text("dialog"))
        page.one("#key-field").send_keys("sesame")
        page.click("Use this key")
        page.wait(lambda: "scripted" in page.text("#model"))
        page.send("Hi")
        self.assertIn("Hello! Ask me anything.", page.messages())
        self.assertEqual(page.js("return Object.values(sessionStorage)"), ["sesame"])
        self.assertNotIn("sesame", page.js("return JSON.stringify(localStorage)"))
        # A reload of the tab needs no key; who closes the question is told what to do.
        page.open(servers.with_key(), fresh=False)
        page.wait(lambda: "verified" in page.text("#model"))
        self.assertFalse(page.all("dialog"))
        page.open(servers.with_key())
        page.one("#key-field")
        page.click("Cancel", "dialog")
        page.wait(lambda: "key wanted" in page.text("#model") and not page.all("dialog"))
        page.write("Hi").send_keys(Keys.ENTER)
        page.click("Cancel", "dialog")
        page.answered()
        self.assertIn("The server wants its key", page.text(".error"))


class Keyboard(PageTest):
    def test_keys(self):
        page = self.open(servers.scripted())
        area = page.one(".composer-text")
        self.assertEqual(page.focused(), area)
        area.send_keys("one", Keys.SHIFT, Keys.ENTER, Keys.NULL, "two")
        self.assertEqual(area.get_attribute("value"), "one\ntwo")
        area.send_keys(Keys.ENTER)
        page.answered()
        self.assertEqual(page.text(".bubble"), "one\ntwo")
        page.key(Keys.CONTROL, "k")
        page.wait(lambda: not page.all(".message"))
        self.assertEqual(page.focused(), page.one(".composer-text"))
        page.send("three")
        search = page.one("#search")
        search.click()
        page.key(Keys.ARROW_DOWN)
        self.assertIn("three", page.focused().text)
        page.key(Keys.ARROW_DOWN)
        self.assertIn("one", page.focused().text)
        outline = page.js("return getComputedStyle(document.activeElement).outlineStyle")
        self.assertEqual(outline, "solid", "the focus is not to be seen")
        page.key(Keys.ENTER)
        page.wait(lambda: page.text(".bubble") == "one\ntwo")
        page.one("#search").click()
        page.key(Keys.ARROW_DOWN)
        page.key(Keys.END)
        self.assertIn("one", page.focused().text)
        page.key(Keys.HOME)
        page.key(Keys.ARROW_UP)
        self.assertEqual(page.focused(), search)


if __name__ == "__main__":
    unittest.main()
