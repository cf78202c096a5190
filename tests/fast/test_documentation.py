"""The documentation says what the code does."""

import re
import tomllib
import unittest
from pathlib import Path

from aind_data_transfer_service.configs.columns import COLUMNS
from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.settings import (
    HpcSettings,
    LabtracksSettings,
    MetadataSettings,
    NotificationSettings,
    OpenDataSettings,
    ServiceSettings,
    SharePointSettings,
    SlimsSettings,
    TarsSettings,
    UploadSettings,
)

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "doc_template" / "source"


def read(path: str) -> str:
    """Read a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


class AdministratorsGuide(unittest.TestCase):
    """Settings and exit codes."""

    guide = (SOURCE / "administrators_guide.rst").read_text(encoding="utf-8")

    def test_it_has_every_setting_and_no_other(self) -> None:
        fields = {**ServiceSettings.model_fields, **UploadSettings.model_fields}
        fields |= NotificationSettings.model_fields
        expected = {(field.alias or name).upper() for name, field in fields.items()}
        expected -= {"HPC", "METADATA", "NOTIFICATIONS", "OPEN_DATA"}
        expected |= {f"HPC_{name.upper()}" for name in HpcSettings.model_fields}
        expected |= {f"OPEN_DATA_{name.upper()}" for name in OpenDataSettings.model_fields}
        documented = set(re.findall(r"^   \* - ``([A-Z0-9_]+)``$", self.guide, re.MULTILINE))
        self.assertEqual(expected, documented)

    def test_it_has_the_defaults_of_the_settings(self) -> None:
        hpc = {f"hpc_{name}": field for name, field in HpcSettings.model_fields.items()}
        notifications = NotificationSettings.model_fields
        for name, field in {**ServiceSettings.model_fields, **notifications, **hpc}.items():
            if isinstance(field.default, (int, float, str)) and name != "help_url":
                default = str(field.default).removesuffix(".0")
                default = default.lower() if isinstance(field.default, bool) else default
                row = rf"\* - ``{name.upper()}``\n     - ``{re.escape(default)}``"
                with self.subTest(name):
                    self.assertRegex(self.guide, row)

    def test_it_has_every_exit_code(self) -> None:
        documented = re.findall(r"^   \* - (\d+)$", self.guide, re.MULTILINE)
        self.assertEqual([str(int(code)) for code in ExitCode], documented)


class MetadataSources(unittest.TestCase):
    """Settings of the systems that metadata come from."""

    page = (SOURCE / "metadata_sources.rst").read_text(encoding="utf-8")
    systems = (
        LabtracksSettings,
        SharePointSettings,
        TarsSettings,
        SlimsSettings,
        MetadataSettings,
    )

    def test_it_has_every_setting_and_its_default_and_no_other(self) -> None:
        expected = {}
        for system in self.systems:
            prefix = system.model_config["env_prefix"]
            for name, field in system.model_fields.items():
                default = "" if field.default is None else f"``{_shown(field.default)}``"
                expected[f"{prefix}{name}".upper()] = default
        prefixes = "|".join(system.model_config["env_prefix"] for system in self.systems)
        row = rf"^   \* - ``((?:{prefixes})[A-Z0-9_]+)``\n     - ?(.*)$"
        rows = re.findall(row, self.page, re.MULTILINE)
        self.assertEqual(expected, dict(rows))


class UserGuide(unittest.TestCase):
    """Columns."""

    def test_it_has_every_column_and_no_other(self) -> None:
        guide = (SOURCE / "user_guide.rst").read_text(encoding="utf-8")
        documented = re.findall(r"^   \* - ``([a-z0-9_.]+)``$", guide, re.MULTILINE)
        self.assertEqual(sorted(column.name for column in COLUMNS), sorted(documented))


class Promises(unittest.TestCase):
    """What is promised about the data is tested."""

    def test_every_test_that_is_named_exists(self) -> None:
        page = (SOURCE / "data_promises.rst").read_text(encoding="utf-8")
        named = re.findall(r"^- ``([\w/]+\.py): (test_\w+)``$", page, re.MULTILINE)
        self.assertGreater(len(named), 20)
        self.assertEqual(len(re.findall(r"^- ", page, re.MULTILINE)), len(named))
        for file, name in named:
            with self.subTest(f"{file}: {name}"):
                self.assertRegex(read(f"tests/{file}"), rf"(?m)^    def {name}\(")


class Links(unittest.TestCase):
    """What a document points to is there."""

    def test_every_relative_link_leads_somewhere(self) -> None:
        for document in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md"):
            for target in re.findall(r"\]\((?!https?:|#)([^)#]+)", read(document)):
                with self.subTest(f"{document}: {target}"):
                    self.assertTrue((ROOT / target).exists())

    def test_the_readme_keeps_the_commands_people_know(self) -> None:
        readme = read("README.md")
        for command in (
            "pip install -e .[dev]",
            "docker run -p 3000:3000 aind-test-hpc-server",
            "uvicorn aind_data_transfer_service.server:app --host 0.0.0.0 --port 5000",
            "coverage run -m unittest discover && coverage report",
            "sphinx-apidoc -o doc_template/source/ src",
            "sphinx-build -b html doc_template/source/ doc_template/build/html",
        ):
            self.assertIn(command, readme)


class Versions(unittest.TestCase):
    """The exact versions hold names and versions, and no addresses."""

    def test_the_constraints_are_names_and_versions_only(self) -> None:
        lines = [line for line in read("constraints.txt").splitlines() if line[:1] != "#"]
        for line in lines:
            self.assertRegex(line, r"^[A-Za-z0-9][A-Za-z0-9._-]*==[A-Za-z0-9.+!]+$")

    def test_every_dependency_has_an_exact_version(self) -> None:
        project = tomllib.loads(read("pyproject.toml"))["project"]
        needed = project["dependencies"] + project["optional-dependencies"]["dev"]
        wanted = [re.split(r"[^A-Za-z0-9_-]", requirement)[0] for requirement in needed]
        exact = {_plain(line.split("==")[0]) for line in read("constraints.txt").splitlines()}
        self.assertEqual([], [name for name in wanted if _plain(name) not in exact])


def _shown(default: object) -> str:
    """Write a default as a person would."""
    return str(default).removesuffix(".0")


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
