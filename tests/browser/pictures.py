"""Pictures of docs/page.md. Answers are a script's where they have to be certain ones; figures and texts of the comparison are the built-in model's."""

import io

import browser
import replies
import servers
from case import Shared
from PIL import Image

QUESTION = "How does multi-token prediction work?"
BEGINNING = "/// A point in the plane.\n#[derive(Debug, Clone, Copy, PartialEq)]\npub struct Point {\n    pub x: f64,\n"
MOST_BYTES = 150_000


def take(folder):
    folder.mkdir(parents=True, exist_ok=True)
    page = browser.Page(Shared.driver)
    for name, size, draw in PICTURES:
        page.size(*size, mobile=size == browser.PHONE)
        page.prefers(prefers_color_scheme="dark" if name == "dark" else "light")
        draw(page)
        # A caret that blinks, and a button under the pointer, would make each picture another one.
        page.js("document.activeElement.blur()")
        page.driver.execute_cdp_cmd("Input.dispatchMouseEvent", {"type": "mouseMoved", "x": size[0] // 2, "y": 20})
        page.driver.execute_async_script("setTimeout(arguments[0], 300)")
        save(page.driver.get_screenshot_as_png(), folder / f"page-{name}.png")


def save(png, path):
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    # Octets of colours rather than means: few pixels of a colour keep it.
    picture = picture.quantize(256, method=Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    picture.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{size:7} {path}")
    if size > MOST_BYTES:
        raise SystemExit(f"{path}: {size} bytes; at most {MOST_BYTES}")


def history(page, server):
    page.open(server)
    for question in ("Say hello", "emoji"):
        page.send(question)
        page.click("New chat")
        page.wait(lambda: not page.all(".message"))


def chat(page):
    history(page, servers.slow())
    page.send(QUESTION)
    page.js("document.querySelector('.scroller').scrollTop = 0")


def phone(page):
    page.open(servers.slow())
    page.send(QUESTION)
    page.js("document.querySelector('.scroller').scrollTop = 120")


def error(page):
    page.open(servers.slow())
    page.send("Please break off")


def call(page):
    page.open(servers.slow())
    page.set("tools", replies.WEATHER_TOOL)
    page.click("Close settings")
    page.send("What is the weather in Lisbon?")


def completion(page):
    page.open(servers.builtin())
    page.one(".paper-text").send_keys(BEGINNING)
    page.set("seed", "7")
    page.set("max_tokens", "160")
    page.click("Close settings")
    page.click("Show drafts")
    page.click("Complete")
    page.wait(lambda: page.all(".figures:not(.live)"))


def compare(page):
    page.open(servers.builtin())
    page.click("Compare")
    page.set("seed", "7")
    page.click("Close settings")
    page.send(BEGINNING, wait=False)
    page.wait(lambda: page.all(".compare-equal"))
    page.click("Show drafts")


def status(page):
    page.open(servers.builtin())
    page.wait(lambda: "verified" in page.text("#model"))
    page.press("#model")
    page.wait(lambda: "Requests" in page.text("dialog"))


PICTURES = [
    ("desktop", browser.DESKTOP, chat),
    ("dark", browser.DESKTOP, chat),
    ("phone", browser.PHONE, phone),
    ("error", browser.DESKTOP, error),
    ("call", browser.DESKTOP, call),
    ("completion", browser.DESKTOP, completion),
    ("compare", browser.DESKTOP, compare),
    ("status", browser.DESKTOP, status),
]
