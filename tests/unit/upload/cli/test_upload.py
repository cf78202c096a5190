"""The job as a program: where its request comes from, how it ends, what it leaves word of."""

import contextlib
import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from unittest.mock import patch

from aind_data_transfer_service.concurrency.cancellation import Halt
from aind_data_transfer_service.errors import ExitCode
from aind_data_transfer_service.upload.cli import upload
from aind_data_transfer_service.upload.cli.shutdown import SIGNALS, Shutdown
from aind_data_transfer_service.upload.cli.upload import main
from aind_data_transfer_service.upload.job import job
from aind_data_transfer_service.upload.manifest.manifest import write_manifest
from tests.support import missing, slow
from tests.support.transfer import PREFIX, TransferTestCase


class TestProgram(TransferTestCase):
    """Runs `main` with the environment of a job."""

    def setUp(self):
        """Prepare the environment."""
        super().setUp()
        self.events = self.folder / "events.jsonl"
        self.environment = {
            "DATA_DIR": str(self.folder / "data"),
            "DESTINATION": str(self.folder / "store"),
            "LAB_TIMEZONE": "America/Los_Angeles",
            "UPLOAD_EVENTS_FILE": str(self.events),
            "JOB_ID": "job-1",
        }
        self.write("a.txt")

    def run_main(self, *argv, **environment):
        """Run the program; give its exit code, and keep what it printed."""
        self.out, self.err = io.StringIO(), io.StringIO()
        before = [signal.getsignal(number) for number in SIGNALS]
        with (
            patch.dict(os.environ, {**self.environment, **environment}, clear=True),
            patch.object(upload, "Shutdown", partial(Shutdown, deadline=60)),  # slow test disks
            contextlib.redirect_stdout(self.out),
            contextlib.redirect_stderr(self.err),
        ):
            code = main(list(argv))
        after = [signal.getsignal(number) for number in SIGNALS]
        self.assertEqual(before, after)
        return code

    def last(self):
        """Give the last event and the last line of the standard error."""
        event = json.loads(self.events.read_bytes().splitlines()[-1])
        return event, (self.err.getvalue().splitlines() or [""])[-1]

    def test_a_request_names_no_endpoint(self):
        names = ("metadata_service_url", "registration_url", "codeocean_domain", "slims_host")
        names += ("aws_param_store_name", "labtracks_server")
        known = json.loads(self.config().model_dump_json())
        request = json.dumps(known | dict.fromkeys(names, "http://127.0.0.1:1"))
        self.assertEqual(2, self.run_main("--json-args", request))
        for name in names:
            words = rf'{name}: (unknown field "{name}"|is decided by the administrator)'
            self.assertRegex(self.last()[1], words)

    def test_the_request_comes_as_text_as_file_or_from_the_environment(self):
        text = self.config().model_dump_json()
        path = self.write("request.json", text, root=self.folder)
        force = self.config(force_cloud_sync=True).model_dump_json()
        self.assertEqual(self.run_main("--json-args", text), 0)
        code = self.run_main("--json-file", str(path), JOB_ID="job-2")
        self.assertEqual(code, ExitCode.DESTINATION_EXISTS)
        self.assertEqual(self.run_main(UPLOAD_JOB_JSON_ARGS=force), 0)
        event, _ = self.last()
        self.assertEqual((event["step"], event["kind"], event["job_id"]), ("done", "end", "job-1"))
        self.assertEqual(event["asset"], PREFIX)

    def test_a_request_without_a_person_is_uploaded_and_names_nobody(self):
        request = json.loads(self.config().model_dump_json()) | {"processor_full_name": None}
        self.assertEqual(0, self.run_main("--json-args", json.dumps(request)))
        [stored] = (self.folder / "store").glob(f"*/{PREFIX}/processing.json")
        pipeline = json.loads(stored.read_bytes())["processing_pipeline"]
        self.assertEqual({"data_processes"}, pipeline.keys())

    def test_a_person_is_added_to_an_earlier_document_that_names_none(self):
        for earlier, wanted in (
            ({}, "Anna Apple"),
            ({"processor_full_name": None}, "Anna Apple"),
            ({"processor_full_name": "Ben Berry"}, "Ben Berry"),
        ):
            with self.subTest(earlier):
                pipeline = {"data_processes": []} | earlier
                text = json.dumps({"processing_pipeline": pipeline, "schema_version": "0.4.7"})
                self.write("processing.json", text, root=self.folder / "papers")
                config = self.config(metadata_dir=self.folder / "papers", force_cloud_sync=True)
                code = self.run_main("--json-args", config.model_dump_json())
                self.assertEqual(0, code, self.err.getvalue())
                [stored] = (self.folder / "store").glob(f"*/{PREFIX}/processing.json")
                found = json.loads(stored.read_bytes())["processing_pipeline"]
                self.assertEqual(wanted, found["processor_full_name"])
                self.assertTrue(found["data_processes"])

    def stored_in(self) -> list[str]:
        """Return the buckets that have the asset."""
        return sorted(path.parent.name for path in (self.folder / "store").glob(f"*/{PREFIX}"))

    def test_a_request_that_names_no_bucket_goes_where_the_service_would_send_it(self):
        for bucket, default, wanted in (
            (None, {}, "data"),
            ("default", {}, "data"),
            (None, {"DEFAULT_S3_BUCKET": "lab-x"}, "lab-x"),
            ("Default", {"DEFAULT_S3_BUCKET": "lab-x"}, "lab-x"),
        ):
            with self.subTest(bucket, wanted=wanted):
                store = {"DESTINATION": str(self.folder / "store" / f"{bucket}-{wanted}")}
                request = json.loads(self.config().model_dump_json()) | {"s3_bucket": bucket}
                code = self.run_main("--json-args", json.dumps(request), **store, **default)
                self.assertEqual(0, code, self.err.getvalue())
                [asset] = (self.folder / "store" / f"{bucket}-{wanted}").glob(f"*/{PREFIX}")
                self.assertEqual(wanted, asset.parent.name)

    def test_a_bucket_that_nobody_names_or_allows_is_refused(self):
        request = json.loads(self.config().model_dump_json()) | {"s3_bucket": None}
        for variables, words in (
            ({"DESTINATION": "s3://"}, "s3_bucket: missing; .*set DEFAULT_S3_BUCKET"),
            (
                {"DEFAULT_S3_BUCKET": "other", "ALLOWED_BUCKETS": "lab-*"},
                's3_bucket: "other" is not a bucket that jobs may upload to',
            ),
        ):
            code = self.run_main("--json-args", json.dumps(request), **variables)
            self.assertEqual(ExitCode.REQUEST, code)
            self.assertRegex(self.last()[1], words)

    def test_the_bucket_of_a_recorded_request_is_a_name(self):
        request = json.loads(self.config().model_dump_json()) | {"s3_bucket": "private"}
        buckets = {"PRIVATE_BUCKET_NAME": "lab-data"}
        recorded = buckets | {"UPLOAD_RECORDED": "true"}
        self.assertEqual(0, self.run_main("--json-args", json.dumps(request), **recorded))
        self.assertEqual(["private"], self.stored_in())
        self.assertEqual(0, self.run_main("--json-args", json.dumps(request), **buckets))
        self.assertEqual(["lab-data", "private"], self.stored_in())

    def test_a_recorded_request_is_taken_as_an_earlier_release_accepted_it(self):
        file = self.write("data\u200b/b.txt")
        request = json.loads(self.config().model_dump_json()) | {
            "processor_full_name": "None",
            "project_name": "-",
            "process_capsule_id": "NaN",
            "subject_id": "TRUE",
            "acq_datetime": "2024-11-03T01:30:00",  # the clock shows it twice
            "modalities": [{"modality": "behavior", "source": str(file.parent)}],
        }
        text = json.dumps(request)
        self.assertEqual(ExitCode.REQUEST, self.run_main("--json-args", text))
        for name in ("project_name", "processor_full_name", "subject_id", "acq_datetime"):
            self.assertIn(f"{name}: ", self.last()[1])
        code = self.run_main("--json-args", text, UPLOAD_RECORDED="true")
        self.assertEqual(0, code, self.err.getvalue())
        [asset] = (self.folder / "store").glob("*/behavior_TRUE_2024-11-03_01-30-00")
        self.assertTrue((asset / "behavior" / "b.txt").is_file())
        description = json.loads((asset / "data_description.json").read_bytes())
        self.assertEqual("-", description["project_name"])

    def test_an_asset_has_the_name_that_the_service_recorded(self):
        text = self.config().model_dump_json()
        for name, generation in ((PREFIX, "2"), (PREFIX.partition("_")[2], "0.34")):
            variables = {"METADATA_SCHEMA": generation, "UPLOAD_ASSET": name}
            self.assertEqual(0, self.run_main("--json-args", text, **variables))
            [description] = (self.folder / "store").glob(f"*/{name}/data_description.json")
            self.assertEqual(name, json.loads(description.read_bytes())["name"])
            self.assertEqual(name, self.last()[0]["asset"])

    def test_fields_of_earlier_releases_without_effect_are_warned_of(self):
        request = json.loads(self.config().model_dump_json()) | {"temp_directory": "/scratch"}
        self.assertEqual(0, self.run_main("--json-args", json.dumps(request)))
        events = [json.loads(line) for line in self.events.read_bytes().splitlines()]
        warnings = [event["message"] for event in events if event["kind"] == "warning"]
        self.assertIn('temp_directory: "/scratch" has no effect', " ".join(warnings))

    def test_a_dry_run_can_be_asked_for_on_the_command_line(self):
        code = self.run_main("--dry-run", "--json-args", self.config().model_dump_json())
        self.assertEqual(code, 0)
        self.assertIn("behavior/a.txt", self.out.getvalue())
        self.assertFalse((self.folder / "store").exists())

    def test_programs_get_the_plan_as_json_and_only_of_a_dry_run(self):
        text = self.config().model_dump_json()
        self.assertEqual(self.run_main("--dry-run", "--json", "--json-args", text), 0)
        plan = json.loads(self.out.getvalue())
        self.assertEqual((plan["asset"], plan["files"], plan["bytes"]), (PREFIX, 1, 4))
        self.assertEqual((plan["objects"], plan["estimate"]["requests"]), (4, 5))
        self.assertEqual(plan["estimate"]["assumed_bytes_per_second"], 125_000_000)
        with self.assertRaises(SystemExit):
            self.run_main("--json", "--json-args", text)
        self.assertIn("--json is for --dry-run", self.err.getvalue())

    def test_everything_wrong_with_a_request_stands_on_the_last_line(self):
        code = self.run_main("--json-args", '{"platform": "ecefys", "nonsense": 1}')
        self.assertEqual(code, ExitCode.REQUEST)
        event, line = self.last()
        self.assertEqual((event["kind"], event["figures"]), ("fail", {"exit_code": 2}))
        self.assertEqual(event["message"], line)
        for words in ("ecefys", "subject_id", "nonsense"):
            self.assertIn(words, line)

    def test_no_request_or_no_such_file_is_told(self):
        self.assertEqual(self.run_main(), ExitCode.REQUEST)
        self.assertIn("UPLOAD_JOB_JSON_ARGS", self.last()[1])
        self.assertEqual(self.run_main("--json-file", "/no/where"), ExitCode.REQUEST)
        self.assertIn("/no/where cannot be read", self.last()[1])

    def test_a_wrong_setting_is_told(self):
        code = self.run_main("--json-args", "{}", LAB_TIMEZONE="Mars/Base")
        self.assertEqual(code, ExitCode.REQUEST)
        self.assertIn("Mars/Base", self.err.getvalue())

    def test_a_missing_source_is_the_last_line(self):
        gone = [{"modality": "behavior", "source": "/no/such/folder"}]
        code = self.run_main("--json-args", self.config(modalities=gone).model_dump_json())
        self.assertEqual(code, ExitCode.SOURCE)
        event, line = self.last()
        self.assertEqual(line, "behavior: /no/such/folder does not exist")
        self.assertEqual((event["step"], event["message"]), ("preflight", line))

    def test_what_nobody_foresaw_still_ends_in_one_line(self):
        with patch("aind_data_transfer_service.upload.cli.upload.UploadJob.run") as run:
            run.side_effect = RuntimeError("odd\nthing")
            code = self.run_main("--json-args", self.config().model_dump_json())
        self.assertEqual(code, ExitCode.UNEXPECTED)
        self.assertEqual(self.last()[1], "unexpected RuntimeError: odd thing")

    def run_main_and_send(self, number, **environment):
        """Run the program, and send it a signal while it waits for a metadata service."""
        asked = threading.Event()
        self.addCleanup(asked.set)
        signals = iter([number])  # several questions are asked at once

        class Slow(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                for one in signals:
                    os.kill(os.getpid(), one)
                asked.wait(20)

            def log_message(self, *_):
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Slow)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        before = time.monotonic()
        code = self.run_main(
            "--json-args",
            self.config().model_dump_json(),
            METADATA_SERVICE_URL=f"http://127.0.0.1:{server.server_port}",
            **environment,
        )
        self.assertLess(time.monotonic() - before, 5)
        event, line = self.last()
        self.assertEqual((event["kind"], event["message"]), ("fail", line))
        self.assertEqual(event["figures"], {"exit_code": code})
        return code, line

    def test_each_signal_ends_the_job_cleanly_and_is_named(self):
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
            with self.subTest(number):
                code, line = self.run_main_and_send(number)
                self.assertEqual(code, ExitCode.TERMINATED)
                self.assertIn(f"terminated by {number.name}", line)

    def test_an_interrupt_from_the_keyboard_is_a_cancellation(self):
        self.assertEqual(self.run_main_and_send(signal.SIGINT), (ExitCode.CANCELLED, "cancelled"))

    @slow
    def test_a_signal_after_a_cancel_request_is_a_cancellation(self):
        file = self.folder / "job.cancel"
        code, _ = self.run_main_and_send(signal.SIGTERM, UPLOAD_CANCEL_FILE=str(file))
        self.assertEqual(code, ExitCode.TERMINATED)
        file.touch()
        code, line = self.run_main_and_send(signal.SIGTERM, UPLOAD_CANCEL_FILE=str(file))
        self.assertEqual((code, line), (ExitCode.CANCELLED, "cancelled"))

    def test_a_hangup_that_nohup_ignores_stays_ignored(self):
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        self.addCleanup(signal.signal, signal.SIGHUP, before)
        with patch("aind_data_transfer_service.upload.cli.upload.UploadJob.run") as run:
            run.side_effect = lambda *_: os.kill(os.getpid(), signal.SIGHUP)
            code = self.run_main("--json-args", self.config().model_dump_json())
        self.assertEqual(code, ExitCode.DONE)

    def test_a_signal_comes_too_late_once_the_asset_is_whole(self):
        with patch("aind_data_transfer_service.upload.job.job.release") as release:
            release.side_effect = lambda *_: os.kill(os.getpid(), signal.SIGTERM)
            code = self.run_main("--json-args", self.config().model_dump_json())
        self.assertEqual(code, 0)
        self.assertEqual(self.last()[0]["step"], "done")

    def run_main_with_faulty_release(self, error):
        """Run the program, whose records cannot be removed after the asset was published."""
        with patch("aind_data_transfer_service.upload.job.job.release", side_effect=error):
            code = self.run_main("--json-args", self.config().model_dump_json())
        self.assertEqual(code, ExitCode.DONE)
        self.assertIn(str(error), self.events.read_text())
        return self.last()[0]

    def test_a_thread_that_is_refused_after_the_asset_is_published_fails_nothing(self):
        event = self.run_main_with_faulty_release(RuntimeError("can't start new thread"))
        self.assertEqual((event["step"], event["kind"]), ("done", "end"))

    def test_an_unexpected_error_after_the_asset_is_published_is_a_warning(self):
        event = self.run_main_with_faulty_release(ValueError("odd thing"))
        self.assertEqual(event["kind"], "warning")
        self.assertIn("complete and verified, but then: unexpected ValueError", event["message"])

    def run_main_and_stop_at_manifest(self, write):
        """Run the program with another way to write the manifest, which gets the halt first."""
        halt = Halt()
        with (
            patch("aind_data_transfer_service.upload.cli.upload.Halt", lambda: halt),
            patch("aind_data_transfer_service.upload.job.job.write_manifest", partial(write, halt)),
        ):
            return self.run_main("--json-args", self.config().model_dump_json())

    def test_a_signal_between_acceptance_of_the_manifest_and_its_answer_fails_nothing(self):
        def write(halt, *arguments):
            write_manifest(*arguments)
            told = threading.Event()
            halt.listen(told.set)  # after the listener that interrupts the main thread
            os.kill(os.getpid(), signal.SIGTERM)
            self.assertTrue(told.wait(20))

        self.assertEqual(self.run_main_and_stop_at_manifest(write), ExitCode.DONE)
        self.assertEqual(self.last()[0]["step"], "done")

    def test_a_manifest_that_is_not_accepted_after_a_signal_is_not_waited_for(self):
        ended = threading.Event()
        self.addCleanup(ended.set)

        def write(halt, *_):
            os.kill(os.getpid(), signal.SIGTERM)
            ended.wait(20)

        with patch.object(job, "_PUBLISH_GRACE", 0.05):
            self.assertEqual(self.run_main_and_stop_at_manifest(write), ExitCode.TERMINATED)
        event, line = self.last()
        self.assertEqual((event["kind"], event["message"]), ("fail", line))
        self.assertIn("terminated by SIGTERM", line)
        request = self.config().model_dump_json()
        self.assertEqual(self.run_main("--json-args", request), ExitCode.DONE)

    @slow
    def test_a_main_thread_that_hangs_in_the_kernel_ends_with_the_process(self):
        """As in an uninterruptible read of the source: it takes no signal."""
        code = (
            "import os, signal, sys, threading\n"
            "from functools import partial\n"
            "from aind_data_transfer_service.upload.cli import shutdown, upload\n"
            "from aind_data_transfer_service.upload.job import job\n"
            "def hang(*_):\n"
            "    signal.pthread_sigmask(signal.SIG_BLOCK, shutdown.SIGNALS)\n"
            "    os.kill(os.getpid(), signal.SIGTERM)\n"
            "    threading.Event().wait()\n"
            "job.check_sources = hang\n"
            "upload.Shutdown = partial(upload.Shutdown, deadline=0.1)\n"
            "upload.main(sys.argv[1:])\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", code, "--json-args", self.config().model_dump_json()],
            env={**os.environ, **self.environment},
            capture_output=True,
            text=True,
            timeout=30,
        )
        self.assertEqual(ended.returncode, ExitCode.TERMINATED, ended.stderr)
        event = json.loads(self.events.read_bytes().splitlines()[-1])
        self.assertEqual((event["kind"], event["step"]), ("fail", "preflight"))
        self.assertEqual(event["figures"], {"exit_code": 143})
        self.assertEqual(event["message"], ended.stderr.splitlines()[-1])

    def run_with_threads(self, most):
        """Run the program as a user of its own that may have so many threads."""
        user = 1_000_000_000 + os.getpid()  # nobody else's, whose threads would count too
        code = (
            "import os, resource, sys\n"
            # what is read only when needed is unreadable for it
            "from aind_data_transfer_service.storage import local_store\n"
            "from aind_data_transfer_service.metadata import schemas, validation\n"
            "from aind_data_transfer_service.upload.cli.upload import main\n"
            "from aind_data_transfer_service.plugins import TRANSFORMS\n"
            "from aind_data_transfer_service.settings.upload import UploadSettings\n"
            "UploadSettings(), TRANSFORMS.plugins\n"
            "schemas.read_terms(schemas.Generation.V0)\n"
            "for kind in ('data_description', 'processing', 'metadata'):\n"
            "    validation.problems_of(kind, {})\n"
            f"resource.setrlimit(resource.RLIMIT_NPROC, ({most}, {most}))\n"
            f"os.setgid({user}), os.setuid({user})\n"
            "os._exit(main(sys.argv[1:]))\n"
        )
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, user, user)
        request = self.config().model_dump_json()
        return subprocess.run(
            [sys.executable, "-c", code, "--json-args", request],
            env={**os.environ, **self.environment, "JOB_ID": f"job-{most}"},
            capture_output=True,
            text=True,
            timeout=60,
        )

    @slow
    def test_with_few_threads_it_does_its_work_or_says_what_is_missing(self):
        if os.geteuid() != 0:
            raise missing("root, who can act as another user")
        for number in range(5):
            self.write(f"{number}.bin", b"data")
        os.truncate(self.write("large.bin", b""), 20_000_000)
        codes = []
        for most in range(1, 9):
            with self.subTest(most):
                ended = self.run_with_threads(most)
                codes.append(ended.returncode)
                if ended.returncode:
                    line = ended.stderr.splitlines()[-1]
                    self.assertEqual(ended.returncode, ExitCode.TRANSFER, ended.stderr)
                    self.assertIn("raise the limit on processes", line)
                    continue
                event = json.loads(self.events.read_bytes().splitlines()[-1])
                self.assertEqual((event["step"], event["kind"]), ("done", "end"))
                break
        self.assertEqual((codes[0], codes[-1]), (ExitCode.TRANSFER, ExitCode.DONE))

    @slow
    def test_a_full_disk_beneath_the_log_leaves_the_exit_code_as_it_is(self):
        gone = [{"modality": "behavior", "source": "/no/such/folder"}]
        request = self.config(modalities=gone).model_dump_json()
        environment = {**self.environment, "PATH": os.environ["PATH"]}
        with open("/dev/full", "wb") as full:
            ended = subprocess.run(
                [sys.executable, "-m", "aind_data_transfer_service.upload", "--json-args", request],
                stderr=full,
                env=environment,
            )
        self.assertEqual(ended.returncode, ExitCode.SOURCE)

    @slow
    def test_it_starts_without_what_it_has_no_use_for(self):
        """Each job pays for what is loaded, and so does each shard of one."""
        code = (
            "import sys, aind_data_transfer_service.upload.cli.upload\n"
            "heavy = {'asyncio', 'boto3', 'botocore', 'sqlalchemy', 'fastapi', 'aind_data_schema', "
            "'aind_data_transfer_service.settings.service', 'jsonschema_rs', 'pymssql', 'httpx', "
            "'rich'}\n"
            "print(sorted(heavy & set(sys.modules)))"
        )
        command = [sys.executable, "-c", code]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        self.assertEqual(run.stdout, "[]\n")
