"""Text of a model is text: nothing in it runs, and nothing is loaded for it."""

import re
import unittest
import urllib.error
import urllib.request

import replies
import servers
from case import PageTest


class Attacks(PageTest):
    def check(self, page):
        page.driver.execute_async_script("setTimeout(arguments[0], 300)")
        self.assertIsNone(page.js("return window.pwned ?? null"))
        for name in ("script:not([src='/page/app.js'])", "style", "iframe", "object", "embed", "form", "base", "meta[http-equiv]", "link[href*=invalid]"):
            self.assertEqual(page.all(name), [], name)
        self.assertEqual(page.all("main img, main svg:not(.icon)"), [])
        loose = page.js(
            "return [...document.querySelectorAll('*')].flatMap((e) => [...e.attributes])"
            ".filter((a) => /^on/i.test(a.name)).map((a) => a.name + '=' + a.value)"
        )
        self.assertEqual(loose, [])
        links = page.js("return [...document.querySelectorAll('main a')].map((a) => [a.getAttribute('href'), a.rel, a.target])")
        for address, rel, target in links:
            self.assertRegex(address, r"^(https?://|mailto:)")
            self.assertIn("noopener", rel)
            self.assertEqual(target, "_blank")
        page.drain()
        self.assertFalse([asked["url"] for asked in page.requests if replies.HOST in asked["url"]])
        return [address for address, _, _ in links]

    def test_an_answer_full_of_attacks(self):
        page = self.open(servers.brisk())
        page.send(f"Please attack me {replies.EVIL}")
        page.one("details.reasoning summary").click()
        links = self.check(page)
        self.assertIn("https://example.org/page", links)
        self.assertIn("https://example.org/auto", links)
        self.assertIn("mailto:a@example.org", links)
        # Pictures are links with their words; a click alone would ask their host.
        self.assertIn(f"https://{replies.HOST}/picture.png", links)
        text = page.text("main")
        self.assertIn("<script>window.pwned = \"script\"</script>", text)
        self.assertIn("[script link](javascript:window.pwned='link')", text)
        self.assertIn("Text behind.", text)
        # As tokens, and as the title in the list.
        page.click("Show drafts")
        self.check(page)
        page.click("Show drafts")
        page.open(servers.brisk(), fresh=False)
        page.press(".entry-open")
        self.check(page)

    def test_a_call_and_its_result(self):
        page = self.open(servers.scripted())
        page.set("tools", replies.WEATHER_TOOL)
        page.send("attack by call")
        self.assertIn("onerror", page.text(".call pre"))
        page.one(".results textarea").send_keys(replies.EVIL)
        page.click("Send the result")
        page.answered()
        self.check(page)

    def test_a_title_and_an_error(self):
        page = self.open(servers.scripted())
        page.send(replies.EVIL)
        page.set("tools", replies.EVIL)
        page.send("Hi")
        self.assertIn("Tools: no JSON", page.text(".error"))
        self.check(page)


class Headers(PageTest):
    def test_the_policy(self):
        page = self.open(servers.with_key())
        page.click("Cancel", "dialog")
        answer = urllib.request.urlopen(page.url)
        policy = answer.headers["content-security-policy"]
        for part in ("default-src 'self'", "img-src 'self' data:", "base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'"):
            self.assertIn(part, policy)
        self.assertNotIn("unsafe", policy)
        self.assertEqual(answer.headers["x-content-type-options"], "nosniff")
        self.assertEqual(answer.headers["referrer-policy"], "no-referrer")
        # The files are open, everything else is not.
        names = re.findall(r"(?:src|href)=\"(/page/[^\"]+)\"", answer.read().decode())
        self.assertGreaterEqual(len(names), 4)
        for name in names:
            self.assertEqual(urllib.request.urlopen(page.url + name).status, 200)
        for closed in ("/status", "/v1/models", "/metrics"):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                urllib.request.urlopen(page.url + closed)
            self.assertEqual(refused.exception.code, 401)

    expected_problems = ("401 (Unauthorized)", "Refused to execute", "Executing inline", "violates the following Content Security Policy")

    def test_the_browser_keeps_the_policy(self):
        page = self.open(servers.scripted())
        page.js("const s = document.createElement('script'); s.textContent = 'window.pwned = 1'; document.body.append(s)")
        self.assertIsNone(page.js("return window.pwned ?? null"))


if __name__ == "__main__":
    unittest.main()
