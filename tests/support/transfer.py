"""Builders for tests of the data transfer job: a session on disk, and one run of the job."""

import io
import logging
import os
import tempfile
import unittest
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.source_paths.excluded_names import LEFT_BY_PROGRAMS
from aind_data_transfer_service.source_paths.roots import holds_keys
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.storage.open import open_store
from aind_data_transfer_service.upload.job.events import Events, Kind, Step
from aind_data_transfer_service.upload.job.job import Outcome, UploadJob
from aind_data_transfer_service.upload.manifest.entry import Entry
from aind_data_transfer_service.upload.manifest.manifest import read_manifest

BUCKET = "test-bucket"
PREFIX = "behavior_690165_2024-02-19_11-25-17"
NOBODY = 65534


def is_uploaded(name: str) -> bool:
    """Return whether a file of this name is uploaded: not excluded, and not named like keys."""
    return not (
        name in (".", "..") or LEFT_BY_PROGRAMS.match(name) or holds_keys("/home/.config", name)
    )


class Told(Events):
    """Keeps all events, and lets a test do something at one of them."""

    def __init__(self) -> None:
        super().__init__()
        self.all: list[tuple[str, str, str, dict[str, Any]]] = []
        self._then: dict[tuple[str, str], Callable[[], None]] = {}

    def emit(self, kind: Kind, message: str, **figures: Any) -> None:
        """Keep an event."""
        super().emit(kind, message, **figures)
        self.all.append((self.step.value, kind.value, message, figures))
        then = self._then.pop((self.step.value, kind.value), None)
        if then is not None:
            then()

    def when(self, step: Step, kind: Kind, then: Callable[[], None]) -> None:
        """Do something when the first such event is told."""
        self._then[(step.value, kind.value)] = then

    def figures(self, step: str, kind: str) -> dict[str, Any]:
        """Give the figures of the last such event."""
        return [e[3] for e in self.all if e[:2] == (step, kind)][-1]

    def warnings(self) -> list[str]:
        """Give all warnings."""
        return [message for _, kind, message, _ in self.all if kind == "warning"]

    def steps(self) -> list[tuple[str, str]]:
        """Give what began and ended, in order."""
        return [e[:2] for e in self.all if e[1] in ("start", "end")]


class TransferTestCase(unittest.TestCase):
    """Gives each test a folder with a source, and a destination."""

    destination: str | None = None
    endpoint_url: str | None = None
    bucket = BUCKET

    def setUp(self) -> None:
        """Make an empty session."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        os.chmod(self.folder, 0o755)
        self.source = self.folder / "session" / "Behavior"
        self.source.mkdir(parents=True)
        environment = patch.dict(os.environ, {"LAB_TIMEZONE": "America/Los_Angeles"})
        environment.start()
        self.addCleanup(environment.stop)
        logging.disable(logging.CRITICAL)
        self.addCleanup(logging.disable, logging.NOTSET)
        self.told = Told()

    def write(self, name: str, data: bytes | str = b"data", root: Path | None = None) -> Path:
        """Write a file of the source."""
        path = (root or self.source) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def settings(self, **more: Any) -> UploadSettings:
        """Make the settings of a job."""
        more.setdefault("destination", self.destination or str(self.folder / "store"))
        return UploadSettings(
            data_dir=self.folder / "data", aws_endpoint_url=self.endpoint_url, **more
        )

    def config(self, **more: Any) -> BasicUploadJobConfigs:
        """Make a request."""
        more.setdefault("modalities", [{"modality": "behavior", "source": str(self.source)}])
        return BasicUploadJobConfigs(
            **{
                "processor_full_name": "Anna Apple",
                "project_name": "Ephys Platform",
                "s3_bucket": self.bucket,
                "platform": "behavior",
                "subject_id": "690165",
                "acq_datetime": "2024-02-19T11:25:17",
                **more,
            }
        )

    def run_job(self, settings: UploadSettings | None = None, **more: Any) -> Outcome:
        """Run a job, its events kept in `told`."""
        self.printed = io.StringIO()
        job = UploadJob(self.config(**more), settings or self.settings(), self.told, self.printed)
        return job.run()

    @property
    def store(self) -> AssetStore:
        """The store that jobs write to."""
        root = self.destination or str(self.folder / "store")
        return open_store(root, self.bucket, self.endpoint_url)

    def stored(self, prefix: str = PREFIX) -> dict[str, bytes]:
        """Read back everything of an asset."""
        skip = len(prefix) + 1
        return {o.key[skip:]: self.store.get(o.key) or b"" for o in self.store.objects(prefix)}

    def manifest(self) -> dict[str, Entry]:
        """Read the asset's manifest."""
        return read_manifest(self.store, PREFIX)[1]


@contextmanager
def as_an_ordinary_user() -> Iterator[None]:
    """Be someone whom file modes bind, where the tests run as root."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
