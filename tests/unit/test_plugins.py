"""Plug-ins are found by their entry points, and one that is broken stops nothing else."""

import importlib.metadata
import subprocess
import sys
import tempfile
import unittest
from collections.abc import Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from textwrap import dedent

from aind_data_transfer_service.errors import PluginError
from aind_data_transfer_service.plugins import Registry
from tests.support import slow
from tests.support.plugins import registered
from tests.support.service_process import environment_of, run_command

GROUP = "notification_channels"
CHANNEL = """
    class Channel:
        name, label, settings = "{name}", "Channel", None

        @classmethod
        def create(cls, context):
            return cls()
"""
SECRET_CHANNEL = """
    from pydantic import SecretStr
    from aind_data_transfer_service.settings.base import EnvironmentSettings

    class Settings(EnvironmentSettings):
        prefix = "PAGER_"
        pin: SecretStr = SecretStr("")

    class Channel:
        name, label, settings = "{name}", "Channel", Settings

        @classmethod
        def create(cls, context):
            return cls()
"""


class InFolder(unittest.TestCase):
    """Packages in a folder of their own."""

    def setUp(self) -> None:
        """Make the folder one that Python imports from."""
        self.folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        sys.path.insert(0, str(self.folder))
        self.addCleanup(sys.path.remove, str(self.folder))
        self.addCleanup(self.forget)

    def forget(self) -> None:
        """Forget what was imported from the folder."""
        for name, module in list(sys.modules.items()):
            if (getattr(module, "__file__", None) or "").startswith(str(self.folder)):
                del sys.modules[name]

    def write(self, module: str, code: str) -> None:
        """Write a module."""
        (self.folder / f"{module}.py").write_text(dedent(code), encoding="utf-8")

    def channel(self, package: str, name: str, code: str = CHANNEL, group: str = GROUP) -> None:
        """Install a package that has one plug-in."""
        module = package.replace("-", "_")
        self.write(module, code.replace("{name}", name))
        registered(self.folder, package, group, **{name: f"{module}:Channel"})


class Registries(InFolder):
    """What a registry finds."""

    def entries(self, group: str) -> Iterator[EntryPoint]:
        """Find the entry points of the packages in the folder."""
        for found in importlib.metadata.distributions(path=[str(self.folder)]):
            yield from (entry for entry in found.entry_points if entry.group == group)

    def registry(self) -> Registry:
        """Make a registry of the folder's packages."""
        name = f"aind_data_transfer_service.{GROUP}"
        return Registry(name, "notification channel", ("create",), self.entries)

    def test_a_plugin_is_found_by_its_entry_point(self) -> None:
        self.channel("lab-pager", "pager")
        found = self.registry()
        self.assertEqual(("pager",), found.names)
        self.assertEqual("lab_pager", found.get("pager").__module__)
        self.assertEqual("Channel", found.label("pager"))
        self.assertEqual({}, found.unusable)

    def test_none_is_imported_before_it_is_asked_for(self) -> None:
        self.channel("lab-pager", "pager")
        found = self.registry()
        self.assertEqual(("pager",), found.names)
        found.errors()
        self.assertNotIn("lab_pager", sys.modules)
        self.assertTrue(found.plugins)
        self.assertIn("lab_pager", sys.modules)

    def test_one_that_cannot_be_used_is_named_and_stops_no_other(self) -> None:
        self.channel("lab-pager", "pager")
        for number, (code, problem) in enumerate(
            {
                "import nothing_like_this": "cannot be imported: ModuleNotFoundError: No module",
                "raise OSError('no\\nlicence')": "cannot be imported: OSError: no licence",
                "": "cannot be imported: AttributeError: ",
                "Channel = 5": "it is not a class",
                "class Channel: name = 'x'": "does not declare label, settings, create",
                CHANNEL.replace("{name}", "other"): 'has the name "other"; use the name of the en',
                CHANNEL.replace("None", "dict"): "settings must be None or a class of Environm",
            }.items()
        ):
            with self.subTest(problem):
                name, package = f"broken{number}", f"lab-broken{number}"
                self.channel(package, name, code)
                found = self.registry()
                self.assertEqual(["pager"], list(found.plugins))
                text = found.unusable[name]
                where = f"notification channel {name} of {package} 1.0 (entry point lab_broken"
                self.assertTrue(text.startswith(where), text)
                self.assertIn(problem, text)
                self.assertIn(text, found.warnings())
                with self.assertRaises(PluginError) as caught:
                    found.get(name)
                self.assertEqual(text, str(caught.exception))

    def test_two_of_one_name_are_an_error_that_names_both(self) -> None:
        self.channel("lab-pager", "pager")
        self.channel("lab-beeper", "pager")
        found = self.registry()
        expected = (
            'several packages have the notification channel "pager": lab-beeper 1.0 '
            "(lab_beeper:Channel), lab-pager 1.0 (lab_pager:Channel); uninstall all but one"
        )
        self.assertIn(expected, found.errors())
        self.assertEqual({}, dict(found.plugins))
        self.assertNotIn("lab_pager", sys.modules)
        with self.assertRaisesRegex(PluginError, "several packages"):
            found.get("pager")
        self.assertNotIn(expected, found.warnings())

    def test_a_name_that_nobody_has_is_answered_with_those_that_there_are(self) -> None:
        self.channel("lab-pager", "pager")
        with self.assertRaisesRegex(PluginError, 'has the notification channel "pagr".*: pager'):
            self.registry().get("pagr")

    def test_an_installation_without_its_own_entry_points_says_so(self) -> None:
        self.channel("lab-pager", "pager")
        [error] = self.registry().errors()
        self.assertRegex(error, "registers no notification channel of its own.*install it again")


class Starting(InFolder):
    """What a service with plug-ins says before it starts."""

    def config(self, **variables: str) -> subprocess.CompletedProcess[str]:
        """Show the settings of a service that has the packages of the folder."""
        return run_command("config", PYTHONPATH=str(self.folder), DATA_DIR="/tmp", **variables)

    @slow
    def test_a_broken_plugin_is_a_warning_until_something_needs_it(self) -> None:
        self.channel("lab-grid", "grid", "import nothing", group="executors")
        self.channel("lab-animals", "animals", "import nothing", group="metadata_sources")
        done = self.config(LAB_TIMEZONE="UTC")
        self.assertEqual(0, done.returncode, done.stderr)
        for words in ("executor grid of lab-grid 1.0", "metadata source animals of lab-animals"):
            self.assertRegex(done.stderr, rf"(?s)Warnings:.*{words}.*No module named 'nothing'")
        done = self.config(EXECUTOR="grid", METADATA_SOURCES='{"subject": "animals"}')
        self.assertEqual(1, done.returncode)
        errors = done.stderr.partition("Errors:")[2]
        self.assertIn("EXECUTOR: executor grid of lab-grid 1.0", errors)
        self.assertIn("METADATA_SOURCES: subject: metadata source animals of lab-animals", errors)

    @slow
    def test_two_plugins_of_one_name_and_an_unknown_executor_are_errors(self) -> None:
        self.channel("lab-slims", "slims", "", group="metadata_sources")
        done = self.config(EXECUTOR="slrum")
        self.assertEqual(1, done.returncode)
        errors = done.stderr.partition("Errors:")[2]
        self.assertRegex(errors, 'several packages have the metadata source "slims": .*lab-slims')
        self.assertRegex(errors, 'EXECUTOR: .*no .*executor "slrum"; installed: local, slurm')

    @slow
    def test_two_transforms_for_one_modality_are_an_error(self) -> None:
        code = CHANNEL.replace("create", "plan").replace("return cls()", "return None")
        code += "        modalities, takes_extra_configs = frozenset({'ecephys'}), False\n"
        for name in ("flac", "zarr"):
            self.channel(f"lab-{name}", name, code, group="transforms")
        done = self.config()
        self.assertEqual(1, done.returncode)
        words = r"for the modality ecephys: flac \(lab_flac\), zarr \(lab_zarr\); uninstall"
        self.assertRegex(done.stderr, words)

    @slow
    def test_a_secret_of_the_service_alone_reaches_no_job(self) -> None:
        self.channel("lab-pager", "pager", SECRET_CHANNEL)
        code = """
            from aind_data_transfer_service.settings.service import ServiceSettings
            for name, value in ServiceSettings().job_environment().items():
                print(name, value)
        """
        secret = "b7e1c93d04"
        variables = {
            "PAGER_PIN": secret,
            "AWS_PROFILE": secret,
            "AWS_REGION": "us-west-2",
            "PYTHONPATH": str(self.folder),
        }
        done = subprocess.run(
            [sys.executable, "-c", dedent(code)],
            env=environment_of(**variables),
            capture_output=True,
            text=True,
            timeout=60,
        )
        self.assertIn("AWS_REGION us-west-2", done.stdout, done.stderr)
        self.assertNotIn(secret, done.stdout)

    @slow
    def test_importing_the_job_or_the_service_looks_for_no_plugins(self) -> None:
        for module in ("upload.cli.upload", "server", "cli.main"):
            code = f"""
                import aind_data_transfer_service.{module}
                import aind_data_transfer_service.plugins as plugins
                print(plugins._installed.cache_info().currsize)
            """
            with self.subTest(module):
                done = subprocess.run(
                    [sys.executable, "-c", dedent(code)], capture_output=True, text=True, timeout=60
                )
                self.assertEqual("0", done.stdout.strip(), done.stderr)
