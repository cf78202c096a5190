"""What `deploy/` holds fits the code."""

import configparser
import re
import shlex
import unittest
from pathlib import Path

import yaml

from aind_data_transfer_service.cli.main import APP
from aind_data_transfer_service.settings.unknown_variables import known_variables
from aind_data_transfer_service.source_paths.roots import SourceRoots

DEPLOY = Path(__file__).parents[2] / "deploy"
AWS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_DEFAULT_REGION"}


class Unit(configparser.ConfigParser):
    """A unit of systemd: names keep their case, and may come several times."""

    optionxform = staticmethod(str)


class DeployTest(unittest.TestCase):
    """The unit, the environment, the compose file and the image's definition."""

    def unit(self) -> configparser.SectionProxy:
        """Read what the unit says of the service."""
        parser = Unit(strict=False, interpolation=None)
        parser.read(DEPLOY / "aind-data-transfer-service.service")
        return parser["Service"]

    def test_the_environment_names_settings_that_exist(self) -> None:
        text = (DEPLOY / "service.env").read_text()
        named = set(re.findall(r"^#?([A-Z][A-Z0-9_]*)=", text, re.MULTILINE))
        self.assertTrue(named)
        self.assertEqual(set(), named - known_variables() - AWS)

    def test_the_unit_starts_the_service_and_lets_its_jobs_live(self) -> None:
        unit = self.unit()
        self.assertIn(APP, shlex.split(unit["ExecStart"]))
        self.assertEqual("process", unit["KillMode"])

    def test_the_compose_file_builds_and_starts_the_service(self) -> None:
        compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        service = compose["services"]["service"]
        self.assertIn(APP, service["command"])
        self.assertTrue((DEPLOY / service["build"] / "Dockerfile").is_file())
        self.assertEqual(set(service["secrets"]), set(compose["secrets"]))

    def test_the_data_of_the_service_are_where_no_lab_has_its_own(self) -> None:
        image = (DEPLOY.parent / "Dockerfile").read_text()
        compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
        service = compose["services"]["service"]
        own = service["environment"]["DATA_DIR"]
        self.assertRegex(image, rf"(?m)DATA_DIR={own}$")
        self.assertRegex(image, rf"(?m)^VOLUME {own}$")
        self.assertIn(f"data:{own}", service["volumes"])
        roots = SourceRoots([], [own])
        for source in ("/data/690165", "/allen/690165", "/mnt/690165", "/srv/690165"):
            self.assertEqual("", roots.name_problem(source))

    def test_the_image_of_jobs_is_that_of_the_service(self) -> None:
        text = (DEPLOY / "job.def").read_text()
        header = dict(re.findall(r"^(\w+): (.*)$", text.partition("%")[0], re.MULTILINE))
        bases = re.findall(r"^FROM (\S+)", (DEPLOY.parent / "Dockerfile").read_text(), re.MULTILINE)
        self.assertEqual({"Bootstrap": "docker", "From": bases[-1]}, header)
        self.assertNotRegex(text, r"https?://|MirrorURL")

    def test_the_image_takes_files_that_exist(self) -> None:
        text = (DEPLOY / "job.def").read_text()
        files = re.findall(r"^    (\S+) /opt/src/", text, re.MULTILINE)
        self.assertTrue(files)
        for name in files:
            self.assertTrue((DEPLOY.parent / name).exists(), name)
