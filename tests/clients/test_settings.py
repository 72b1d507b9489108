"""Settings of `mtplx serve`: a file, then variables, then flags; mistakes are named and end it with 2."""

import os
import re
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import servers


class Settings(unittest.TestCase):
    def setUp(self):
        self.home = Path(tempfile.mkdtemp(prefix="mtplx-settings-"))
        self.addCleanup(shutil.rmtree, self.home)

    def serve(self, *flags, **variables):
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MTPLX_")}
        environment |= {"MTPLX_HOME": str(self.home), **variables}
        command = [servers.Binaries.mtplx, "serve", *flags]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=30)

    def write(self, text, name="config.toml"):
        (self.home / name).write_text(text)
        return str(self.home / name)

    def printed(self, *flags, **variables):
        """Values and sources by setting, as `--print-config` shows them."""
        result = self.serve("--print-config", *flags, **variables)
        self.assertEqual(result.returncode, 0, result.stderr)
        found = re.findall(r'^(\S+)\s+("[^"]*"|\S+)\s+(.*)$', result.stdout, re.M)
        return {name: (value.strip('"'), source) for name, value, source in found}

    def test_the_later_source_wins(self):
        default = self.printed()
        self.assertEqual(default["max-queue"], ("64", "default"))
        self.assertEqual(default["port"][0], "8000")
        self.write('max-queue = 5\nmax-running = 3\nserved-name = ["a"]\n')
        self.assertEqual(self.printed()["max-queue"][0], "5")
        self.assertIn("config.toml", self.printed()["max-queue"][1])
        variable = self.printed(MTPLX_MAX_QUEUE="6")
        self.assertEqual(variable["max-queue"], ("6", "MTPLX_MAX_QUEUE"))
        flag = self.printed("--max-queue", "7", MTPLX_MAX_QUEUE="6")
        self.assertEqual(flag["max-queue"], ("7", "--max-queue"))
        self.assertEqual(flag["max-running"][0], "3")

    def test_config_names_another_file(self):
        self.write("max-queue = 5")
        other = self.write("max-queue = 9", "other.toml")
        found = self.printed("--config", other)["max-queue"]
        self.assertEqual(found[0], "9")
        self.assertIn("other.toml", found[1])

    def test_every_flag_of_the_page_is_a_setting(self):
        names = "model host port api-key api-key-file served-name max-body max-queue think-budget idle-unload"
        self.assertEqual([name for name in names.split() if name not in self.printed()], [])

    def test_keys_are_not_printed(self):
        self.assertNotIn("s3cret", self.serve("--print-config", "--api-key", "s3cret-key").stdout)

    def test_an_unknown_key_is_named_with_its_line_and_the_nearest(self):
        self.write("port = 0\n\nmax-quee = 5\n")
        for flags in ((), ("--print-config",)):
            result = self.serve(*flags)
            self.assertEqual(result.returncode, 2)
            self.assertRegex(result.stderr, r"config\.toml:3\b.*max-quee.*max-queue")

    def test_mistakes_end_with_two(self):
        config = self.write('max-queue = "many"\n', "wrong.toml")
        broken = self.write("max-queue = = 5\n", "broken.toml")
        for name, flags, variables, words in (
            ("value in the file", ("--config", config), {}, "max-queue"),
            ("no TOML", ("--config", broken), {}, "broken.toml:1"),
            ("value of a variable", (), {"MTPLX_MAX_QUEUE": "many"}, "--max-queue"),
            ("value of a flag", ("--max-queue", "many"), {}, "--max-queue"),
            ("unknown flag", ("--max-quee", "5"), {}, "--max-queue"),
            ("other machines without a key", ("--host", "0.0.0.0"), {}, "--api-key"),
            ("other machines by name without a key", ("--host", "::"), {}, "--api-key"),
        ):
            with self.subTest(name):
                result = self.serve(*flags, **variables)
                self.assertEqual(result.returncode, 2, result.stderr)
                self.assertIn(words, result.stderr)

    def test_a_port_that_is_taken_is_an_error(self):
        result = self.serve("--port", str(servers.builtin().port))
        self.assertNotEqual(result.returncode, 0)
        self.assertIn(str(servers.builtin().port), result.stderr)

    def test_settings_of_file_and_variables_are_in_force(self):
        config = self.write('served-name = ["from-file"]\n', "served.toml")
        keys = self.write("first-key\n\nsecond-key\n", "keys")
        environment = {"MTPLX_API_KEY_FILE": keys}
        with servers.serve("--config", config, environment=environment, key="second-key") as server:
            self.assertEqual(server.get("/v1/models").status, 401)
            for key in ("first-key", "second-key"):
                answer = server.get("/v1/models/from-file", headers={"x-api-key": key})
                self.assertEqual(answer.status, 200)


if __name__ == "__main__":
    unittest.main()
