"""Folders of every shape, brought to a real S3 server and read back.

Hypothesis makes them: odd names, empty files and such as end just at the border of a part, holes,
links of both kinds, empty folders. Whatever a job takes arrives byte for byte and stands in the
manifest as it was; whatever it does not take, it refuses before any byte has moved.
"""

import hashlib
import os
import tempfile
import unicodedata
import uuid
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from unittest.mock import patch

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.upload.manifest.entry import utc
from aind_data_transfer_service.upload.manifest.manifest import read_manifest
from aind_data_transfer_service.upload.plan.plan import PART_SIZE
from tests.support import campaign, seaweedfs
from tests.support.transfer import TransferTestCase, is_uploaded

_server = seaweedfs.Shared()
setUpModule, tearDownModule = _server.begin, _server.end
_ODD = (
    "a b",
    " .x ",
    "...",
    'it\'s "x"',
    "100%",
    "%2F",
    "+&=?#;:@$,!",
    "<&>&amp;",
    "[a]{b}|^`~*",
    "é",
    unicodedata.normalize("NFD", "é"),
    "Ω鼠🐭",
    "\u202egnp.exe",
    "~",
    "-rf",
    "x" * 250,
    "鼠" * 80,
)
_NAMES = st.sampled_from(_ODD) | st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="/\\\ufffe\uffff"),
    min_size=1,
    max_size=40,
).filter(is_uploaded)
_SMALL = st.sampled_from([0, 1, 4095, 4096, 4097, 1 << 16, (1 << 20) + 1]) | st.integers(0, 5000)
_BORDERS = st.sampled_from(
    [PART_SIZE - 1, PART_SIZE, PART_SIZE + 1, 2 * PART_SIZE - 1, 2 * PART_SIZE, 2 * PART_SIZE + 1]
)
_FOLDERS = st.lists(_NAMES, max_size=3).map(tuple)


@dataclass(frozen=True)
class Wanted:
    """Something that shall lie in the source."""

    folders: tuple[str, ...]
    name: str
    size: int
    kind: str


_FILES = st.builds(
    Wanted, _FOLDERS, _NAMES, _SMALL, st.sampled_from(["full", "holes", "hard link", "link"])
)
_LARGE = st.builds(Wanted, _FOLDERS, _NAMES, _BORDERS, st.sampled_from(["full", "holes"]))
_EMPTY = st.builds(Wanted, _FOLDERS, _NAMES, st.just(0), st.just("folder"))
_TREES = st.tuples(st.lists(_FILES | _EMPTY, max_size=12), st.lists(_LARGE, max_size=2)).map(
    lambda pair: pair[1] + pair[0]
)
_WRONG = st.sampled_from(["loop", "leads nowhere", "to its own folder", "to what is private"])


def often(examples):
    """Try so many trees, each as long as it takes."""
    checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(
        max_examples=campaign(examples), deadline=None, database=None, suppress_health_check=checks
    )


def build(root: Path, tree: list[Wanted]) -> list[Path]:
    """Make what is wanted, as far as names are free, and give the files."""
    made: list[Path] = []
    for number, wanted in enumerate(tree):
        path = root.joinpath(*wanted.folders, wanted.name)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            if wanted.kind == "folder":
                path.mkdir()
                continue
            if path.exists():
                continue
            make(path, wanted, number, made)
        except (FileExistsError, NotADirectoryError):  # the name is taken by something else
            continue
        made.append(path)
    return made


def make(path: Path, wanted: Wanted, number: int, others: list[Path]) -> None:
    """Make one file or link."""
    if wanted.kind == "link" and others:
        path.symlink_to(os.path.relpath(others[number % len(others)].resolve(), path.parent))
    elif wanted.kind == "hard link" and others:
        path.hardlink_to(others[number % len(others)].resolve())
    elif wanted.kind == "holes":
        with open(path, "wb") as file:
            file.write(b"begin"[: wanted.size])
            file.truncate(wanted.size)
            for place in (PART_SIZE, wanted.size - 3):  # the same hole twice would hide a mix-up
                if 5 < place < wanted.size - 2:
                    file.seek(place)
                    file.write(b"x%d" % (number % 10))
    else:
        path.write_bytes(os.urandom(wanted.size))


class TreesTestCase(TransferTestCase):
    """Gives all examples of a test one bucket, and each a folder and a name of its own."""

    destination = "s3://"

    def setUp(self):
        """Make the bucket."""
        super().setUp()
        self.enterContext(patch.dict(os.environ, _server.env))
        self.endpoint_url = _server.endpoint_url
        self.bucket = _server.create_bucket(f"test-{uuid.uuid4().hex[:12]}")
        self.subjects = count(1)

    def bring(self, root):
        """Run a job, and give what it asks for and the asset's name."""
        asked = {
            "modalities": [{"modality": "behavior", "source": str(root)}],
            "subject_id": str(next(self.subjects)),
        }
        self.run_job(**asked)
        return self.config(**asked).s3_prefix


class TestTrees(TreesTestCase):
    """What a job takes."""

    @often(30)
    @given(_TREES)
    @example([Wanted((), "é", 3, "full"), Wanted((), "e\u0301", 4, "full")])
    @example(
        [Wanted((), "a", 9, "full"), Wanted(("b",), "c", 9, "link"), Wanted((), "d", 0, "link")]
    )
    @example([Wanted((), "h", PART_SIZE + 1, "holes"), Wanted(("x",), "y", 1, "hard link")])
    def test_every_tree_arrives_as_it_is(self, tree):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "session"
            root.mkdir()
            files = build(root, tree)
            prefix = self.bring(root)
            self.assert_same(root, files, prefix)

    def assert_same(self, root, files, prefix):
        """Compare the asset and its manifest with the source."""
        header, entries = read_manifest(self.store, prefix)
        documents = {"data_description.json", "processing.json", "metadata.nd.json"}
        names = {f"behavior/{path.relative_to(root)}": path for path in files}
        self.assertEqual(set(entries) - documents, set(names))
        stored = self.stored(prefix)
        self.assertEqual(set(stored), set(entries))
        for name, path in names.items():
            data, entry = path.read_bytes(), entries[name]
            self.assertTrue(stored[name] == data, f"{name!r} has other bytes")
            self.assertEqual(entry.size, len(data))
            self.assertEqual(entry.sha256, hashlib.sha256(data).hexdigest())
            self.assertEqual(entry.mtime, utc(path.stat().st_mtime_ns))
        empty = {
            f"behavior/{place.relative_to(root)}".removesuffix("/.")
            for place in [root, *root.rglob("*")]
            if place.is_dir() and not any(place.iterdir())
        }
        told = set(header["empty_folders"])
        self.assertEqual(len(told), len(empty))
        if all(name.isprintable() for name in empty):
            self.assertEqual(told, empty)


class TestLinks(TreesTestCase):
    """What a job does not take."""

    @often(15)
    @given(st.lists(_FILES, max_size=4), _FOLDERS, _NAMES, _WRONG)
    def test_a_link_that_cannot_be_followed_stops_the_job_before_any_byte(
        self, tree, folders, name, wrong
    ):
        with tempfile.TemporaryDirectory() as folder:
            root = Path(folder) / "session"
            (root / "inner").mkdir(parents=True)
            build(root, tree)
            path = root.joinpath("inner", "wrong", *folders, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            target = {
                "loop": path,
                "leads nowhere": Path("nothing here"),
                "to its own folder": root,
                "to what is private": Path("/etc/hostname"),
            }[wrong]
            path.symlink_to(target)
            with self.assertRaisesRegex(SourceError, "link"):
                self.bring(root)
            listing = _server.client.list_objects_v2(Bucket=self.bucket)
            self.assertEqual(listing.get("Contents", []), [])
