"""A headless browser on the page, and what tests do with it."""

import json
import time

from selenium import webdriver
from selenium.common.exceptions import ElementNotInteractableException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

WAIT_SECONDS = 10
DESKTOP = (1280, 820)
PHONE = (390, 844)


BUTTON = """
return [...document.querySelectorAll(`${arguments[0]} button`)].find((button) => button.checkVisibility({ visibilityProperty: true })
  && (button.getAttribute('aria-label') ?? button.textContent.trim()) === arguments[1]) ?? null;
"""


class Places:
    """The browser and its driver; `suite.py` sets them."""

    chromium = "/usr/bin/chromium"
    chromedriver = "/usr/bin/chromedriver"


def start(downloads):
    options = webdriver.ChromeOptions()
    options.binary_location = Places.chromium
    # Continuous integration runs in containers, as root and with little shared memory.
    for flag in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--hide-scrollbars", "--lang=en"):
        options.add_argument(flag)
    options.add_argument(f"--window-size={DESKTOP[0]},{DESKTOP[1]}")
    options.add_experimental_option("prefs", {"download.default_directory": str(downloads)})
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(Places.chromedriver))
    driver.set_script_timeout(WAIT_SECONDS)
    return driver


class Page:
    """The page of one server, as a test found it: without a history."""

    def __init__(self, driver):
        self.driver = driver
        self.requests = []
        self.problems = []

    def open(self, server, fresh=True):
        self.url = server.url
        if fresh:
            self.driver.get("about:blank")
            self.driver.execute_cdp_cmd("Storage.clearDataForOrigin", {"origin": server.url, "storageTypes": "all"})
        self.driver.get(server.url)
        if fresh and self.js("const kept = sessionStorage.length; sessionStorage.clear(); return kept"):
            # The key of an earlier test belongs to the tab.
            self.driver.get(server.url)
        self.wait(lambda: self.all("#new-chat"), "the page did not start")
        return self

    def size(self, width, height, mobile=False, scale=1):
        metrics = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": mobile}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)

    def prefers(self, **features):
        listed = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": listed})

    def all(self, selector):
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        self.wait(lambda: self.all(selector), f"no {selector}")
        return self.all(selector)[0]

    def button(self, name, within="body"):
        """The visible button with this name."""
        return self.wait(lambda: self.js(BUTTON, within, name), f"no button {name!r}")

    def click(self, name, within="body"):
        def pressed():
            button = self.js(BUTTON, within, name)
            return button is not None and button.click() is None

        self.wait(pressed, f"no button {name!r}")

    def press(self, selector):
        """Clicks on the first element, which the page may be drawing anew."""
        self.wait(lambda: self.one(selector).click() is None)

    def wait(self, true, problem="it did not happen in time", seconds=WAIT_SECONDS):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                found = true()
            except (StaleElementReferenceException, ElementNotInteractableException):
                # The page draws anew meanwhile.
                found = None
            if found:
                return found
            time.sleep(0.03)
        raise AssertionError(f"{problem}; the page shows:\n{self.text('main')}")

    def js(self, code, *values):
        return self.driver.execute_script(code, *values)

    def text(self, selector):
        """The text of the elements, one a line, as it is on the screen."""
        return self.js("return [...document.querySelectorAll(arguments[0])].map((e) => e.innerText).join('\\n')", selector)

    def messages(self):
        return self.text(".message-body")

    def write(self, text):
        area = self.one(".composer-text")
        # Keys would be typed one by one, and an emoji is none. A field that was shown just now may take none yet.
        insert = "arguments[0].focus(); document.execCommand('insertText', false, arguments[1]); return arguments[0].value !== ''"
        self.wait(lambda: self.js(insert, area, text), "the field takes no text")
        return area

    def send(self, text, wait=True):
        self.write(text).send_keys(Keys.ENTER)
        if wait:
            self.answered()

    def answered(self):
        self.wait(lambda: self.all(".message.assistant") and not self.all(".message.is-running"), "the answer did not end")
        return self.text(".message.assistant:last-of-type .prose")

    def key(self, *keys):
        """Keys to whatever has the focus."""
        chain = webdriver.ActionChains(self.driver)
        for key in keys[:-1]:
            chain.key_down(key)
        chain.send_keys(keys[-1])
        for key in reversed(keys[:-1]):
            chain.key_up(key)
        chain.perform()

    def focused(self):
        return self.driver.switch_to.active_element

    def hover(self, selector):
        webdriver.ActionChains(self.driver).move_to_element(self.one(selector)).perform()

    def set(self, field, value):
        """Writes into a field of the settings, and opens them if they are not."""
        if not self.all("#settings:not([hidden])"):
            self.click("Settings")
        element = self.one(f"#set-{field}")
        if element.tag_name == "select":
            self.js("arguments[0].value = arguments[1]; arguments[0].dispatchEvent(new Event('change'))", element, value)
            return element
        element.clear()
        self.js("arguments[0].focus(); document.execCommand('insertText', false, arguments[1])", element, value)
        return element

    def drain(self):
        """Reads the browser's logs: its requests, and what it complains of."""
        for entry in self.driver.get_log("performance"):
            message = json.loads(entry["message"])["message"]
            if message["method"] == "Network.requestWillBeSent":
                self.requests.append(message["params"]["request"])
        self.problems += [entry["message"] for entry in self.driver.get_log("browser")]
        return self

    def bodies(self, route):
        """Bodies that were posted to a route, in their order."""
        self.drain()
        posted = [asked for asked in self.requests if asked["method"] == "POST" and asked["url"].endswith(route)]
        return [json.loads(asked["postData"]) for asked in posted]

    def picture(self, path):
        self.driver.save_screenshot(str(path))
