"""The door to everything: `./run`, up to where it needs a network."""

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import unittest
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[2]
TOOLS = ("bash", "cat", "cksum", "dirname", "id")


def run(*arguments: str, folder: Path = ROOT, **environment: str) -> subprocess.CompletedProcess:
    """Run `./run` of a folder."""
    return subprocess.run(
        [str(folder / "run"), *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=30,
    )


class RunScript(unittest.TestCase):
    """What it says when it cannot do anything."""

    def test_without_a_command_it_explains_itself(self) -> None:
        for arguments in ((), ("sing",), ("test", "slowly")):
            done = run(*arguments)
            self.assertEqual(2, done.returncode)
            for usage in ("./run demo [--exit]", "./run lint", "./run test quick [PATH...]"):
                self.assertIn(usage, done.stderr)
        self.assertEqual(0, run("--help").returncode)

    def test_pre_commit_runs_the_same_linters(self) -> None:
        [linters] = re.findall(r"LINTERS=\((.*)\)", (ROOT / "run").read_text())
        names = [words.split()[0] for words in shlex.split(linters)]
        config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
        hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
        self.assertEqual(names, [hook["entry"].split()[0].split("/")[-1] for hook in hooks])
        for hook in hooks:
            self.assertTrue(hook["entry"].startswith(".venv/bin/"), hook)

    def test_a_path_without_tests_is_refused(self) -> None:
        for path in ("uplaod", "src/aind_data_transfer_service/nothing"):
            done = run("test", "quick", path)
            self.assertEqual(2, done.returncode)
            self.assertIn(f"there are no tests at {path}", done.stderr)

    def test_without_a_python_it_says_what_is_needed(self) -> None:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for file in ("run", "pyproject.toml", "constraints.txt"):
                shutil.copy(ROOT / file, folder)
            (folder / "bin").mkdir()
            for tool in TOOLS:
                (folder / "bin" / tool).symlink_to(shutil.which(tool))
            (folder / "bin" / "python3").write_text("#!/bin/sh\nexit 1\n")  # one that is too old
            (folder / "bin" / "python3").chmod(0o755)
            done = run("demo", folder=folder, PATH=str(folder / "bin"), PYTHON="")
            self.assertFalse((folder / ".venv").exists())
        self.assertEqual(1, done.returncode)
        self.assertIn("no Python 3.11 or newer was found", done.stderr)
        self.assertIn("PYTHON=/path/to/python3 ./run", done.stderr)

    def test_continuous_integration_runs_the_same_tests(self) -> None:
        script = ROOT / ".ci" / "run"
        self.assertTrue(os.access(script, os.X_OK))
        self.assertRegex(script.read_text(encoding="utf-8"), r'exec ".*/\.\./run" test\n')
