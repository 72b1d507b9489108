"""What every test has: the page, and a look at what the browser asked for and complained of."""

import unittest
from urllib.parse import urlsplit

import browser


class Shared:
    """The browser of all tests."""

    driver = None
    downloads = None


class PageTest(unittest.TestCase):
    """A test with a page, which at its end has asked nobody but its server."""

    # Complaints of the browser that belong to the test, such as a refused request.
    expected_problems = ()

    def setUp(self):
        Shared.driver.get("about:blank")
        self.page = browser.Page(Shared.driver)
        self.page.size(*browser.DESKTOP)
        self.page.prefers()
        self.page.drain()
        self.page.requests.clear()
        self.page.problems.clear()

    def open(self, server, **options):
        return self.page.open(server, **options)

    def tearDown(self):
        if not hasattr(self.page, "url"):
            return
        self.page.drain()
        own = urlsplit(self.page.url).netloc
        for request in self.page.requests:
            address = urlsplit(request["url"])
            self.assertTrue(address.scheme in ("data", "blob") or address.netloc == own, f"asked {request['url']}")
        left = [text for text in self.page.problems if not any(part in text for part in self.expected_problems)]
        self.assertEqual(left, [], "the browser complains")
