"""The history: rename, delete, search, reload, export and import."""

import json
import tempfile
import unittest
from pathlib import Path

import servers
from case import PageTest, Shared
from selenium.webdriver.common.keys import Keys


def titles(page):
    return page.text(".entry-title").split("\n") if page.all(".entry-title") else []


def upload(page, text):
    folder = tempfile.mkdtemp(dir=Shared.downloads)
    path = Path(folder) / "import.json"
    path.write_text(text)
    page.one("#import-file").send_keys(str(path))


def kept(page):
    """All conversations, as the browser has them."""
    return page.driver.execute_async_script(
        "const done = arguments[0]; import('/page/store.js').then(async (store) => done(await store.all()))"
    )


class History(PageTest):
    def two(self):
        page = self.open(servers.scripted())
        page.send("How does multi-token prediction work?")
        page.click("New chat")
        page.send("Say hello")
        return page

    def test_rename_delete_search(self):
        page = self.two()
        self.assertEqual(titles(page), ["Say hello", "How does multi-token prediction work?"])
        page.one(".entry.current .entry-open").send_keys(Keys.F2)
        # The old title is selected, so that typing replaces it.
        page.one(".entry-field").send_keys("Greetings <b>", Keys.ENTER)
        page.wait(lambda: titles(page)[0] == "Greetings <b>")
        self.assertEqual(page.text("#title"), "Greetings <b>")

        # The search looks into the messages.
        page.one("#search").send_keys("trunk computes")
        page.wait(lambda: titles(page) == ["How does multi-token prediction work?"])
        page.one("#search").send_keys("xyz")
        page.wait(lambda: "Nothing holds" in page.text(".history"))
        page.one("#search").clear()
        page.one("#search").send_keys(" ", Keys.BACKSPACE)
        page.wait(lambda: len(titles(page)) == 2)

        page.hover(".entry.current")
        page.click("Delete Greetings <b>")
        page.click("Cancel", "dialog")
        page.wait(lambda: not page.all("dialog"))
        self.assertEqual(len(titles(page)), 2)
        page.one(".entry.current .entry-open").send_keys(Keys.DELETE)
        page.click("Delete", "dialog")
        page.wait(lambda: titles(page) == ["How does multi-token prediction work?"])
        self.assertFalse(page.all(".message"))
        page.open(servers.scripted(), fresh=False)
        page.wait(lambda: titles(page) == ["How does multi-token prediction work?"])

    def test_a_reload_in_mid_answer_keeps_what_was_saved(self):
        page = self.open(servers.slow())
        page.send("Tell me a long story", wait=False)
        page.wait(lambda: "Sentence 9" in page.messages())
        page.open(servers.slow(), fresh=False)
        page.click("Tell me a long story", "#sidebar")
        self.assertIn("The page was closed before this answer ended", page.text(".error"))

    def test_export_and_import(self):
        page = self.two()
        before = kept(page)
        page.click("Export all conversations")
        found = page.wait(lambda: list(Shared.downloads.glob("mtplx-conversations-*.json")), "no file")
        page.wait(lambda: found[0].stat().st_size > 100)
        text = found[0].read_text()
        found[0].unlink()
        document = json.loads(text)
        self.assertEqual((document["format"], document["version"]), ("mtplx-conversations", 1))

        page.open(servers.scripted())
        self.assertEqual(titles(page), [])
        upload(page, text)
        page.wait(lambda: len(titles(page)) == 2, "nothing was imported")
        by_id = lambda list_: {entry["id"]: entry for entry in list_}
        for id_, entry in by_id(before).items():
            again = by_id(kept(page))[id_]
            self.assertEqual(again["title"], entry["title"])
            for one, other in zip(again["nodes"], entry["nodes"], strict=True):
                self.assertEqual({k: one.get(k) for k in ("id", "parent", "role", "content", "tokens", "figures")}, {k: other.get(k) for k in ("id", "parent", "role", "content", "tokens", "figures")})
        page.click("How does multi-token prediction work?", "#sidebar")
        self.assertIn("Drafts without a difference", page.messages())
        # A second time it stands beside the first: nothing is overwritten.
        upload(page, text)
        page.wait(lambda: len(titles(page)) == 4)

    def test_completions_comparisons_and_failed_answers_come_back(self):
        page = self.two()
        base = kept(page)[0]
        run = {"content": "text", "reasoning": "", "calls": [], "tokens": [], "figures": None, "finish": "stop", "error": None, "remark": None, "seed": 7}
        failed = {**base["nodes"][0], "id": "failed", "parent": None, "role": "assistant", "content": "", "error": "It failed.", "figures": None, "tokens": [], "calls": []}
        entries = [
            {**base, "id": "one", "title": "A comparison", "kind": "compare", "text": "fn", "nodes": [], "chosen": {}, "runs": [{**run, "mtp": True}, {**run, "mtp": False}]},
            {**base, "id": "two", "title": "A completion", "kind": "completion", "text": "fn", "nodes": [], "chosen": {}, "runs": [run]},
            {**base, "id": "three", "title": "A failure", "nodes": [failed], "chosen": {"": "failed"}},
        ]
        upload(page, json.dumps({"format": "mtplx-conversations", "version": 1, "conversations": entries}))
        page.wait(lambda: len(titles(page)) == 5, "not imported")
        page.click("A comparison", "#sidebar")
        page.wait(lambda: "The texts are equal" in page.text(".compare"))
        again = {entry["title"]: entry for entry in kept(page)}
        self.assertEqual([run["content"] for run in again["A comparison"]["runs"]], ["text", "text"])
        self.assertEqual(again["A failure"]["nodes"][0]["error"], "It failed.")

    def test_a_bad_file_is_refused_and_nothing_is_lost(self):
        page = self.two()
        before = kept(page)
        good = before[0]
        wrong = lambda **fields: json.dumps({"format": "mtplx-conversations", "version": 1, "conversations": [good, {**before[1], **fields}]})
        node = before[1]["nodes"][0]
        cycle = [{**node, "id": "a", "parent": "b"}, {**node, "id": "b", "parent": "a"}]
        files = {
            "no JSON": "{oops",
            'format: expected "mtplx-conversations"': "[]",
            "version: expected 1": json.dumps({"format": "mtplx-conversations", "version": 2, "conversations": []}),
            "conversations: expected a list": json.dumps({"format": "mtplx-conversations", "version": 1}),
            "conversations[1].kind": wrong(kind="other"),
            "conversations[1].id": wrong(id='"><img src=x>'),
            "conversations[1].nodes[0].content: expected a text": wrong(nodes=[{**node, "content": 5}]),
            "conversations[1].nodes[0].parent": wrong(nodes=cycle),
            "conversations[1].settings.mtp": wrong(settings={"mtp": "yes"}),
            "conversations[1].settings.depth: expected a number from 0 to 8": wrong(settings={"depth": 99}),
            "conversations[1].settings.temperature: expected a number": wrong(settings={"temperature": -5}),
            "conversations[1].runs[0].content: expected a text": wrong(runs=[{"mtp": True}]),
        }
        for said, text in files.items():
            with self.subTest(said):
                upload(page, text)
                page.wait(lambda: said in page.text("dialog"), f"not said: {said}")
                page.click("OK", "dialog")
                page.wait(lambda: not page.all("dialog"))
        self.assertEqual(kept(page), before)
        self.assertEqual(len(titles(page)), 2)


if __name__ == "__main__":
    unittest.main()
