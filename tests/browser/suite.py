"""The page of `mtplx serve` in a headless Chromium: every flow once.

    pip install selenium==4.51.0 pillow==13.0.0
    python suite.py --mtplx target/debug/mtplx --scripted target/debug/examples/scripted [-k PATTERN] [-v]
    python suite.py … --pictures docs/pictures

The script of `replies.py` answers where one certain answer is needed, the built-in model where texts are compared.
"""

import argparse
import importlib
import shutil
import sys
import tempfile
import time
import unittest
from pathlib import Path

MODULES = ["test_chat", "test_requests", "test_history", "test_safety", "test_views", "test_layout"]


class Timed(unittest.TextTestResult):
    """Results with the time that each test took."""

    seconds = {}

    def startTest(self, test):
        self.begun = time.monotonic()
        super().startTest(test)

    def stopTest(self, test):
        self.seconds[test.id()] = time.monotonic() - self.begun
        super().stopTest(test)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mtplx", required=True, type=Path, help="the program")
    parser.add_argument("--scripted", required=True, type=Path, help="the example `scripted`")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser")
    parser.add_argument("--chromedriver", default="/usr/bin/chromedriver", help="its driver")
    parser.add_argument("--pictures", type=Path, metavar="DIR", help="take the pictures of docs/page.md, and test nothing")
    parser.add_argument("-k", action="append", default=[], metavar="PATTERN", help="tests whose names hold PATTERN")
    parser.add_argument("-v", action="store_true", help="a line for each test")
    options = parser.parse_args()

    import browser
    import case
    import servers

    servers.Programs.mtplx = str(options.mtplx.resolve())
    servers.Programs.scripted = str(options.scripted.resolve())
    browser.Places.chromium, browser.Places.chromedriver = options.chromium, options.chromedriver
    case.Shared.downloads = Path(tempfile.mkdtemp(prefix="mtplx-downloads-"))
    case.Shared.driver = browser.start(case.Shared.downloads)
    try:
        if options.pictures:
            import pictures

            pictures.take(options.pictures)
            return 0
        loader = unittest.TestLoader()
        if options.k:
            loader.testNamePatterns = [f"*{pattern}*" for pattern in options.k]
        modules = [importlib.import_module(name) for name in MODULES]
        tests = unittest.TestSuite(loader.loadTestsFromModule(module) for module in modules)
        begun = time.monotonic()
        result = unittest.TextTestRunner(verbosity=2 if options.v else 1, resultclass=Timed).run(tests)
        if options.v:
            for name, seconds in sorted(Timed.seconds.items(), key=lambda entry: -entry[1])[:12]:
                print(f"{seconds:6.2f} s {name}")
        print(f"{result.testsRun} tests in {time.monotonic() - begun:.1f} s")
        return 0 if result.wasSuccessful() and result.testsRun else 1
    finally:
        case.Shared.driver.quit()
        shutil.rmtree(case.Shared.downloads, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
