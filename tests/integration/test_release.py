"""A release: the version, the tag, the change log, and distributions that work by themselves."""

import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
import unittest
import venv
import zipfile
from pathlib import Path

from tests.support import missing

ROOT = Path(__file__).parents[2]
COMMITS = ("feat(upload): send faster", "fix(server): show the right page")


def run(*command: str | Path, folder: Path, **environment: str) -> str:
    """Run a command in a folder; return its output, or fail with all that it printed."""
    ended = subprocess.run(
        list(map(str, command)),
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    if ended.returncode:
        raise AssertionError(f"{command} ended with {ended.returncode}:\n{ended.stderr[-3000:]}")
    return ended.stdout


class ReleaseTest(unittest.TestCase):
    """A release made in a clone, with two commits since the last one."""

    @classmethod
    def setUpClass(cls):
        if not (ROOT / ".git").exists():
            raise missing("the repository's history")
        cls.folder = Path(cls.enterClassContext(tempfile.TemporaryDirectory()))
        cls.clone = cls.folder / "clone"
        cls.git_identity = {
            f"GIT_{role}_{field}": value
            for role in ("AUTHOR", "COMMITTER")
            for field, value in (("NAME", "Release"), ("EMAIL", "release@example.org"))
        }
        run("git", "clone", "-q", "--no-hardlinks", ROOT, cls.clone, folder=cls.folder)
        cls.git("checkout", "-q", "-B", "main")
        cls.git("tag", "v1.2.3")
        for message in COMMITS:
            cls.git("commit", "-q", "--allow-empty", "-m", message)
        # Without a remote nothing can be pushed, whatever the configuration says.
        cls.git("remote", "set-url", "origin", "https://github.com/example/example.git")
        scripts = Path(sysconfig.get_path("scripts"))
        cls.output = run(
            scripts / "semantic-release",
            *("version", "--no-push", "--no-vcs-release"),
            folder=cls.clone,
            PATH=f"{scripts}{os.pathsep}{os.environ['PATH']}",
            **cls.git_identity,
        )

    @classmethod
    def git(cls, *arguments):
        """Run git in the clone."""
        return run("git", *arguments, folder=cls.clone, **cls.git_identity)

    def test_version_tag_and_change_log_follow_from_the_commits(self):
        project = tomllib.loads((self.clone / "pyproject.toml").read_text())["project"]
        self.assertEqual(project["version"], "1.3.0")
        module = (self.clone / "src/aind_data_transfer_service/__init__.py").read_text()
        self.assertIn('__version__ = "1.3.0"', module)
        self.assertEqual(self.git("tag", "--points-at", "HEAD").split(), ["v1.3.0"])
        self.assertEqual(self.git("status", "--porcelain"), "")
        log = (self.clone / "CHANGELOG.md").read_text()
        newest = log[log.index("## v1.3.0") : log.index("## Before version 1")]
        self.assertRegex(newest, r"(?s)### Bug Fixes.*\*\*server\*\*: Show the right page")
        self.assertRegex(newest, r"(?s)### Features.*\*\*upload\*\*: Send faster")

    def test_the_distributions_hold_everything_that_is_in_the_package(self):
        built = sorted(path.name for path in (self.clone / "dist").iterdir())
        name = "aind_data_transfer_service-1.3.0"
        self.assertEqual(built, [f"{name}-py3-none-any.whl", f"{name}.tar.gz"])
        with zipfile.ZipFile(self.clone / "dist" / built[0]) as wheel:
            packed = {path for path in wheel.namelist() if ".dist-info/" not in path}
        tracked = self.git("ls-files", "src").split("\n")
        self.assertEqual(packed, {path.removeprefix("src/") for path in tracked if path})

    def test_the_wheel_works_in_an_environment_of_its_own(self):
        # The environment has the dependencies of this one, but not its copy of the package: a path
        # that is named in a .pth file has its own .pth files ignored.
        home = self.folder / "environment"
        venv.create(home, with_pip=False)
        [packages] = home.glob("lib/python*/site-packages")
        (packages / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
        wheel = next((self.clone / "dist").glob("*.whl"))
        python = home / "bin" / "python"
        pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--ignore-installed")
        run(python, *pip, "--prefix", home, wheel, folder=self.folder)
        code = "import aind_data_transfer_service as package; print(package.__file__)"
        found = Path(run(python, "-c", code, folder=self.folder).strip())
        self.assertEqual(found.parents[1], packages.resolve())
        command = home / "bin" / "aind-data-transfer-service"
        run(command, "template", "jobs.xlsx", folder=self.folder)
        self.assertTrue(zipfile.is_zipfile(self.folder / "jobs.xlsx"))
        shown = run(command, "demo", "--exit", "--port", "0", folder=self.folder)
        self.assertRegex(re.sub(r"\s+", " ", shown), "COMPLETED|verified", shown[-2000:])
        self.assertEqual(sys.version_info[:2], self.version_of(python))

    @staticmethod
    def version_of(python):
        """Return the version of an interpreter."""
        shown = subprocess.check_output([python, "-c", "import sys; print(*sys.version_info[:2])"])
        return tuple(map(int, shown.split()))
