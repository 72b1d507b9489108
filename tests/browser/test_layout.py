"""Sizes, colours, names: a phone's width, dark and light, what screen readers are told."""

import unittest

import browser
import replies
import servers
from case import PageTest
from selenium.webdriver.common.keys import Keys

CONTROLS = ("button", "textbox", "searchbox", "combobox", "switch", "link", "DisclosureTriangle")
VIEWS = ("Completion", "Compare", "New chat")


class Phone(PageTest):
    def fits(self, page, what):
        width = page.js("return document.documentElement.scrollWidth")
        self.assertLessEqual(width, browser.PHONE[0], what)
        wide = page.js(
            "return [...document.querySelectorAll('main *, header *')].filter((e) => e.offsetParent && !e.closest('pre, .table-frame, .off-screen')"
            " && e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.className || e.tagName)"
        )
        self.assertEqual(wide, [], what)

    def test_nothing_is_wider_than_a_phone(self):
        page = self.open(servers.scripted())
        page.size(*browser.PHONE, mobile=True)
        page.send("How does multi-token prediction work? " + "w" * 200)
        self.fits(page, "chat")
        page.click("Show drafts")
        self.fits(page, "drafts")
        page.click("Show drafts")
        page.click("Settings")
        self.fits(page, "settings")
        page.key(Keys.ESCAPE)
        page.send("Please break off")
        self.fits(page, "error")
        for view in VIEWS:
            page.click("Show the list")
            page.click(view, "#sidebar")
            page.wait(lambda: page.js("return getComputedStyle(document.getElementById('sidebar')).visibility") == "hidden")
            self.fits(page, view)
        page.press("#model")
        page.wait(lambda: "Requests" in page.text("dialog"))
        self.fits(page, "status")

    def test_the_list_is_a_drawer(self):
        page = self.open(servers.scripted())
        page.size(*browser.PHONE, mobile=True)
        page.send("Hi")
        shown = lambda: page.js("return getComputedStyle(document.getElementById('sidebar')).visibility") == "visible"
        page.wait(lambda: not shown())
        menu = page.button("Show the list")
        menu.click()
        page.wait(shown)
        self.assertEqual(menu.get_attribute("aria-expanded"), "true")
        page.key(Keys.ESCAPE)
        page.wait(lambda: not shown())
        menu.click()
        page.wait(lambda: page.js("return document.getElementById('sidebar').getBoundingClientRect().left") == 0)
        page.press(".entry-open")
        page.wait(lambda: not shown())


class Colours(PageTest):
    def paper(self, page):
        return page.js("return getComputedStyle(document.body).backgroundColor")

    def test_dark_and_light(self):
        page = self.page
        page.prefers(prefers_color_scheme="dark")
        self.open(servers.scripted())
        dark = self.paper(page)
        page.prefers(prefers_color_scheme="light")
        page.wait(lambda: self.paper(page) != dark, "the page does not follow the system")
        light = self.paper(page)
        page.click("Dark colours")
        self.assertEqual(self.paper(page), dark)
        page.open(servers.scripted(), fresh=False)
        self.assertEqual(self.paper(page), dark)
        page.click("Light colours")
        self.assertEqual(self.paper(page), light)

    def test_contrast(self):
        """WCAG's 4.5 for text, on the grounds that it stands on."""
        page = self.open(servers.scripted())
        page.send("How does multi-token prediction work?")
        for scheme in ("light", "dark"):
            page.prefers(prefers_color_scheme=scheme)
            page.wait(lambda: page.js("return document.documentElement.dataset.theme") == scheme)
            for selector in (".figures .figure-label", ".figures .figure-value", ".bubble", ".prose p", ".reasoning summary", ".code-head", ".hljs-comment", ".hljs-keyword", ".hljs-title", ".hljs-type", "#new-chat", ".entry-title", ".history h3", "#model .verdict"):
                ratio = page.js(CONTRAST, selector)
                self.assertGreaterEqual(ratio, 4.5, (scheme, selector))

    def test_motion_is_reduced(self):
        page = self.page
        page.prefers(prefers_reduced_motion="reduce")
        self.open(servers.slow())
        page.send("Tell me a long story", wait=False)
        moving = page.js("return document.getAnimations().length")
        self.assertEqual(moving, 0)
        page.key(Keys.ESCAPE)
        page.answered()


CONTRAST = """
const canvas = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
const rgba = (colour) => { canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); return [...canvas.getImageData(0, 0, 1, 1).data]; };
const element = document.querySelector(arguments[0]);
const grounds = [];
for (let e = element; e; e = e.parentElement) grounds.unshift(rgba(getComputedStyle(e).backgroundColor));
let ground = [255, 255, 255];
for (const [r, g, b, a] of grounds) ground = ground.map((old, i) => old + ([r, g, b][i] - old) * a / 255);
const luminance = (rgb) => { const [r, g, b] = rgb.map((c) => { c /= 255; return c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
const [one, other] = [luminance(rgba(getComputedStyle(element).color).slice(0, 3)), luminance(ground)].sort((a, b) => b - a);
return (one + 0.05) / (other + 0.05);
"""


class Names(PageTest):
    def test_every_control_has_a_name_and_the_page_has_landmarks(self):
        page = self.open(servers.scripted())
        page.set("tools", replies.WEATHER_TOOL)
        page.send("Please read the file")
        for view in (None, *VIEWS):
            if view:
                page.click(view, "#sidebar")
            nodes = page.driver.execute_cdp_cmd("Accessibility.getFullAXTree", {})["nodes"]
            controls = [node for node in nodes if not node["ignored"] and node["role"]["value"] in CONTROLS]
            self.assertGreater(len(controls), 10)
            nameless = [node for node in controls if not node.get("name", {}).get("value", "").strip()]
            self.assertEqual(nameless, [], view)
        for landmark in ("main", "header", "nav[aria-label]", "aside[aria-label]", "h1"):
            self.assertTrue(page.all(landmark), landmark)
        self.assertEqual(page.js("return document.getElementById('announcer').getAttribute('aria-live')"), "polite")
        self.assertEqual(page.js("return document.documentElement.lang"), "en")

    def test_screen_readers_hear_begin_and_end_and_not_each_token(self):
        page = self.open(servers.scripted())
        page.js(
            "window.said = []; new MutationObserver(() => { const t = document.getElementById('announcer').textContent; if (t) said.push(t); })"
            ".observe(document.getElementById('announcer'), { childList: true })"
        )
        page.send("How does multi-token prediction work?")
        page.wait(lambda: any(text.startswith("Answer complete") for text in page.js("return said")))
        self.assertLessEqual(len(page.js("return said")), 2)
        self.assertEqual(page.one(".messages").get_attribute("aria-live"), "off")


if __name__ == "__main__":
    unittest.main()
