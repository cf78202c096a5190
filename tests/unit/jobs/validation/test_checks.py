"""What is asked of the world before a job is accepted."""

import asyncio
import os
import socket
import tempfile
import threading
import time
import unittest
from pathlib import Path
from unittest.mock import patch

import tzlocal
from sqlalchemy.exc import OperationalError

from aind_data_transfer_service.concurrency.deadline_pool import Workers
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.configs.job_requests import parse_jobs
from aind_data_transfer_service.jobs.store.job_store import JobStore
from aind_data_transfer_service.jobs.validation import link_checks
from aind_data_transfer_service.jobs.validation.checks import Checks, look_at_source
from aind_data_transfer_service.jobs.validation.requests import Draft, HpcJobRequest
from aind_data_transfer_service.jobs.validation.results import CheckResult, Labelled, ToCheck
from aind_data_transfer_service.settings.metadata import LabSettings, MetadataSettings, Policy
from aind_data_transfer_service.settings.post_upload import PostUploadSettings
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.source_paths import roots as source_roots
from aind_data_transfer_service.source_paths.excluded_names import ExcludedNames
from aind_data_transfer_service.source_paths.roots import SourceRoots
from tests.support import slow, wait_until
from tests.support.code_ocean import CAPSULE, TOKEN, CodeOceanStub
from tests.support.jobs import a_job, a_request
from tests.support.metadata import MetadataServer
from tests.support.threads import limit_threads


class ChecksTest(unittest.IsolatedAsyncioTestCase):
    """Each check, by itself, on a world that a test makes."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        self.vast = self.folder / "vast"
        (self.vast / "here").mkdir(parents=True)
        self.store = JobStore(f"sqlite:///{self.folder / 'jobs.sqlite3'}")
        self.addCleanup(self.store.close)
        credentials = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
        region = {"AWS_DEFAULT_REGION": "us-east-1", "AWS_EC2_METADATA_DISABLED": "true"}
        environment = patch.dict(os.environ, credentials | region)
        environment.start()
        self.addCleanup(environment.stop)

    async def check(self, *jobs: Labelled, zone="America/Los_Angeles", **settings) -> CheckResult:
        settings |= {"lab_timezone": zone} if zone else {}
        checks = Checks(ServiceSettings(data_dir=self.folder / "data", **settings), self.store)
        try:
            return await checks.run(jobs)
        finally:
            checks.close()

    def job(self, label: str = "row 2", source: str = "", **values) -> ToCheck:
        text = a_request(source or str(self.vast / "here"), **values)
        return ToCheck(label, BasicUploadJobConfigs.model_validate_json(text))

    def assert_found(self, result: CheckResult, errors: list[str], warnings: list[str]):
        for found, wanted in (
            (result.flat_errors(), errors),
            (result.flat_warnings(), warnings),
        ):
            self.assertEqual(len(found), len(wanted), found)
            for text, pattern in zip(found, wanted):
                self.assertRegex(text, pattern)

    async def test_a_job_with_nothing_against_it(self):
        self.assert_found(await self.check(self.job()), [], [])
        roots = [self.vast]
        self.assert_found(await self.check(self.job(), source_roots=roots), [], [])

    async def test_a_term_that_the_chosen_generation_lacks_is_a_warning(self):
        modalities = [{"modality": "BARseq", "source": str(self.vast / "here")}]
        job = self.job(platform="motor-observatory", modalities=modalities)
        later = 'has no modality "BARseq"; data_description.json will be invalid$'
        both = 'has no platform "motor-observatory" and no modality "BARseq"; .* invalid$'
        for generation, warnings in (("0.34", [both]), ("1", [later]), ("2", [])):
            with self.subTest(generation), patch.dict(os.environ, METADATA_SCHEMA=generation):
                self.assert_found(await self.check(job), [], warnings)
        described = self.job(modalities=modalities, metadata_dir=str(self.vast / "here"))
        warnings = ["row 2: generation 0.34 .* invalid unless metadata_dir has a valid one"]
        self.assert_found(await self.check(described), [], warnings)

    async def test_a_time_zone_that_nobody_set_is_a_warning_once(self):
        jobs = self.job(), self.job("row 3", subject_id="690166")
        self.addCleanup(tzlocal.reload_localzone)
        for machine, warnings in (
            ("UTC", ["acq_datetime: assets are named by the clock of UTC, .* LAB_TIMEZONE"]),
            ("Etc/UTC", ["the clock of Etc/UTC, "]),
            ("Etc/GMT", ["the clock of Etc/GMT, "]),
            ("Etc/GMT+8", []),
            ("America/Los_Angeles", []),
            ("Atlantic/Reykjavik", []),
        ):
            with self.subTest(machine), patch.dict(os.environ, TZ=machine):
                tzlocal.reload_localzone()
                self.assert_found(await self.check(*jobs, zone=None), [], warnings)
                self.assert_found(await self.check(*jobs, zone="UTC"), [], [])

    @slow
    async def test_a_capsule_that_will_not_run_is_a_warning_and_never_an_error(self):
        asked = self.job(process_capsule_id=CAPSULE)
        s3 = {"destination": "s3://", "aws_endpoint_url": "http://127.0.0.1:1"}
        s3["default_s3_bucket"] = "recordings"
        not_there = "row 2: it could not be checked"
        with CodeOceanStub() as stub:
            known = PostUploadSettings(codeocean_domain=stub.url, codeocean_token=TOKEN)
            wrong = PostUploadSettings(codeocean_domain=stub.url, codeocean_token="x")
            for settings, job, warnings in (
                (
                    {},
                    asked,
                    ["row 2, process_capsule_id: nothing will run .* Code Ocean is not configured"],
                ),
                ({"post_upload": known}, asked, ["is in a local folder"]),
                ({"post_upload": known} | s3, asked, [not_there]),
                ({"post_upload": wrong} | s3, asked, [not_there, "not accept CODEOCEAN_TOKEN"]),
                (
                    {"post_upload": known} | s3,
                    self.job(process_capsule_id="gone"),
                    [not_there, "has no capsule or pipeline gone"],
                ),
                ({"hpc": HpcSettings(aws_param_store_name="/p")}, asked, []),
                ({"aws_param_store_name": "/p"}, asked, []),
            ):
                self.assert_found(await self.check(job, **settings), [], warnings)
            stub.fail("capsules", "slow")
            late = await self.check(asked, post_upload=known, check_timeout=0.3, **s3)
            self.assertIn("did not answer in time", late.flat_warnings()[-1])
            place = "aind_data_transfer_service.post_upload.code_ocean.CodeOcean"
            with patch(place, side_effect=RuntimeError("hunter2")):
                odd = await self.check(asked, post_upload=known, **s3)
            self.assertIn("the check itself failed (RuntimeError)", odd.flat_warnings()[-1])

    async def test_a_bare_script_has_nothing_to_check(self):
        script = Draft("job 1", HpcJobRequest("{}"), {}, None, "")
        self.assert_found(await self.check(script), [], [])

    async def test_a_missing_source_beneath_a_root_is_an_error_that_names_row_and_column(self):
        result = await self.check(
            self.job("row 17", str(self.vast / "gone")),
            self.job("job 3", str(self.vast / "gone"), subject_id="2"),
            source_roots=[self.vast],
        )
        self.assert_found(
            result,
            [
                r"^row 17, modality0\.source: .*/vast/gone does not exist$",
                r"^job 3, modalities\.0\.source: .*gone does not exist$",
            ],
            [],
        )

    async def test_a_folder_that_looks_the_same_is_named(self):
        for existing, asked, shown, reason in (
            (
                "Mu\u0308ller",
                "M\u00fcller",
                "Mu\\u0308ller",
                "the Unicode form of its accents; corr",
            ),
            ("Zo\u00eb", "Zoe\u0308", "Zo\u00eb", "the Unicode form of its accents; correct"),
            ("Behavior", "behavior", "Behavior", "upper and lower case; correct the path"),
            ("Run 1 ", "Run 1", "Run 1 ", "a blank at an end of a name; rename it"),
            ("Run\u00a02", "Run 2", "Run\\xa02", "blanks, invisible characters"),
            ("a\u00adc", "ac", "a\\xadc", "blanks, invisible characters"),
        ):
            (self.vast / existing / "x").mkdir(parents=True)
            source = str(self.vast / asked / "x")
            with self.subTest(existing=existing, asked=asked):
                result = await self.check(self.job(source=source), source_roots=[self.vast])
                [error] = result.flat_errors()
                words = f'/x does not exist ("{self.vast}/{shown}/x" exists: it differs in {reason}'
                self.assertIn(words, error)

    async def test_a_folder_that_may_not_be_read_is_not_named(self):
        (self.vast / ".ssh").mkdir()
        source = str(self.vast / ".SSH")
        result = await self.check(self.job(source=source), source_roots=[self.vast])
        self.assert_found(result, ["/.SSH does not exist$"], [])

    async def test_a_path_is_shown_with_what_nobody_sees_in_it(self):
        source = f"{self.vast}/Run\u00a01"
        result = await self.check(self.job(source=source), source_roots=[self.vast])
        self.assert_found(result, [r"/vast/Run\\xa01 does not exist$"], [])

    async def test_a_missing_source_is_a_warning_where_no_roots_are_named(self):
        result = await self.check(self.job(source="/shared_drive/x"))
        self.assert_found(result, [], ["/shared_drive/x does not exist as seen from here"])

    async def test_a_source_under_no_root_is_an_error(self):
        job = self.job(source=str(self.folder / "vast2" / "x"))
        result = await self.check(job, source_roots=[self.vast])
        self.assert_found(
            result, [r"vast2/x is not under a folder .*/vast\); move .*SOURCE_ROOTS"], []
        )

    async def test_roots_hold_for_what_a_network_name_is_read_as(self):
        text = a_request(f"/{self.folder}/elsewhere")
        (config,), _ = parse_jobs([text], path_mappings={})
        result = await self.check(ToCheck("row 2", config), source_roots=[self.vast])
        self.assert_found(result, [r": /.*/elsewhere is not under a folder"], [])

    async def test_roots_hold_for_links_folders_of_metadata_and_extra_configs(self):
        (self.folder / "elsewhere").mkdir()
        (self.vast / "link").symlink_to(self.folder / "elsewhere")
        (self.vast / "inner").symlink_to(self.vast / "here")
        (self.folder / "mount").symlink_to(self.vast)
        strict = {"source_roots": [self.vast, self.folder / "mount"]}
        for source in ("vast/here", "vast/inner", "mount/here", "mount/inner"):
            with self.subTest(source):
                job = self.job(source=str(self.folder / source))
                self.assert_found(await self.check(job, **strict), [], [])
        modality = {
            "modality": "behavior",
            "source": f"{self.vast}/link",
            "extra_configs": f"{self.vast}/link/x.json",
        }
        job = self.job(modalities=[modality], metadata_dir=f"{self.folder}/elsewhere")
        self.assert_found(
            await self.check(job, **strict),
            [
                r"modality0\.source: .*/link leads to .*/elsewhere, which is not under",
                r"modality0\.extra_configs: .*/link/x.json leads to .*/elsewhere/x.json",
                r"metadata_dir: .*/elsewhere is not under a folder",
            ],
            [],
        )

    @slow
    async def test_private_folders_are_errors_whatever_the_roots(self):
        (self.vast / "link").symlink_to("/etc")
        (self.vast / "anna" / ".ssh").mkdir(parents=True)
        for roots in ({}, {"source_roots": ["/"]}):
            for source, words in (
                (self.folder / "data", "is never uploaded: it is, or contains, .*/data; name"),
                (self.folder, "is never uploaded: it is, or contains, .*/data; name"),
                ("/etc/ssl", "/etc/ssl is never uploaded: it is, or contains, /etc; name"),
                ("/proc/self/root/srv/x", "is never uploaded: it is, or contains, /proc; name"),
                (self.vast / "link", "link leads to /etc, which is never uploaded"),
                (self.vast / "anna" / ".ssh", r"it is, or contains, keys \(\.ssh\)"),
            ):
                with self.subTest(source, **roots):
                    job = self.job(source=str(source))
                    found = await self.check(job, **roots)
                    self.assert_found(found, [rf"^row 2, modality0\.source: .*{words}"], [])

    async def test_nothing_is_asked_about_what_may_not_be_read(self):
        asked = []
        name = "aind_data_transfer_service.jobs.validation.checks.look_at_source"
        (self.vast / "link").symlink_to("/etc")
        with patch(name, lambda path: asked.append(path) or ""):
            for source in (self.folder / "elsewhere", "/etc/shadow", self.vast / "link/shadow"):
                await self.check(self.job(source=str(source)), source_roots=[self.vast])
        self.assertEqual([str(self.vast)] * 3, asked)

    def link(self, name: str, target: object) -> None:
        """Make a link in the source."""
        path = self.vast / "here" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(str(target))

    async def test_links_that_cannot_be_followed_are_all_named(self):
        (self.vast / "good").mkdir()
        self.link("good", self.vast / "good")
        for number in range(3):
            self.link(f"inner/gone{number}", self.vast / f"gone{number}")
        self.link("inner/self", "..")
        (self.folder / "elsewhere").mkdir()
        self.link("out", self.folder / "elsewhere")
        self.link("._gone", "nowhere")
        words = [
            r"the link .*/here/out leads to .*/elsewhere, which is not under a folder",
            *(
                rf"inner/gone{n} is a link that leads nowhere \(.*/vast/gone{n}\); repair or"
                for n in range(3)
            ),
            r"inner/self is a link to a folder that contains it \(.*/here\); repair or",
        ]
        strict = {"source_roots": [self.vast]}
        found = await self.check(self.job(), **strict)
        self.assert_found(found, [rf"^row 2, modality0\.source: .*({one})" for one in words], [])
        found = await self.check(self.job(), broken_links="warn", **strict)
        self.assertEqual(1, len(found.flat_errors()))
        self.assertEqual(4, len(found.flat_warnings()))
        for warning in found.flat_warnings():
            self.assertTrue(warning.endswith("; it is left out"), warning)

    async def test_a_link_to_a_drive_that_is_not_seen_from_here_is_a_warning(self):
        self.link("away", "/mnt/other/drive/x")
        for roots in ({}, {"source_roots": [self.vast, "/mnt/other/drive"]}):
            with self.subTest(**roots):
                found = await self.check(self.job(), **roots)
                self.assert_found(found, [], ["away is a link .* only the job can tell$"])

    async def test_the_look_at_links_is_bounded(self):
        strict = {"source_roots": [self.vast]}
        for number in range(30):
            self.link(f"gone{number:02}", "nowhere")
        found = await self.check(self.job(), **strict)
        self.assertEqual(link_checks.MAX_LINKS, len(found.flat_errors()))
        [warning] = found.flat_warnings()
        self.assertIn("/here: the look at its links ended after these 20; the job looks", warning)
        limits = {"MAX_ENTRIES": 5, "MIN_ENTRIES": 5}
        with patch.multiple(link_checks, **limits):
            found = await self.check(self.job(), **strict)
        self.assertEqual(5, len(found.flat_errors()))
        now = iter([0.0, 1.0, 2.0, 6.0])
        search = link_checks.LinkSearch(
            SourceRoots(), [], ExcludedNames(), 100, 5.0, lambda: next(now)
        )
        report = link_checks.LinkReport()
        search.find(str(self.vast / "here"), report)
        self.assertEqual(2, len(report.found))
        self.assertIn("could not all be looked at in time", report.end)

    async def test_a_drive_that_hangs_while_links_are_looked_for_holds_up_nothing(self):
        released = threading.Event()
        self.addCleanup(released.set)
        self.link("a", "nowhere")
        self.link("b", self.vast / "slow")
        self.link("c", "nowhere")
        real = os.path.realpath

        def hang(path, **how):
            if str(path).endswith("/here/b"):
                released.wait()
            return real(path, **how)

        late = ["/here: its links could not all be looked at in time; the job looks at all of them"]
        strict = {"source_roots": [self.vast]}
        with patch.object(os.path, "realpath", hang), patch.object(link_checks, "SECONDS", 0.1):
            start = time.monotonic()
            found = await self.check(self.job(), **strict)
        self.assertLess(time.monotonic() - start, 2)
        self.assert_found(found, ["/here/a is a link that leads nowhere"], late)

    async def test_links_to_a_drive_that_hangs_are_not_followed_outside_the_roots(self):
        dead = self.folder / "dead"
        mounts = self.folder / "mountinfo"
        mounts.write_text(f"1 1 0:1 / / rw - ext4 x rw\n2 1 0:2 / {dead} rw - nfs4 s:/ rw\n")
        (self.folder / "alias").symlink_to(dead)
        for number in range(8):
            self.link(f"link{number}", dead / str(number))
        self.link("over", self.folder / "alias" / "x")
        asked, real = [], {name: getattr(os, name) for name in ("stat", "lstat", "readlink")}

        def look(name):
            def ask(path, *args, **more):
                if str(path).startswith(str(dead)):
                    asked.append(path)
                return real[name](path, *args, **more)

            return ask

        looks = {name: look(name) for name in real}
        with patch.object(source_roots, "_MOUNTS", mounts), patch.multiple(os, **looks):
            found = await self.check(self.job(), source_roots=[self.vast])
        self.assertEqual([], asked)
        words = "leads to .*/dead/.*, where the service does not look; only the job can tell$"
        self.assert_found(found, [], [words] * 9)

    async def test_links_that_hang_in_a_root_hold_up_no_later_check(self):
        released = threading.Event()
        self.addCleanup(released.set)
        real = os.path.realpath

        def hang(path, **how):
            if "/hangs" in str(path):
                released.wait()
            return real(path, **how)

        sources = [self.vast / str(number) for number in range(8)]
        for source in sources:
            source.mkdir()
            (source / "hangs").symlink_to(self.vast / "here")
        jobs = [self.job(f"row {n}", str(source)) for n, source in enumerate(sources)]
        settings = ServiceSettings(
            data_dir=self.folder / "data", source_roots=[self.vast], lab_timezone="UTC"
        )
        checks = Checks(settings, self.store)
        self.addCleanup(checks.close)
        with patch.object(os.path, "realpath", hang), patch.object(link_checks, "SECONDS", 0.6):
            await checks.run(jobs)
            found = await checks.run([self.job(source=str(self.vast / "missing"))])
        self.assertRegex(found.flat_errors()[0], "/missing does not exist")

    async def test_a_bucket_that_is_not_allowed_is_an_error_even_if_it_is_the_default(self):
        allowed = {"allowed_buckets": "lab-*", "default_s3_bucket": "other"}
        found = await self.check(self.job(), **allowed)
        self.assert_found(
            found, ['^row 2, s3_bucket: no bucket is named, and the default "other" is not'], []
        )
        found = await self.check(self.job(s3_bucket="lab-1"), **allowed)
        self.assert_found(found, [], [])

    @slow
    async def test_a_drive_that_hangs_makes_warnings_in_time(self):
        released = threading.Event()
        self.addCleanup(released.set)

        def hang(*_) -> str:
            released.wait()
            return ""

        name = "aind_data_transfer_service.jobs.validation.checks"
        for roots in ({}, {"source_roots": [self.vast]}):
            with patch(f"{name}.look_at_source", hang), patch(f"{name}.os.path.realpath", hang):
                start = time.monotonic()
                result = await self.check(self.job(), check_timeout=0.4, **roots)
            with self.subTest(**roots):
                self.assertLess(time.monotonic() - start, 0.4 + 1)
                self.assert_found(result, [], ["could not be checked: its drive did not answer"])

    async def test_a_root_that_is_not_mounted_makes_warnings_only(self):
        away = self.folder / "away"
        result = await self.check(self.job(source=str(away / "x")), source_roots=[away])
        self.assert_found(result, [], ["away is not to be seen from here now"])

    async def test_a_missing_folder_of_metadata_is_a_warning(self):
        job = self.job("row 4", metadata_dir=str(self.vast / "Config"))
        result = await self.check(job, source_roots=[self.vast])
        self.assert_found(result, [], ["^row 4, metadata_dir: .*Config does not exist"])

    async def test_an_asset_that_is_there_is_an_error_unless_forced(self):
        job = self.job()
        asset = self.folder / "data" / "destination" / "data" / job.config.s3_prefix
        asset.mkdir(parents=True)
        (asset / "file").touch()
        result = await self.check(job)
        self.assert_found(result, ["row 2: .*exists already; .*force_cloud_sync"], [])
        self.assert_found(await self.check(self.job(force_cloud_sync=True)), [], [])
        near = self.job(acq_datetime="2024-02-19T11:25:18")
        self.assert_found(await self.check(near), [], [])

    @slow
    async def test_a_job_for_s3_without_a_bucket_is_an_error_and_the_others_are_checked(self):
        missing = self.job("row 3", metadata_dir=None)
        result = await self.check(
            missing, self.job(s3_bucket="recordings"), destination="s3://", check_timeout=0.1
        )
        self.assertEqual(["row 3"], list(result.errors))
        [error] = result.errors["row 3"]
        self.assertRegex(error, "^row 3, s3_bucket: missing; name the bucket .*DEFAULT_S3_BUCKET")

    async def test_many_assets_are_looked_for_at_once(self):
        jobs = [self.job(f"row {number}", subject_id=str(number)) for number in range(2, 60)]
        asset = self.folder / "data" / "destination" / "data" / jobs[40].config.s3_prefix
        asset.mkdir(parents=True)
        (asset / "file").touch()
        self.assert_found(await self.check(*jobs), ["^row 42: "], [])

    @slow
    async def test_a_destination_that_does_not_answer_is_a_warning_in_time(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            start = time.monotonic()
            result = await self.check(
                self.job(s3_bucket="recordings"),
                destination="s3://",
                aws_endpoint_url=url,
                check_timeout=0.3,
            )
        self.assertLess(time.monotonic() - start, 3)
        self.assert_found(result, [], ["could not be checked whether the asset exists .*in time"])

    @slow
    async def test_a_destination_that_is_not_there_is_a_warning(self):
        with socket.create_server(("127.0.0.1", 0)) as server:
            url = f"http://127.0.0.1:{server.getsockname()[1]}"
        for address in (url, "http://no-such-host.invalid"):
            began = time.monotonic()
            job = self.job(s3_bucket="recordings")
            result = await self.check(job, destination="s3://", aws_endpoint_url=address)
            self.assert_found(result, [], ["could not be checked whether the asset exists"])
            self.assertLess(time.monotonic() - began, 2.0, "no second attempt is of any help")

    async def test_an_asset_twice_is_an_error_even_where_only_one_job_names_its_bucket(self):
        result = await self.check(self.job(), self.job("row 3", s3_bucket="data"))
        self.assert_found(result, [r"^row 3: the same asset as row 2 \(.*/data/behavior_"], [])

    async def test_an_asset_in_flight_is_an_error_that_names_the_job(self):
        job = self.job()
        place = f"{self.folder}/data/destination/data/{job.config.s3_prefix}"
        other = a_job(location=place)
        self.store.add([other])
        result = await self.check(job)
        self.assert_found(result, [f"^row 2: job {other.id} is bringing .* wait for its end"], [])

    async def test_a_store_that_does_not_answer_is_a_warning(self):
        with patch.object(self.store, "in_flight", side_effect=OperationalError("", {}, None)):
            result = await self.check(self.job())
        self.assert_found(result, [], ["^row 2: .* the store of jobs does not answer$"])

    @slow
    async def test_a_store_that_hangs_is_a_warning_in_time(self):
        released = threading.Event()
        self.addCleanup(released.set)
        settings = ServiceSettings(data_dir=self.folder / "data", check_timeout=0.1)
        checks = Checks(settings, self.store)
        self.addCleanup(checks.close)

        def hang(_) -> dict[str, str]:
            released.wait(30)
            return {}

        with patch.object(self.store, "in_flight", hang):
            async with asyncio.timeout(5):
                for _ in range(2):
                    result = await checks.run([self.job()])
                    warnings = [text for text in result.flat_warnings() if "store of jobs" in text]
                    self.assertEqual(1, len(warnings), result)

    async def test_subject_and_project_are_asked_about_once_each(self):
        with MetadataServer() as server:
            server.says("/subject/690165", {"subject_id": "690165"})
            server.says("/project_names", ["Ephys Platform", "Thalamus"])
            jobs = [
                self.job(f"row {number}", acq_datetime=f"2024-02-19T11:25:{number}")
                for number in range(10, 40)
            ]
            result = await self.check(*jobs, metadata_service_url=server.url)
            self.assert_found(result, [], [])
            self.assertEqual(len(server.asked), 2)

    async def test_an_unknown_subject_and_project_are_errors_with_a_hint(self):
        with MetadataServer() as server:
            server.says("/project_names", ["Ephys Platform", "Thalamus"])
            result = await self.check(
                self.job(project_name="Ephis platform"),
                self.job(
                    "row 3",
                    project_name="q",
                    metadata_dir=str(self.vast / "here"),
                    acq_datetime="2024-02-20T11:25:17",
                ),
                metadata_service_url=server.url,
            )
        self.assert_found(
            result,
            [
                'row 2, subject_id: the metadata service knows no subject "690165"',
                'row 2, project_name: "Ephis platform" .* did you mean "Ephys Platform"',
                'row 3, project_name: "q" is no project; see the list',
            ],
            ["row 3, subject_id: .* unless .*here holds a subject.json"],
        )

    @slow
    async def test_a_metadata_service_that_fails_makes_warnings_only(self):
        with MetadataServer() as server:
            server.says("/project_names", None, 500).says("/subject/690165", None, 503)
            result = await self.check(self.job(), metadata_service_url=server.url)
        self.assert_found(
            result,
            [],
            ["subject_id: could not be checked: .*503", "project_name: could not be .*500"],
        )
        with MetadataServer() as server:
            server.says("/project_names", []).says("/subject/690165", {"a": 1})
            result = await self.check(self.job(), metadata_service_url=server.url)
        self.assert_found(result, [], ["project_name: could not be checked: .* lists none"])

    def lab(self, **choice) -> LabSettings:
        """Make settings of a lab that has a folder of documents."""
        folder = self.folder / "lab"
        (folder / "subject").mkdir(parents=True, exist_ok=True)
        return LabSettings(choice=MetadataSettings(folder=folder, **choice))

    @slow
    async def test_another_source_that_knows_the_subject_and_project_is_enough(self):
        lab = self.lab()
        (self.folder / "lab" / "subject" / "690165.json").write_text('{"subject_id": "690165"}')
        with MetadataServer() as server:
            server.says("/project_names", None, 500).says("/subject/690165", None, 503)
            asked = {"metadata_service_url": server.url, "metadata": lab}
            result = await self.check(self.job(), **asked)
            self.assert_found(result, [], ["project_name: could not be checked: .*500"])
            (self.folder / "lab" / "project_names.json").write_text('["Ephys Platform"]')
            self.assert_found(await self.check(self.job(), **asked), [], [])
        self.assert_found(await self.check(self.job(), metadata=lab), [], [])
        wrong = await self.check(self.job(project_name="Ephys platfrom"), metadata=lab)
        self.assert_found(wrong, ['project_name: .* did you mean "Ephys Platform"'], [])

    async def test_a_subject_that_nobody_knows_is_judged_by_the_policy(self):
        words = 'subject_id: METADATA_FOLDER knows no subject "690165"$'
        for policy, errors, warnings in (
            (None, [words], []),
            (Policy.WARN, [], [words]),
            (Policy.IGNORE, [], []),
        ):
            with self.subTest(policy):
                result = await self.check(self.job(), metadata=self.lab(policy_subject=policy))
                self.assert_found(result, errors, warnings)

    async def test_a_page_in_place_of_a_metadata_service_makes_warnings_only(self):
        for status in (200, 404):
            with MetadataServer() as server:
                for path in ("/subject/690165", "/project_names"):
                    for start in ("", "/api/v2"):
                        server.says(start + path, b"<html>Log in</html>", status)
                result = await self.check(self.job(), metadata_service_url=server.url)
            with self.subTest(status):
                self.assert_found(
                    result,
                    [],
                    ["subject_id: could not be checked", "project_name: could not be checked"],
                )

    @slow
    async def test_a_metadata_service_that_is_silent_makes_warnings_in_time(self):
        with socket.create_server(("127.0.0.1", 0)) as silent:
            url = f"http://127.0.0.1:{silent.getsockname()[1]}"
            result = await self.check(self.job(), metadata_service_url=url, check_timeout=0.2)
        self.assert_found(result, [], ["subject_id: .*in time", "project_name: .*in time"])

    def test_looking_at_a_source(self):
        file = self.vast / "file"
        file.touch()
        loop = self.vast / "loop"
        loop.symlink_to(loop)
        self.assertEqual(look_at_source(str(self.vast)), "")
        self.assertEqual(look_at_source(str(file)), "")
        self.assertIn("does not exist", look_at_source(str(file / "below")))
        self.assertIn("cannot be looked at", look_at_source(str(loop)))
        self.assertIn("cannot be looked at", look_at_source("/" + "x" * 5000))


class WorkersTest(unittest.TestCase):
    """Many questions at once, with bounded patience."""

    def test_every_subject_gets_its_answer_even_a_failure(self):
        answers = Workers("w", 4).ask(lambda number: 10 // number, range(-50, 50), 10)
        self.assertEqual(len(answers), 100)
        self.assertEqual(answers[5], 2)
        self.assertIsInstance(answers[0], ZeroDivisionError)
        self.assertEqual(Workers("w", 4).ask(str, [], 10), {})

    def test_slow_questions_are_asked_at_the_same_time(self):
        together = threading.Barrier(3)
        workers = Workers("three workers", 3)
        answers = workers.ask(lambda _: together.wait(10), range(3), 10)
        self.assertEqual(len(answers), 3)
        workers.close()
        wait_until(
            lambda: "three workers" not in [thread.name for thread in threading.enumerate()],
            10,
            "the threads to end",
        )

    @slow
    def test_what_hangs_is_left_out_and_a_later_batch_does_not_hang(self):
        hang = threading.Event()
        self.addCleanup(hang.set)
        workers = Workers("w", 3)
        answers = workers.ask(
            lambda s: hang.wait() if s == "hangs" else s, ["hangs", "a", "b"], 0.5
        )
        self.assertEqual(answers, {"a": "a", "b": "b"})
        self.assertEqual(workers.ask(str, [1], 5), {1: "1"})

    def test_where_no_thread_can_be_started_nobody_waits(self):
        workers = Workers("w", 3)
        with limit_threads(0):
            began = time.monotonic()
            self.assertEqual(workers.ask(lambda _: self.fail(), range(4), 30), {})
        self.assertLess(time.monotonic() - began, 10)

    @slow
    def test_when_every_thread_hangs_there_are_no_more(self):
        hang = threading.Event()
        self.addCleanup(hang.set)
        workers = Workers("hanging workers", 2)
        for _ in range(5):
            self.assertEqual(workers.ask(lambda _: hang.wait(), range(4), 0.05), {})
        names = [thread.name for thread in threading.enumerate()]
        self.assertEqual(names.count("hanging workers"), 2)
