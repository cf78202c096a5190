"""The documentation says what the code does."""

import ast
import gc
import re
import sys
import tomllib
import unittest
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import yaml
from prometheus_client import Metric
from pydantic.fields import FieldInfo

from aind_data_transfer_service.configs import error_messages, limits
from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.executors.base import EndRecord
from aind_data_transfer_service.executors.slurm import state_reasons, states
from aind_data_transfer_service.executors.slurm.states import doubted, run_status
from aind_data_transfer_service.jobs import event_parser, json_text
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.jobs.store import job_store
from aind_data_transfer_service.jobs.validation import requests
from aind_data_transfer_service.plugins import METADATA_SOURCES, REGISTRIES
from aind_data_transfer_service.server import connection_limits, json_body
from aind_data_transfer_service.server import metrics as server_metrics
from aind_data_transfer_service.server import middleware, template_filters
from aind_data_transfer_service.settings import json_objects
from aind_data_transfer_service.settings.base import EnvironmentSettings
from aind_data_transfer_service.settings.metadata import KINDS, MetadataSettings, sources_of
from aind_data_transfer_service.settings.notifications import NotificationSettings
from aind_data_transfer_service.settings.plugin_settings import settings_classes
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.s3 import S3Settings
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.slurmrest.models import BASE_STATES, SlurmJob
from aind_data_transfer_service.spreadsheets.schema import COLUMNS
from tests.support import slow

JOB_FLAGS = ("COMPLETING", "CONFIGURING", "STOPPED", "REQUEUED")
ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "doc_template" / "source"


def named(settings: type[EnvironmentSettings]) -> dict[str, FieldInfo]:
    """Give the variables that a class of settings reads."""
    fields = settings.model_fields
    return {variable: fields[name] for name, variable in settings.variables().items()}


def parsed(path: Path) -> ast.Module:
    """Parse a file.

    Python 3.11 fails if collecting garbage while it parses runs code that parses, too: to show the
    traceback of an exception that nobody looked at does.
    """
    gc.disable()
    try:
        return ast.parse(path.read_text(encoding="utf-8"))
    finally:
        gc.enable()


def texts() -> Iterator[str]:
    """Give every text that stands in the code, each in one piece."""
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def shown(page: str) -> Iterator[str]:
    """Give what the first column of tables of failures quotes, without what differs."""
    for table in re.split(r"^   \* - What is shown$", page, flags=re.MULTILINE)[1:]:
        table = re.split(r"^\S", table, maxsplit=1, flags=re.MULTILINE)[0]
        for cell in re.findall(r"^   \* - (.*)$", table, re.MULTILINE):
            for quoted in re.findall(r"``(.*?)``", cell):
                yield from filter(None, (piece.strip(" .:()") for piece in quoted.split("…")))


def read(path: str) -> str:
    """Read a file of the repository."""
    return (ROOT / path).read_text(encoding="utf-8")


class Limits(unittest.TestCase):
    """The table of limits has the values of the constants."""

    def test_each_row_has_the_value_that_is_in_force(self) -> None:
        page = (SOURCE / "administrators_guide.rst").read_text(encoding="utf-8")
        table = page.split("\nLimits\n------\n")[1].split("\nSpreadsheets\n")[0]
        rows = dict(re.findall(r"^   \* - (.*)\n     - (.*)$", table, re.MULTILINE))
        kib, mib = 1024, 1024**2
        for row, values in {
            "Jobs in one request": [limits.MAX_JOBS],
            "JSON of one request": [f"{middleware.REQUEST_BYTES // mib} MiB"],
            "JSON of all requests together": [f"{middleware.BODIES_BYTES // mib} MiB"],
            "Levels in the JSON of a request": [json_body.MOST_LEVELS],
            "Values in the JSON of a request": [json_body.VALUES_PER_JOB],
            "Fields of a job in a request": [json_body.FIELDS_PER_JOB],
            "``upload_job_settings`` and ``hpc_settings`` of a job": [json_text.MOST_CHARACTERS],
            "Levels in ``hpc_settings``": [json_text.MOST_LEVELS],
            "Mistakes in ``METADATA_SOURCES`` or ``HPC_JOB_DEFAULTS``": [json_objects.MOST_LISTED],
            "Levels in ``METADATA_SOURCES`` or ``HPC_JOB_DEFAULTS``": [json_objects.MOST_LEVELS],
            "``script`` of a job": [requests.LONGEST_SCRIPT],
            "Errors in one request for jobs": [limits.MAX_COUNTED_ERRORS],
            "Errors, or warnings, in one answer": [
                error_messages.MOST_ERRORS,
                error_messages.MOST_CHARACTERS,
            ],
            "Errors of one job": [error_messages.MOST_JOB_ERRORS],
            "Head of a request": [
                f"{connection_limits.HEAD_BYTES // kib} KiB",
                f"{connection_limits.HEADER_FIELDS} fields",
            ],
            "Address of a request": [connection_limits.URL_BYTES],
            "Requests sent ahead of their answers": [connection_limits.PIPELINED_REQUESTS],
            "Time for the head of a request": [f"{connection_limits.HEAD_SECONDS:.0f} s"],
            "Pause in a body, or in the reading of an answer": [
                f"{connection_limits.STALL_SECONDS:.0f} s",
                f"{connection_limits.BYTES_PER_SECOND:,} bytes/s",
            ],
            "Time for the body of a request": [f"{connection_limits.BODY_SECONDS:.0f} s"],
            "Connections": [
                connection_limits.MOST_CONNECTIONS,
                connection_limits.RESERVED_DESCRIPTORS,
                connection_limits.MOST_CONNECTIONS + connection_limits.RESERVED_DESCRIPTORS,
            ],
            "Events that a job brings at once": [f"{middleware.EVENTS_BYTES // mib} MiB"],
            "Figures of one event of a job": [event_parser.LONGEST_FIGURES],
            "Events of a job on its page and in the API": [
                f"{job_store.EVENT_CHARACTERS // mib} MiB"
            ],
            "Settings of a job on its page": [template_filters.MOST_SHOWN],
            "Names to choose from on the status page": [job_store.MOST_SUBMITTERS],
            "Text of Slurm on a job (reason, nodes, name)": [states.LONGEST_TEXT],
        }.items():
            for value in values:
                with self.subTest(row):
                    text = value if isinstance(value, str) else f"{value:,}"
                    self.assertRegex(rows[row], rf"(^|\D){re.escape(text)}(\D|$)")
        self.assertIn(f"at most {connection_limits.MOST_DESCRIPTORS:,}", table)


class Settings(unittest.TestCase):
    """Settings, each on one page."""

    variable = re.compile(r"^   \* - ``([A-Z0-9_]+)``$", re.MULTILINE)

    def assert_documented(self, page: str, fields: dict[str, FieldInfo]) -> None:
        """Make sure that a page has these settings once, with their defaults, and no other."""
        text = (SOURCE / page).read_text(encoding="utf-8")
        self.assertEqual(sorted(fields), sorted(self.variable.findall(text)))
        for name, field in fields.items():
            if isinstance(field.default, (int, float, str)):
                default = str(field.default).removesuffix(".0")
                default = default.lower() if isinstance(field.default, bool) else default
                row = rf"\* - ``{name}``\n     - ``{re.escape(default)}``"
                with self.subTest(name):
                    self.assertRegex(text, row)

    def test_the_administrators_guide_has_those_of_the_service_and_of_its_jobs(self) -> None:
        fields = named(ServiceSettings) | named(UploadSettings) | named(NotificationSettings)
        fields |= named(S3Settings)
        nested = {"AFTERWARDS", "HPC", "METADATA", "NOTIFICATIONS", "S3"}
        elsewhere = nested | {"INTERNAL_URL", "S3_ACCOUNTS"}
        kept = {name: field for name, field in fields.items() if name not in elsewhere}
        self.assert_documented("administrators_guide.rst", kept)

    def test_the_page_of_what_follows_has_those_of_it(self) -> None:
        self.assert_documented("after_the_upload.rst", named(PostUploadSettings))

    def test_the_page_of_the_cluster_has_those_of_the_cluster(self) -> None:
        of_service = ("INTERNAL_URL", "S3_ACCOUNTS")
        fields = named(HpcSettings) | {name: named(ServiceSettings)[name] for name in of_service}
        self.assert_documented("slurm_cluster.rst", fields)


class Failures(unittest.TestCase):
    """What a page says is shown when something goes wrong, is what the code says."""

    @slow
    def test_the_words_are_those_of_the_code(self) -> None:
        said = "\n".join(texts())
        pages = ("slurm_cluster.rst", "metadata_sources.rst", "reverse_proxy.rst", "operation.rst")
        for page in pages:
            for words in shown((SOURCE / page).read_text(encoding="utf-8")):
                with self.subTest(f"{page}: {words}"):
                    self.assertTrue(words in said, "nothing in the code says so")


class SlurmReasons(unittest.TestCase):
    """The page lists the message for every reason of Slurm."""

    def test_the_tables_are_those_of_the_code(self) -> None:
        page = (SOURCE / "slurm_cluster.rst").read_text(encoding="utf-8")
        section = page.split("\nWhile a job is pending:\n")[1].split("\n^^^^")[0]
        tables = section.split("\nWhen Slurm ended a job as ``FAILED``:\n")
        own = {state_reasons.LOST_BY_CLUSTER}
        for table, messages, unknown in zip(
            tables,
            (state_reasons.pending_messages(), state_reasons.failure_messages()),
            (state_reasons.UNKNOWN, state_reasons.UNKNOWN_FAILURE),
            strict=True,
        ):
            rows = re.findall(r"^   \* - ``(.*)``\n     - (.*)$", table, re.MULTILINE)
            shown = {message: re.findall("``(.*?)``", names) for message, names in rows}
            expected = {message: list(names) for message, names in messages.items()}
            expected = {message: names for message, names in expected.items() if own != set(names)}
            self.assertEqual(expected | {unknown: []}, shown)


class SlurmStates(unittest.TestCase):
    """The page says what to do about every message on how a job of Slurm stands or ended."""

    page = (SOURCE / "slurm_cluster.rst").read_text(encoding="utf-8")

    def messages(self) -> Iterator[str]:
        """Give the messages that differ by Slurm's state, not by the reasons of `SlurmReasons`."""
        job = SlurmJob(7, nodes="node1", memory_per_cpu_mb=100, time_limit_minutes=5)
        changes: list[dict] = [{"state": state} for state in BASE_STATES - {"PENDING"}]
        changes += [{"state": "RUNNING", "flags": frozenset({flag})} for flag in JOB_FLAGS]
        changes += [{"state": "PENDING", "restarts": 2}, {"state": "CANCELLED", "nodes": ""}]
        changes += [{"state": "FAILED", "signal": number} for number in (9, 11, 53)]
        changes += [{"state": "FAILED", "exit_code": 137}]
        changes += [{"state": "FAILED", "reason": "JobLaunchFailure"}]
        for change in changes:
            yield run_status("7:a", replace(job, **change)).reason
        for record in (EndRecord.MISSING, EndRecord.BEGUN, EndRecord.UNREADABLE):
            yield doubted(record, job, "/logs")

    def test_every_message_is_in_the_table_of_a_job(self) -> None:
        table = self.page.split("\nA job, on its page\n")[1]
        cells = re.findall(r"^   \* - (.*)$", table, re.MULTILINE)
        quoted = [text for cell in cells for text in re.findall("``(.*?)``", cell)]
        pieces = [re.split(" ?… ?", text) for text in quoted if text not in JobState.__members__]
        patterns = [".*".join(map(re.escape, words)) for words in pieces]
        messages = set(filter(None, self.messages()))
        self.assertGreater(len(messages), 12)
        for message in messages:
            with self.subTest(message):
                self.assertRegex(message, "|".join(patterns))


class Metrics(unittest.TestCase):
    """The figures for Prometheus that the page on operation and the alert rules name."""

    page = (SOURCE / "operation.rst").read_text(encoding="utf-8")
    rules = yaml.safe_load(read("deploy/alerts.yaml"))

    def test_the_page_names_every_figure_and_no_other(self) -> None:
        names = set(re.findall(r"``(transfer_service_\w+)``", self.page))
        self.assertEqual({family.name for family in figures()}, {_family(name) for name in names})

    def test_the_alerts_ask_for_figures_that_there_are(self) -> None:
        samples = {name for family in figures() for name in sample_names(family)} | {"up"}
        alerts = [rule for group in self.rules["groups"] for rule in group["rules"]]
        self.assertGreater(len(alerts), 5)
        states = {state.value for state in JobState}
        for alert in alerts:
            with self.subTest(alert["alert"]):
                asked = re.findall(r"\b(?:transfer_service_\w+|up)\b", alert["expr"])
                self.assertTrue(asked)
                self.assertLessEqual(set(asked), samples)
                for words in re.findall(r'state=~?"([^"]*)"', alert["expr"]):
                    self.assertLessEqual(set(words.split("|")), states)
                self.assertTrue(alert["annotations"]["summary"])


def figures() -> list[Metric]:
    """Return what the service counts."""
    return list(server_metrics.Metrics().registry.collect())


def sample_names(family: Metric) -> set[str]:
    """Name the time series of a figure."""
    endings = {"counter": ("_total",), "histogram": ("_bucket", "_count", "_sum")}
    return {family.name + ending for ending in endings.get(family.type, ("",))}


def _family(name: str) -> str:
    return name.removesuffix("_total")


class ExitCodes(unittest.TestCase):
    """How a data transfer job ends."""

    guide = (SOURCE / "administrators_guide.rst").read_text(encoding="utf-8")

    def test_it_has_every_exit_code(self) -> None:
        documented = re.findall(r"^   \* - (\d+)$", self.guide, re.MULTILINE)
        self.assertEqual([str(int(code)) for code in ExitCode], documented)


class MetadataSources(unittest.TestCase):
    """Settings of the systems that metadata come from."""

    page = (SOURCE / "metadata_sources.rst").read_text(encoding="utf-8")
    systems = (*settings_classes(METADATA_SOURCES).values(), MetadataSettings)

    def test_it_has_every_setting_and_its_default_and_no_other(self) -> None:
        expected = {}
        for system in self.systems:
            for variable, field in named(system).items():
                default = "" if field.default is None else f"``{_shown(field.default)}``"
                expected[variable] = default
        row = r"^   \* - ``([A-Z0-9_]+)``\n     - ?(.*)\n     - "
        rows = re.findall(row, self.page, re.MULTILINE)
        self.assertEqual(expected, dict(rows))

    def test_the_table_has_the_sources_of_each_document_in_their_order(self) -> None:
        table = self.page.split("     - Where nobody has it\n")[1].split("\nSources of plug-ins")[0]
        rows = re.findall(r"^   \* - (.*)\n     - (.*)$", table, re.MULTILINE)
        names = {
            "names of projects, for the check of a submission": "project_names",
            "funding, for ``data_description.json``": "funding",
        }
        own = {"service", "sharepoint", "labtracks", "slims", "folder", "tars"}
        found = {}
        for document, sources in rows:
            kind = names.get(document, document.strip("`").removesuffix(".json"))
            found[kind] = [one for one in re.findall("``([a-z]+)``", sources) if one in own]
        self.assertEqual({kind: list(sources_of(kind)) for kind in KINDS}, found)


class Extending(unittest.TestCase):
    """What a plug-in has to declare."""

    def test_the_table_has_every_group_and_what_its_classes_declare(self) -> None:
        page = (SOURCE / "extending.rst").read_text(encoding="utf-8")
        rows = re.findall(r"^   \* - (.*)\n     - ``(.*)``\n     - (.*)$", page, re.MULTILINE)
        expected = {one.group: list(one.declares) for one in REGISTRIES}
        self.assertEqual(expected, {group: re.findall("``(.*?)``", row) for _, group, row in rows})


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

    @slow
    def test_what_is_imported_comes_with_a_plain_installation(self) -> None:
        wanted = tomllib.loads(read("pyproject.toml"))["project"]["dependencies"]
        installed: set[str] = set()
        while wanted:
            name = _plain(re.split(r"[^A-Za-z0-9._-]", wanted.pop())[0])
            if name not in installed:
                installed.add(name)
                with suppress(PackageNotFoundError):  # what other platforms need
                    wanted += [one for one in requires(name) or [] if "extra ==" not in one]
        homes = packages_distributions()
        ours = sys.stdlib_module_names | {"aind_data_transfer_service"}
        for module in sorted(imported() - ours):
            with self.subTest(module):
                self.assertTrue(installed & {_plain(home) for home in homes.get(module, [])})


def _shown(default: object) -> str:
    """Write a default as a person would."""
    return str(default).removesuffix(".0")


def imported() -> set[str]:
    """Name the top-level modules that the code imports."""
    found = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(parsed(path)):
            if isinstance(node, ast.Import):
                found |= {name.name.partition(".")[0] for name in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module.partition(".")[0])
    return found


def _plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
