"""Links in sources: followed within what may be read, and never anywhere else."""

import contextlib
import io
import json
import os
import re
import shutil
import unittest
from unittest.mock import patch

from aind_data_transfer_service.cli import main
from aind_data_transfer_service.errors import MetadataError, SourceChangedError, SourceError
from aind_data_transfer_service.upload.job.events import Kind, Step
from aind_data_transfer_service.upload.manifest.manifest import read_manifest
from aind_data_transfer_service.upload.plan.items import FileItems
from aind_data_transfer_service.upload.plan.plan import PART_SIZE
from aind_data_transfer_service.upload.plan.shards import Shard, places_of
from aind_data_transfer_service.upload.source import sample
from aind_data_transfer_service.upload.source import scan as source_scan
from aind_data_transfer_service.upload.source.scan import scan
from tests.support.transfer import BUCKET, PREFIX, Told, TransferTestCase

SECRET = b"the secret"


class LinkTestCase(TransferTestCase):
    """A source, and data beside it that links lead to."""

    def setUp(self):
        """Write data in another folder of the session, and a secret outside of it."""
        super().setUp()
        self.session = self.folder / "session"
        self.raw = self.session / "raw"
        self.write("one.bin", b"one", root=self.raw)
        self.write("probe/two.bin", b"two", root=self.raw)
        self.write("probe/deep/three.bin", b"three", root=self.raw)
        self.secret = self.write("secret.bin", SECRET, root=self.folder / "outside")

    def link(self, name: str, target: object) -> None:
        """Make a link in the source."""
        path = self.source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(str(target))

    def relink(self, name: str, target: object) -> None:
        """Have a link lead elsewhere."""
        (self.source / name).unlink()
        self.link(name, target)

    def strict(self, **more):
        """Make settings that allow the session alone."""
        return self.settings(source_roots=[self.session], **more)

    def arrived(self) -> dict[str, bytes]:
        """Return the data of the asset."""
        return {k.removeprefix("behavior/"): v for k, v in self.stored().items() if "/" in k}

    def header(self):
        """Read the first line of the manifest."""
        return read_manifest(self.store, PREFIX)[0]

    def targets(self) -> dict[str, str]:
        """Return where the manifest says that files really are."""
        found = {path: entry.target for path, entry in self.manifest().items() if entry.target}
        return {path.removeprefix("behavior/"): target for path, target in found.items()}

    def as_twin(self, name: str, data: bytes, of) -> str:
        """Write a file of the same size and time as another."""
        path = self.write(name, data, root=self.session / "twins")
        self.assertEqual(path.stat().st_size, of.stat().st_size)
        shutil.copystat(of, path)
        return str(path)


class FollowedTest(LinkTestCase):
    """Links that are followed."""

    def test_a_folder_of_links_arrives_as_what_they_lead_to(self):
        self.write("a.bin", b"a")
        self.link("file", self.raw / "one.bin")
        self.link("again", "../raw/one.bin")
        self.link("a", self.raw / "probe")  # between a-b and a.bin by name, after both as a folder
        self.write("a-b", b"a-b")
        self.link("inner/chain", "../file")
        self.run_job(self.strict())
        probe = {"a/two.bin": b"two", "a/deep/three.bin": b"three"}
        self.assertEqual(
            {"a.bin": b"a", "a-b": b"a-b", "file": b"one", "again": b"one", "inner/chain": b"one"}
            | probe,
            self.arrived(),
        )
        one = os.path.realpath(self.raw / "one.bin")
        raw = os.path.dirname(one)
        self.assertEqual(
            {
                "file": one,
                "again": one,
                "inner/chain": one,
                "a/two.bin": f"{raw}/probe/two.bin",
                "a/deep/three.bin": f"{raw}/probe/deep/three.bin",
            },
            self.targets(),
        )
        links = {link["path"]: link["target"] for link in self.header()["links"]}
        self.assertEqual(f"{raw}/probe", links["behavior/a"])
        self.assertEqual(4, self.header()["links_total"])
        self.run_job(self.strict(), force_cloud_sync=True)
        self.assertEqual(0, self.told.figures("transfer", "end")["files_sent"])

    def test_links_in_linked_folders_are_followed_too(self):
        (self.raw / "probe" / "up").symlink_to("../one.bin")
        (self.raw / "probe" / "more").symlink_to(self.session / "more")
        self.write("x/y.bin", b"y", root=self.session / "more")
        (self.session / "more" / "z").symlink_to("x")
        self.link("p", self.raw / "probe")
        self.run_job(self.strict())
        arrived = self.arrived()
        self.assertEqual(b"one", arrived["p/up"])
        self.assertEqual(b"y", arrived["p/more/x/y.bin"])
        self.assertEqual(b"y", arrived["p/more/z/y.bin"])
        self.assertTrue(self.targets()["p/more/z/y.bin"].endswith("/session/more/x/y.bin"))

    def test_large_files_and_zips_are_read_through_links(self):
        large = os.urandom(PART_SIZE + 5)
        self.write("large.bin", large, root=self.raw)
        self.link("large", self.raw / "large.bin")
        self.link("p", self.raw / "probe")
        self.run_job(self.strict())
        self.assertTrue(self.arrived()["large"] == large)
        modality = {
            "modality": "behavior-videos",
            "source": str(self.source),
            "compress_raw_data": True,
        }
        self.run_job(self.strict(), modalities=[modality], force_cloud_sync=True)
        self.assertIn(b"p/deep/three.bin", self.stored()["behavior-videos/behavior-videos.zip"])
        self.assertEqual(2, self.header()["links_total"])

    def test_links_may_lead_into_the_source_of_another_modality(self):
        self.link("p", self.raw / "probe")
        modalities = [
            {"modality": "behavior", "source": str(self.source)},
            {"modality": "fib", "source": str(self.raw)},
        ]
        self.run_job(self.strict(), modalities=modalities)
        stored = self.stored()
        self.assertEqual(b"two", stored["behavior/p/two.bin"])
        self.assertEqual(b"two", stored["fib/probe/two.bin"])

    def test_two_links_to_one_folder_and_hard_links_arrive_as_often_as_they_are_named(self):
        self.link("p", self.raw / "probe")
        self.link("q", self.raw / "probe")
        os.link(self.raw / "one.bin", self.source / "hard")
        self.run_job(self.strict())
        self.assertEqual(
            {"p/two.bin", "p/deep/three.bin", "q/two.bin", "q/deep/three.bin", "hard"},
            set(self.arrived()),
        )

    def test_a_dry_run_lists_them(self):
        self.link("p", self.raw / "probe")
        self.run_job(self.strict(), dry_run=True)
        target = os.path.realpath(self.raw / "probe")
        self.assertIn(f"  behavior/p  link to {target}\n", self.printed.getvalue())

    def test_a_dry_run_counts_the_broken_links_that_it_does_not_list(self):
        for number in range(5):
            self.link(f"gone{number}", "nowhere")
        settings = self.strict(broken_links="warn")
        self.run_job(settings, dry_run=True)
        [first, *_] = re.findall("  left out: (.*)", self.printed.getvalue())
        with patch.object(sample, "MOST_BYTES", 3 * len(f'"{first}",')):
            self.run_job(settings, dry_run=True)
        self.assertIn("  2 more broken links\n", self.printed.getvalue())

    def zip_settings(self, *sources: str) -> list[dict]:
        """Make modalities, of which all but the first become zips, with two links in each source.

        The sources are folders beside the source of the test.
        """
        modalities = []
        for number, name in enumerate(sources):
            for link in "ab":
                path = self.session / name / link
                path.parent.mkdir(exist_ok=True)
                path.symlink_to(self.raw / "one.bin")
            source, compress = str(self.session / name), number > 0
            modalities.append({"modality": "fib", "source": source, "compress_raw_data": compress})
        return modalities

    def test_the_links_in_a_zip_are_all_listed_before_those_of_which_each_file_names_its_target(
        self,
    ):
        modalities = self.zip_settings("x", "y")
        target = os.path.realpath(self.raw / "one.bin")
        record = {"path": "fib1/a", "target": target}
        with patch.object(sample, "MOST_BYTES", 2 * len(json.dumps(record) + ",")):
            self.run_job(self.strict(), modalities=modalities)
        header, files = read_manifest(self.store, PREFIX)
        self.assertEqual(["fib1/a", "fib1/b"], [link["path"] for link in header["links"]])
        self.assertEqual(4, header["links_total"])
        self.assertEqual("", files["fib1/fib1.zip"].target)
        self.assertEqual([target] * 2, [files[f"fib/{name}"].target for name in "ab"])

    def test_files_whose_targets_have_no_room_in_the_manifest_are_not_zipped(self):
        modalities = self.zip_settings("x", "y", "z")
        target = os.path.realpath(self.raw / "one.bin")
        record = {"path": "fib1/a", "target": target}
        room = 3 * len(json.dumps(record) + ",")
        with patch.object(sample, "MOST_BYTES", room):
            self.run_job(self.strict(), modalities=modalities)
        header, files = read_manifest(self.store, PREFIX)
        self.assertEqual({"fib1/a", "fib1/b"}, {link["path"] for link in header["links"][:2]})
        self.assertEqual([target] * 2, [files[f"fib2/{name}"].target for name in "ab"])
        self.assertIn(
            "fib2: 2 links are too many for a zip beside the 2 in zips of other sources of this "
            f"job, 4 in all: the manifest has room for {room:,} bytes of paths and targets, which "
            "those have used in part; they travel as they are",
            self.told.warnings(),
        )

    def test_links_of_one_source_that_have_no_room_alone_blame_no_other_source(self):
        modalities = self.zip_settings("x", "y", "z")
        with patch.object(sample, "MOST_BYTES", 10):
            self.run_job(self.strict(), modalities=modalities)
        for name in ("fib1", "fib2"):
            self.assertIn(
                f"{name}: 2 links are too many for a zip: the manifest has room for 10 bytes of "
                "paths and targets; they travel as they are",
                self.told.warnings(),
            )

    def test_verify_proves_such_an_asset(self):
        self.link("p", self.raw / "probe")
        self.run_job(self.strict())
        environment = {
            "DATA_DIR": str(self.folder / "data"),
            "DESTINATION": str(self.folder / "store"),
        }
        with patch.dict(os.environ, environment), contextlib.redirect_stdout(io.StringIO()):
            self.assertEqual(0, main.main(["verify", f"{BUCKET}/{PREFIX}"]))

    def test_all_shards_plan_the_same(self):
        for number in range(12):
            self.link(f"f{number}", self.raw / "one.bin")
        self.link("p", self.raw / "probe")
        plans = [scan(str(self.source), "behavior", "p", 1024) for _ in range(2)]
        first, second = (FileItems(found.files) for found in plans)
        self.assertTrue(plans[0].files.is_same(plans[1].files))
        for number in (1, 2, 3):
            part = places_of(first, Shard(number, 3))
            self.assertEqual(part, places_of(second, Shard(number, 3)))
        for number in (1, 2, 3):
            self.told = Told()
            self.run_job(self.strict(job_id="one", upload_shard=f"{number}/3"))
        self.run_job(self.strict(job_id="one", upload_shards_done=3))
        self.assertEqual(0, self.told.figures("transfer", "end")["files_sent"])
        self.assertEqual(14, len(self.arrived()))
        self.assertEqual(14, len(self.targets()))

    def test_shards_that_saw_other_links_fail_the_last_job(self):
        self.write("a.bin", b"a")
        self.link("p", self.raw / "probe")

        def run(**settings):
            self.told = Told()
            self.run_job(self.strict(job_id="one", broken_links="warn", **settings))

        for number in (1, 2):
            run(upload_shard=f"{number}/2")
        self.raw.rename(self.session / "away")
        with self.assertRaisesRegex(
            SourceChangedError, r"leaves out 1 broken links \(.*p is a l.* 0 by shard 1 of 2, 0 by"
        ):
            run(upload_shards_done=2)
        (self.session / "away").rename(self.raw)
        run(upload_shards_done=2)
        self.assertEqual({"a.bin", "p/two.bin", "p/deep/three.bin"}, set(self.arrived()))

    def test_shards_that_left_out_the_same_links_do_not(self):
        self.write("a.bin", b"a")
        self.link("gone", "nowhere")
        for settings in ({"upload_shard": "1/2"}, {"upload_shard": "2/2"}, {}):
            settings = settings or {"upload_shards_done": 2}
            self.run_job(self.strict(job_id="one", broken_links="warn", **settings))
        self.assertEqual({"a.bin": b"a"}, self.arrived())


class RefusedTest(LinkTestCase):
    """Links that stop a job before any byte moves."""

    def check_refused(self, *words: str, modalities=None, **settings) -> None:
        """Expect a job to fail with these words, and to store nothing."""
        request = {} if modalities is None else {"modalities": modalities}
        with self.assertRaises(SourceError) as raised:
            self.run_job(self.strict(**settings), **request)
        for expected in words:
            self.assertIn(expected, str(raised.exception))
        self.assertEqual({}, self.stored())

    def test_links_out_of_the_roots_and_to_what_is_private_are_all_named(self):
        self.link("out", self.secret)
        self.link("folder", self.secret.parent)
        self.link("etc", "/etc")
        self.link("passwd", "/etc/passwd")
        self.link("data", self.folder / "data")
        (self.folder / "data").mkdir()
        self.write("home/.ssh/id_rsa", SECRET, root=self.session)
        self.link("key", self.session / "home/.ssh/id_rsa")
        self.link("keys", self.session / "home/.ssh")
        for broken in ("fail", "warn"):
            with self.subTest(broken):
                self.check_refused(
                    f"the link {self.source}/out leads to ",
                    f"the link {self.source}/folder leads to ",
                    "/outside, which is not under a folder that may be uploaded",
                    "/etc leads to /etc, which is never uploaded",
                    "/passwd leads to /etc/passwd, which is never",
                    "/data, which is never uploaded",
                    "/key leads to ",
                    "/keys leads to ",
                    "keys (.ssh)",
                    broken_links=broken,
                )

    def test_keys_in_linked_folders_stop_the_job(self):
        self.write("home/.aws/credentials", SECRET, root=self.session)
        self.write("home/.config/gcloud/x", SECRET, root=self.session)
        self.link("home", self.session / "home")
        self.link("conf", self.session / "home/.config")
        self.check_refused("home/.aws/ holds keys", "conf/gcloud/ holds keys")

    def test_keys_in_folders_that_links_name_config_stop_the_job(self):
        for name in ("gcloud/credentials.db", "rclone/rclone.conf"):
            self.write(name, SECRET, root=self.session / "dotfiles" / "config")
        self.link(".config", "../dotfiles/config")
        self.check_refused(".config/gcloud/ holds keys", ".config/rclone/ holds keys")

    def test_so_do_keys_in_a_source_that_is_such_a_link(self):
        self.write("gcloud/credentials.db", SECRET, root=self.session / "dotfiles")
        (self.session / ".config").symlink_to("dotfiles")
        modality = {"modality": "behavior", "source": str(self.session / ".config")}
        self.check_refused(".config/gcloud/ holds keys", modalities=[modality])

    def test_broken_links_and_loops_are_all_named(self):
        for number in range(15):
            self.link(f"gone{number:02}", f"nowhere{number}")
        self.link("in/side/up", "..")
        self.link("self", ".")
        self.link("session", self.session)
        self.link("one", "two")
        self.link("two", "one")
        self.check_refused(
            *(f"gone{n:02} is a link that leads nowhere (nowhere{n})" for n in range(15)),
            "in/side/up is a link to a folder that contains it",
            "self is a link to a folder that contains it",
            "session is a link to a folder that contains it",
            "one is a link that leads nowhere",
            "two is a link that leads nowhere",
        )

    def test_a_loop_over_several_links_is_found(self):
        self.link("a/to_b", self.raw)
        (self.raw / "to_c").symlink_to(self.session / "c")
        (self.session / "c").mkdir()
        (self.session / "c" / "to_b").symlink_to(self.raw)
        self.check_refused("a/to_b/to_c/to_b is a link to a folder that contains it")

    def test_links_to_each_other_have_an_end(self):
        for number in range(12):
            for name in ("x", "y"):
                (self.session / f"d{number}").mkdir(exist_ok=True)
                (self.session / f"d{number}" / name).symlink_to(self.session / f"d{number + 1}")
        self.write("end.bin", root=self.session / "d12")
        self.link("start", self.session / "d0")
        with patch.object(source_scan, "MOST_FOLDER_LINKS", 100):
            self.check_refused("has more than 100 links to folders")
        with patch.object(source_scan, "MOST_REPEATS", 64):
            self.check_refused("lead more than 64 times to ", "/d7, last ")

    def test_many_links_of_the_source_itself_to_one_folder_are_no_mistake(self):
        for number in range(5):
            self.link(f"p{number}", self.raw / "probe")
        with patch.object(source_scan, "MOST_REPEATS", 2):
            self.run_job(self.strict())
        self.assertEqual(10, len(self.arrived()))

    def test_a_destination_in_a_linked_folder_is_refused(self):
        store = self.session / "store"
        store.mkdir()
        self.link("all", store)
        self.check_refused("lies in the source", destination=str(store))

    def test_they_may_be_left_out_with_a_warning(self):
        self.write("a.bin", b"a")
        self.link("gone", "nowhere")
        self.link("self", ".")
        self.link("empty/gone", "nowhere")
        self.run_job(self.strict(broken_links="WARN"))
        self.assertEqual({"a.bin": b"a"}, self.arrived())
        [warning] = [text for text in self.told.warnings() if "leads nowhere" in text]
        for words in ("left out: ", "gone is a link that leads", "self is a link to a folder that"):
            self.assertIn(words, warning)
        header = self.header()
        self.assertEqual(3, header["broken_links_total"])
        self.assertIn("empty/gone is a link that leads nowhere", header["broken_links"][2])
        self.assertEqual(["behavior/empty"], header["empty_folders"])


class ChangedTest(LinkTestCase):
    """Links and their targets that change while a job runs."""

    def check_changed(self, words: str, step=Step.TRANSFER, kind=Kind.END, then=None, **request):
        """Expect a job to fail, and nothing of the secret to be stored."""
        self.told.when(step, kind, then)
        with self.assertRaisesRegex(SourceChangedError, words):
            self.run_job(self.strict(), **request)
        store = self.folder / "store"
        found = [path.read_bytes() for path in store.rglob("*") if path.is_file()]
        self.assertNotIn(SECRET, found)

    def test_a_link_that_leads_elsewhere_is_noticed_though_size_and_time_are_the_same(self):
        self.link("file", self.raw / "one.bin")
        twin = self.as_twin("one.bin", b"ONE", self.raw / "one.bin")
        self.check_changed(
            "file was a link to .*/raw/one.bin and now leads to .*/twins/one.bin",
            then=lambda: self.relink("file", twin),
        )
        self.assertEqual(b"one", self.arrived()["file"])
        self.told = Told()
        self.run_job(self.strict())
        self.assertEqual(b"ONE", self.arrived()["file"])
        self.assertEqual({"file": os.path.realpath(twin)}, self.targets())

    def test_so_is_a_source_that_is_a_link(self):
        self.source.rmdir()
        shutil.copytree(self.raw, self.session / "copy")
        self.source.symlink_to(self.raw)

        def relink():
            self.source.unlink()
            self.source.symlink_to(self.session / "copy")

        self.check_changed("Behavior led to .*/raw and now leads to .*/copy", then=relink)

    def test_so_is_a_linked_folder(self):
        self.link("p", self.raw / "probe")
        shutil.copytree(self.raw / "probe", self.session / "copy")
        self.check_changed(
            "p was a link to .*/raw/probe and now leads to .*/copy",
            then=lambda: self.relink("p", self.session / "copy"),
        )

    def test_a_link_that_becomes_a_file_is_noticed(self):
        self.link("file", self.raw / "one.bin")

        def replace():
            (self.source / "file").unlink()
            shutil.copy2(self.raw / "one.bin", self.source / "file")

        self.check_changed("file is no longer a link to .*/raw/one.bin", then=replace)

    def test_a_link_that_breaks_is_noticed(self):
        self.link("file", self.raw / "one.bin")
        self.check_changed(
            "file vanished",
            step=Step.PREFLIGHT,
            then=lambda: (self.raw / "one.bin").unlink(),
        )

    def test_what_a_link_leads_to_is_watched(self):
        self.link("p", self.raw / "probe")
        self.check_changed(
            "p/two.bin changed", then=lambda: self.write("probe/two.bin", b"longer", root=self.raw)
        )

    def test_a_target_that_is_swapped_for_a_link_is_not_read(self):
        self.link("file", self.raw / "one.bin")
        self.link("p", self.raw / "probe")
        self.write("deep/three.bin", SECRET[:5], root=self.secret.parent)
        for name, target in (("one.bin", self.secret), ("probe", self.secret.parent)):

            def swap(name=name, target=target):
                (self.raw / name).rename(self.folder / f"moved-{name}")
                (self.raw / name).symlink_to(target)

            with self.subTest(name):
                self.told = Told()
                self.check_changed("a link took its place", Step.METADATA, then=swap)
                (self.raw / name).unlink()
                (self.folder / f"moved-{name}").rename(self.raw / name)

    def test_a_link_that_is_swapped_before_it_is_read_leads_where_it_was_found(self):
        self.link("file", self.raw / "one.bin")
        twin = self.as_twin("outside.bin", b"OUT", self.raw / "one.bin")
        outside = shutil.move(twin, self.folder / "outside" / "outside.bin")
        shutil.copystat(self.raw / "one.bin", outside)
        self.told.when(Step.METADATA, Kind.END, lambda: self.relink("file", outside))
        with self.assertRaisesRegex(SourceError, "file leads to .*outside.bin, which is not under"):
            self.run_job(self.strict())
        stored = [p.read_bytes() for p in (self.folder / "store").rglob("file") if p.is_file()]
        self.assertEqual([b"one"], stored)

    def test_a_later_attempt_takes_the_target_of_its_own_time(self):
        self.link("file", self.raw / "one.bin")
        self.run_job(self.strict())
        same = self.as_twin("same.bin", b"one", self.raw / "one.bin")
        self.relink("file", same)
        self.run_job(self.strict(), force_cloud_sync=True)
        self.assertEqual({"file": os.path.realpath(same)}, self.targets())
        (self.source / "file").unlink()
        shutil.copy2(same, self.source / "file")
        self.run_job(self.strict(), force_cloud_sync=True)
        self.assertEqual({}, self.targets())
        other = self.as_twin("other.bin", b"ONE", self.raw / "one.bin")
        self.relink("file", other)
        self.run_job(self.strict(), force_cloud_sync=True)
        self.assertEqual(b"ONE", self.arrived()["file"])

    def test_the_last_look_asks_past_the_cache_of_a_linked_drive(self):
        self.link("p", self.raw / "probe")
        cached, real = {}, os.lstat

        def lstat(target):
            return cached.setdefault(str(target), real(target))

        def is_remote(folder):  # the linked folder is where the drive is mounted
            return str(folder) == os.path.realpath(self.raw / "probe")

        self.enterContext(patch.object(source_scan, "may_cache_attributes", is_remote))
        self.enterContext(patch.object(os, "lstat", lstat))
        self.check_changed(
            "p/two.bin changed", then=lambda: self.write("probe/two.bin", b"longer", root=self.raw)
        )

    def test_broken_links_in_a_folder_of_documents(self):
        folder = self.session / "metadata"
        self.write("rig.json", '{"rig_id": "1"}', root=folder)
        for number in range(12):
            self.write(f"._{number}.json", root=folder)
        (folder / "acquisition.json").symlink_to(self.folder / "outside" / "gone")
        (folder / "procedures.json").symlink_to(folder)
        (folder / "processing.json").symlink_to(self.raw / "one.bin" / "x")
        (folder / "session.json").symlink_to("session.json")
        (folder / "subject.json").symlink_to("nowhere")
        self.write("a.bin")
        nowhere = "{}.json is a link that leads nowhere"
        words = [nowhere.format(name) for name in ("acquisition", "processing", "session")]
        words += [nowhere.format("subject"), "procedures.json is a link to a folder that contains"]
        with self.assertRaises(MetadataError) as raised:
            self.run_job(self.strict(), metadata_dir=str(folder))
        for expected in (*words, "subject.json is a link that leads nowhere (nowhere); repair or"):
            self.assertIn(expected, str(raised.exception))
        self.told = Told()
        self.run_job(self.strict(broken_links="warn"), metadata_dir=str(folder))
        self.assertIn("rig.json", self.stored())
        [warning] = [text for text in self.told.warnings() if "left out of metadata_dir" in text]
        broken = "; ".join(self.header()["broken_links"])
        for expected in words:
            self.assertIn(expected, warning)
            self.assertIn(expected, broken)
        self.assertEqual(5, self.header()["broken_links_total"])

    def test_manifests_without_links_are_as_before(self):
        self.write("a.bin")
        self.run_job(self.strict())
        lines = self.store.get(f".transfer/{PREFIX}/manifest.jsonl").splitlines()
        self.assertNotIn("target", json.loads(lines[1]))


if __name__ == "__main__":
    unittest.main()
