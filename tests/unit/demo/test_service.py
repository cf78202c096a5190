"""The service as a process: its port, its environment, and the claim on its folder."""

import os
import socket
import tempfile
import unittest
from pathlib import Path
from unittest import mock

from tzlocal import get_localzone_name

from aind_data_transfer_service.demo.service import (
    DemoError,
    DemoService,
    choose_port,
    service_environment,
)
from tests.support import free_port, slow


class Ports(unittest.TestCase):
    """Where the page is."""

    def test_a_port_that_is_asked_for_is_taken(self) -> None:
        port = free_port()
        self.assertEqual(port, choose_port(port))

    def test_a_port_that_is_asked_for_but_taken_is_an_error(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            port = listener.getsockname()[1]
            with self.assertRaisesRegex(DemoError, f"port {port} is not free"):
                choose_port(port)

    def test_with_no_wish_some_port_is_free(self) -> None:
        self.assertGreater(choose_port(), 0)


class Environment(unittest.TestCase):
    """What the service of the demo sees."""

    def test_settings_of_another_service_do_not_leak_in(self) -> None:
        others = {
            "HPC_HOST": "cluster",
            "HPC_TOKEN": "secret",
            "LABTRACKS_SERVER": "labtracks",
            "METADATA_SOURCES": '{"subject": "labtracks"}',
            "AWS_PROFILE": "lab",
            "SMTP_HOTS": "mail",
            "database_url": "postgresql://elsewhere",
            "DESTINATION": "s3://",
            "TZ": "America/Los_Angeles",
        }
        with mock.patch.dict(os.environ, others):
            environment = service_environment(Path("/demo"))
        for name in others.keys() - {"DESTINATION", "TZ"}:
            self.assertNotIn(name, environment)
        self.assertNotIn("METADATA_FOLDER", environment)
        self.assertEqual("/demo/destination", environment["DESTINATION"])
        self.assertEqual("/demo/service", environment["DATA_DIR"])
        self.assertEqual("/demo/settings.toml", environment["SETTINGS_FILE"])
        self.assertEqual("America/Los_Angeles", environment["TZ"])
        self.assertEqual(get_localzone_name(), environment["LAB_TIMEZONE"])

    def test_the_lab_folder_of_the_demo_is_a_source_where_it_is_there(self) -> None:
        with tempfile.TemporaryDirectory() as folder:
            lab = Path(folder) / "lab_metadata"
            lab.mkdir()
            self.assertEqual(str(lab), service_environment(Path(folder))["METADATA_FOLDER"])


class Starting(unittest.TestCase):
    """A service that comes up, and one that does not."""

    def setUp(self) -> None:
        """Take an empty folder."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    @slow
    def test_a_service_that_cannot_start_is_told_with_its_last_words(self) -> None:
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 0))
            listener.listen()
            service = DemoService(self.folder, listener.getsockname()[1])
            with mock.patch.dict(os.environ, {"PYTHONHOME": "/nowhere"}):
                with self.assertRaisesRegex(DemoError, "did not start; its log .*service.log ends"):
                    service.__enter__()
        self.assertFalse(service.alive)

    def test_stopping_what_never_started_is_nothing(self) -> None:
        service = DemoService(self.folder, 1)
        service.stop()
        service.wait()
        self.assertFalse(service.alive)
