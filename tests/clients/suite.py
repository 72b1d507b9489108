"""Behaviour of `mtplx serve` as the official `openai`, `anthropic` and `ollama` clients see it.

    pip install openai==3.57.0 anthropic==2.14.0 ollama==0.6.3 openapi-spec-validator==0.9.0
    python suite.py --mtplx target/debug/mtplx --scripted target/debug/examples/scripted [-k PATTERN] [-v]

The built-in model answers where texts are compared; a script (`scripts.py`) where one certain answer is needed.
"""

import argparse
import importlib
import os
import sys
import time
import unittest
from importlib import metadata
from pathlib import Path

# The newest releases; a suite that passes with others says nothing about these.
PINNED = {"openai": "3.57.0", "anthropic": "2.14.0", "ollama": "0.6.3", "openapi-spec-validator": "0.9.0"}
MODULES = [
    "test_openai_chat",
    "test_openai_tools",
    "test_openai_completions",
    "test_openai_responses",
    "test_anthropic_messages",
    "test_ollama_chat",
    "test_sampling",
    "test_mtp",
    "test_errors",
    "test_guard",
    "test_ops",
    "test_settings",
    "test_scheduling",
    "test_slow",
]


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
    parser.add_argument("-k", action="append", default=[], metavar="PATTERN", help="tests whose names hold PATTERN")
    parser.add_argument("-v", action="store_true", help="a line for each test, and the slowest ones")
    options = parser.parse_args()
    for package, version in PINNED.items():
        if metadata.version(package) != version:
            print(f"warning: {package} {metadata.version(package)} is not {version}", file=sys.stderr)
    os.environ.pop("OPENAI_BASE_URL", None)

    import servers

    servers.Binaries.mtplx = str(options.mtplx.resolve())
    servers.Binaries.scripted = str(options.scripted.resolve())
    loader = unittest.TestLoader()
    if options.k:
        loader.testNamePatterns = [f"*{pattern}*" for pattern in options.k]
    modules = [importlib.import_module(name) for name in MODULES]
    tests = unittest.TestSuite(loader.loadTestsFromModule(module) for module in modules)
    for module in modules:
        # What takes time by its nature begins now and is looked at last.
        if hasattr(module, "begin") and loader.loadTestsFromModule(module).countTestCases():
            module.begin()
    begun = time.monotonic()
    result = unittest.TextTestRunner(verbosity=2 if options.v else 1, resultclass=Timed).run(tests)
    if options.v:
        for name, seconds in sorted(Timed.seconds.items(), key=lambda entry: -entry[1])[:12]:
            print(f"{seconds:6.2f} s {name}")
    print(f"{result.testsRun} tests in {time.monotonic() - begun:.1f} s")
    return 0 if result.wasSuccessful() and result.testsRun else 1


if __name__ == "__main__":
    sys.exit(main())
