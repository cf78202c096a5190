"""The batch script: run by bash, with whatever people write."""

import base64
import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import unittest
from pathlib import Path
from unittest.mock import patch

import psutil
from hypothesis import given, settings
from hypothesis import strategies as st

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.executors.slurm import batch_script
from aind_data_transfer_service.executors.slurm.batch_script import (
    compose_environment,
    compose_script,
    job_file,
)
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.settings.slurm import HpcSettings
from tests.support import campaign, slow, wait_until

HOSTILE = 'O\'Brien "$(touch pwned)" `touch pwned`; touch pwned\nEND-OF-DATA\ntouch pwned \\ % ü ☃'
TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=300)
PYTHON = """#!/bin/bash
printf '%s\\n' "$@" > "$ARGUMENTS"
cat "$4"
[ -z "${WAIT:-}" ] || { trap 'echo asked; exit 7' TERM; echo on; sleep 60 & wait; }
exit "${CODE:-0}"
"""
WAITING = f"""#!{sys.executable}
import os, pathlib, signal, sys
def end(*_):
    sys.exit(17)
signal.signal(signal.SIGUSR1, end)
pathlib.Path("ready").touch()
while True:
    signal.pause()
"""
SQUEUE = """#!/bin/bash
# Says what "ends" has on its next line, once the job is ready.
while [ ! -e ready ]; do /bin/sleep 0.01; done
echo "$SLURM_TIME_FORMAT $*" >>asked
end=$(head -n 1 ends)
/bin/sed -i 1d ends
echo "$end"
"""
CLOCK = """#!/bin/bash
[ "$1" = +%s ] && cat clock
"""
SINGULARITY = """#!/bin/bash
# As the real one does it: nothing but what bears the prefix reaches the command.
echo "container: $1 $2 $3" >&2
shift 3
while IFS= read -r -d '' pair; do
    case "$pair" in SINGULARITYENV_*) kept+=("${pair#SINGULARITYENV_}") ;; esac
done < <(env -0)
exec env -i PATH="$PATH" "${kept[@]}" "$@"
"""


class ScriptTest(unittest.TestCase):
    """A folder of logs, and stand-ins for Python and Singularity."""

    def setUp(self):
        self.folder = Path(tempfile.mkdtemp(prefix="logs of O'Brien $(id) "))
        self.addCleanup(shutil.rmtree, self.folder)
        for name, text in (("a python", PYTHON), ("singularity", SINGULARITY)):
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o700)

    def hpc(self, **values) -> HpcSettings:
        """Make settings of a cluster."""
        defaults = {
            "host": "slurm",
            "username": "svc",
            "token": "t",
            "current_working_directory": "/hpc",
            "logging_directory": str(self.folder),
            "python": str(self.folder / "a python"),
        }
        return HpcSettings(**(defaults | values))

    def command(self, spec: JobSpec, slurm_id: int, hpc: HpcSettings, **variables: str):
        """Compose what bash is to run, and where."""
        environment = compose_environment(spec, hpc, {"ARGUMENTS": str(self.folder / "arguments")})
        environment["PATH"] = f"{self.folder}:{environment['PATH']}"
        environment |= {"SLURM_JOB_ID": str(slurm_id), **variables}
        script = self.folder / "slurm_script"
        limit = spec.settings.get("time_limit")
        script.write_text(compose_script(spec, hpc, time_limit=limit), encoding="utf-8")
        return {"args": ["bash", str(script)], "env": environment, "cwd": self.folder}

    def run_job(self, spec: JobSpec, slurm_id: int = 12, hpc: HpcSettings | None = None, **more):
        """Run a job as Slurm would."""
        command = self.command(spec, slurm_id, hpc or self.hpc(), **more)
        return subprocess.run(**command, capture_output=True, timeout=30)

    def end(self, job_id: str) -> dict:
        """Read how a job ended."""
        return json.loads((self.folder / f"{job_id}.end").read_text())

    def assert_inert(self):
        """Nothing of what was written was run."""
        self.assertEqual([], list(self.folder.rglob("pwned")))


class RequestTest(ScriptTest):
    """The data transfer job."""

    def test_the_request_arrives_as_it_was_and_is_not_run(self):
        done = self.run_job(JobSpec("job1", HOSTILE, request=HOSTILE))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.decode(), HOSTILE)
        self.assertEqual((self.folder / "job1.request.json").read_text(), HOSTILE)
        arguments = (self.folder / "arguments").read_text().splitlines()
        self.assertEqual(arguments[:3], ["-m", "aind_data_transfer_service.upload", "--json-file"])
        self.assertEqual(arguments[3:], [str(self.folder / "job1.request.json")])
        self.assert_inert()

    @slow
    @settings(max_examples=campaign(25))
    @given(TEXTS)
    def test_any_text_is_inert(self, text):
        for ending in (".claim", ".end", ".out", ".err"):
            (self.folder / f"any{ending}").unlink(missing_ok=True)
        done = self.run_job(JobSpec("any", "n", request=text))
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, text.encode(), b""))

    def test_text_that_looks_like_a_part_of_the_script_is_left_alone(self):
        for text in ("@DATA@", "@COMMAND@", "DATA", base64.b64decode("DATA").decode("latin-1")):
            with self.subTest(text):
                (self.folder / "j.end").unlink(missing_ok=True)
                self.assertEqual(
                    self.run_job(JobSpec("j", "n", request=text)).stdout.decode(), text
                )

    def test_the_end_is_written_down(self):
        self.assertEqual(self.run_job(JobSpec("j", "n", request="{}"), CODE="14").returncode, 14)
        end = self.end("j")
        self.assertEqual((end["slurm_job_id"], end["exit_code"], end["stopped"]), (12, 14, False))
        self.assertAlmostEqual(end["ended"], time.time(), delta=60)

    def test_a_request_to_stop_is_passed_on_and_waited_for(self):
        command = self.command(JobSpec("j", "n", request="{}"), 12, self.hpc(), WAIT="1")
        process = subprocess.Popen(**command, stdout=subprocess.PIPE, process_group=0)
        self.addCleanup(process.stdout.close)
        while process.stdout.readline() not in (b"{}on\n", b"on\n"):
            self.assertIsNone(process.poll())
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.stdout.readline(), b"asked\n")
        self.assertEqual(process.wait(30), 7)
        kill_group(process.pid)
        self.assertEqual((self.end("j")["exit_code"], self.end("j")["stopped"]), (7, True))

    def test_every_signal_that_ends_the_job_is_passed_on(self):
        wait = "sleep 60 & echo on; while kill -0 $! 2>/dev/null; do wait; done"
        for name in ("HUP", "QUIT", "INT"):
            with self.subTest(name):
                script = f"#!/bin/bash\ntrap 'echo {name}; kill $!; exit 9' {name}\n{wait}\n"
                if name in ("QUIT", "INT"):  # bash keeps ignoring these; the job itself does not
                    script = (
                        f"#!{sys.executable}\nimport os, signal\n"
                        f"def end(*_): os.write(1, b'{name}\\n'); os._exit(9)\n"
                        f"signal.signal(signal.SIG{name}, end)\n"
                        "os.write(1, b'on\\n')\nwhile True: signal.pause()\n"
                    )
                (self.folder / "j.claim").unlink(missing_ok=True)
                command = self.command(JobSpec("j", "n", script=script), 12, self.hpc())
                process = subprocess.Popen(**command, stdout=subprocess.PIPE, process_group=0)
                self.addCleanup(process.stdout.close)
                self.assertEqual(process.stdout.readline(), b"on\n")
                process.send_signal(signal.Signals[f"SIG{name}"])
                self.assertEqual(process.stdout.readline(), f"{name}\n".encode())
                self.assertEqual(process.wait(30), 9)
                kill_group(process.pid)

    def test_a_job_sent_twice_runs_once(self):
        spec = JobSpec("j", "n", request="{}")
        self.run_job(spec, 12, CODE="3")
        second = self.run_job(spec, 13)
        self.assertEqual((second.returncode, second.stdout), (0, b""))
        self.assertIn(b"runs as Slurm job 12; as Slurm job 13 it does nothing", second.stderr)
        self.assertEqual(self.end("j")["slurm_job_id"], 12)

    def test_a_job_that_slurm_queues_again_runs_again(self):
        spec = JobSpec("j", "n", request="{}")
        self.run_job(spec, 12, CODE="3")
        self.assertEqual(self.run_job(spec, 12).stdout, b"{}")
        self.assertEqual(self.end("j")["exit_code"], 0)

    def test_a_job_that_has_done_its_work_does_not_do_it_again(self):
        spec = JobSpec("j", "n", request="{}")
        self.run_job(spec, 12)
        again = self.run_job(spec, 12)
        self.assertEqual((again.returncode, again.stdout), (0, b""))
        self.assertEqual(again.stderr, b"this job has done its work already\n")

    def test_without_a_folder_of_logs_a_job_fails_and_says_so(self):
        hpc = self.hpc(logging_directory="/no/such/folder")
        done = self.run_job(JobSpec("j", "n", request="{}"), hpc=hpc)
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"the folder of logs cannot be written to", done.stderr)

    def test_output_that_goes_elsewhere_is_found_under_the_jobs_name_too(self):
        command = self.command(JobSpec("j", "n", request="text"), 12, self.hpc())
        with open(self.folder / "elsewhere.txt", "wb") as stdout:
            subprocess.run(**command, stdout=stdout, check=True, timeout=30)
        self.assertEqual((self.folder / "j.out").read_text(), "text")

    def test_an_id_cannot_lead_elsewhere(self):
        for job_id in ("../x", "", "a b", "-x", "a/b", "a\nb"):
            with self.subTest(job_id), self.assertRaises(ExecutorError):
                compose_script(JobSpec(job_id, "n", request="{}"), self.hpc())


class TimeLimitTest(ScriptTest):
    """The announcement of the time limit, with a clock and a Slurm of the test's own."""

    def setUp(self):
        super().setUp()
        programs = {"a python": WAITING, "squeue": SQUEUE, "date": CLOCK}
        programs["sleep"] = '#!/bin/bash\necho "$1" >>slept\n'
        for name, text in programs.items():
            (self.folder / name).write_text(text)
            (self.folder / name).chmod(0o700)
        self.at(1000)

    def at(self, now: int) -> None:
        """Set the clock."""
        (self.folder / "clock").write_text(f"{now}\n")

    def run_until(self, *ends: int, minutes: int | None = None, **variables: str) -> list[int]:
        """Run a job whose limit is looked up some times; return how long the script slept."""
        (self.folder / "ends").write_text("".join(f"{end}\n" for end in ends))
        spec = JobSpec("j", "n", request="{}", settings={"time_limit": minutes})
        done = self.run_job(spec, **variables)
        self.assertEqual((done.returncode, self.end("j")["stopped"]), (17, False), done.stderr)
        slept = self.folder / "slept"
        return list(map(int, slept.read_text().split())) if slept.exists() else []

    def asked(self) -> list[str]:
        """Return what Slurm was asked."""
        return (self.folder / "asked").read_text().splitlines()

    def test_it_comes_a_minute_before_the_limit_that_slurm_names_then(self):
        self.assertEqual(self.run_until(9000, 1400, 2000, 1000), [600, 340, 600])
        self.assertEqual(self.asked(), ["%s -h -j 12 -o %e"] * 4)

    def test_before_a_short_limit_it_comes_after_three_quarters_of_it(self):
        self.assertEqual(self.run_until(1060, 1000), [45])

    def test_a_shard_asks_for_its_own_limit(self):
        array = {"SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": "3"}
        self.run_until(1000, **array)
        self.assertEqual(self.asked(), ["%s -h -j 7_3 -o %e"])

    def test_if_slurm_does_not_answer_it_goes_by_the_limit_that_was_asked_for(self):
        for text in ("", "exit 1", "echo N/A"):
            with self.subTest(text):
                squeue = "while [ ! -e ready ]; do /bin/sleep 0.01; done"
                (self.folder / "squeue").write_text(f"#!/bin/bash\n{squeue}\n{text}\n")
                (self.folder / "sleep").write_text(
                    '#!/bin/bash\necho "$1" >>slept; echo $(($(cat clock) + $1)) >clock\n'
                )
                self.at(1000)
                self.assertEqual(self.run_until(minutes=20), [600, 540])
                for name in ("slept", "j.claim", "ready"):
                    (self.folder / name).unlink()

    def test_nothing_of_it_outlives_the_job(self):
        (self.folder / "a python").write_text(
            "#!/bin/bash\nwhile [ ! -s napping ]; do /bin/sleep 0.01; done\n"
        )
        (self.folder / "sleep").write_text("#!/bin/bash\necho $$ >napping\nexec /bin/sleep 60\n")
        (self.folder / "ready").touch()
        (self.folder / "ends").write_text("9000\n")
        done = self.run_job(JobSpec("j", "n", request="{}"))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        nap = int((self.folder / "napping").read_text())
        wait_until(lambda: not psutil.pid_exists(nap), 10, "the end of its sleep")

    def test_a_squeue_that_hangs_ends_with_the_job(self):
        (self.folder / "a python").write_text(
            "#!/bin/bash\nwhile [ ! -s asking ]; do /bin/sleep 0.01; done\n"
        )
        for text in ("exec /bin/sleep 300", "/bin/sleep 300", "/bin/sleep 300 & wait"):
            with self.subTest(text):
                squeue = f"#!/bin/bash\necho $$ $PPID >asking\n{text}\n"
                (self.folder / "squeue").write_text(squeue)
                (self.folder / "asking").unlink(missing_ok=True)
                (self.folder / "j.end").unlink(missing_ok=True)
                done = self.run_job(JobSpec("j", "n", request="{}", settings={"time_limit": 1}))
                self.assertEqual((done.returncode, done.stderr), (0, b""))
                wait_until(lambda: not self.left(), 5, "the end of its processes")

    def left(self) -> list[psutil.Process]:
        """Return the processes that run in the folder of the test."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.cwd() == str(self.folder) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def test_a_squeue_that_hangs_does_not_hold_up_the_announcement(self):
        patience = patch.object(
            batch_script, "_ANNOUNCE", batch_script._ANNOUNCE.replace("patience=10", "patience=0.2")
        )
        (self.folder / "sleep").write_text(
            '#!/bin/bash\necho "$1" >>slept; echo $(($(cat clock) + $1)) >clock\n'
        )
        squeue = "#!/bin/bash\necho >>asked\nwhile [ ! -e ready ]; do /bin/sleep 0.01; done\n"
        (self.folder / "squeue").write_text(f"{squeue}exec /bin/sleep 300\n")
        (self.folder / "a python").write_text(WAITING)
        with patience:
            self.assertEqual(self.run_until(minutes=1), [45])
        self.assertEqual(1, len(self.asked()))
        wait_until(lambda: not self.left(), 5, "the end of its processes")

    def test_without_an_answer_it_goes_by_the_end_that_slurm_gave_the_job_and_by_the_last(self):
        (self.folder / "sleep").write_text(
            '#!/bin/bash\necho "$1" >>slept; echo $(($(cat clock) + $1)) >clock\n'
        )
        for minutes in (None, 20):
            for answers, expected in ((["N/A"], [600, 340]), (["2600", ""], [600, 600, 340])):
                with self.subTest(minutes=minutes, answers=answers):
                    self.at(1000)
                    slept = self.run_until(*answers, minutes=minutes, SLURM_JOB_END_TIME="2000")
                    self.assertEqual(expected, slept)
                    for name in ("slept", "j.claim", "ready"):
                        (self.folder / name).unlink()

    def test_squeue_is_looked_for_where_clusters_have_it(self):
        (self.folder / "squeue").write_text(SQUEUE.replace("$SLURM_TIME_FORMAT $*", "$PATH"))
        self.run_until(1000)
        [path] = self.asked()
        self.assertTrue(path.startswith(f"{self.folder}:"))
        self.assertTrue(path.endswith(":/opt/slurm/bin:/usr/local/slurm/bin"))

    def test_a_job_without_a_limit_and_a_script_of_a_user_get_none(self):
        (self.folder / "a python").write_text(PYTHON)
        (self.folder / "ready").touch()
        for ends in ("", "N/A", "Unknown"):
            with self.subTest(ends):
                (self.folder / "ends").write_text(f"{ends}\n")
                (self.folder / "j.end").unlink(missing_ok=True)
                done = self.run_job(JobSpec("j", "n", request="{}"))
                self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertFalse((self.folder / "slept").exists())
        script = JobSpec("j", "n", script="#!/bin/sh\n", settings={"time_limit": 1})
        self.assertNotIn("USR1 $$", compose_script(script, self.hpc(), time_limit=1))


class ContainerTest(ScriptTest):
    """The data transfer job in its container."""

    def setUp(self):
        super().setUp()
        self.boxed = self.hpc(
            sif_location="/images/it's $(id).sif",
            aws_access_key_id="AKIA1",
            aws_secret_access_key="s3cr3t",
            aws_default_region="us-west-2",
            bind_paths="/vast:/data",
        )

    def test_it_runs_there_and_sees_only_what_it_needs(self):
        (self.folder / "a python").write_text("#!/bin/bash\nenv\n")
        done = self.run_job(JobSpec("j", "n", request="{}"), hpc=self.boxed, OTHER="x")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(done.stderr, b"container: exec --cleanenv /images/it's $(id).sif\n")
        seen = dict(line.split("=", 1) for line in done.stdout.decode().splitlines())
        self.assertEqual(seen["AWS_SECRET_ACCESS_KEY"], "s3cr3t")
        self.assertEqual(seen["UPLOAD_EVENTS_FILE"], f"{self.folder}/j.events.jsonl")
        self.assertEqual(seen["JOB_ID"], "j")
        self.assertEqual(seen["UPLOAD_RECORDED"], "true")
        self.assertEqual(seen["UPLOAD_ASSET"], "n")
        self.assertNotIn("OTHER", seen)

    def test_it_sees_the_folders_that_are_named(self):
        found = compose_environment(JobSpec("j", "n", request="{}"), self.boxed, {})
        self.assertEqual(found["SINGULARITY_BIND"], f"{self.folder},/hpc,/vast,/data")
        self.assertEqual(found["APPTAINERENV_AWS_ACCESS_KEY_ID"], "AKIA1")

    def test_the_sources_of_metadata_reach_the_job_and_no_script_and_no_user_changes_them(self):
        variables = {"SLIMS_HOST": "https://s", "SLIMS_USERNAME": "u", "SLIMS_PASSWORD": "s3cr3t-2"}
        variables |= {"METADATA_SOURCES": '{"rig": {"if_missing": "require"}}'}
        with patch.dict(os.environ, variables, clear=True):
            agreed = ServiceSettings().agreed_environment()
        mine = {"SLIMS_HOST": "https://elsewhere", "CA_FILE": "/mine", "KEPT": "1"}
        mine |= {"METADATA_POLICY_SUBJECT": "ignore", "METADATA_SOURCES": "{}"}
        mine |= {"SHAREPOINT_GRAPH_URL": "https://elsewhere"}
        mine |= {"SINGULARITYENV_SLIMS_HOST": "https://elsewhere"}
        spec = JobSpec("j", "n", request="{}", settings={"environment": mine})
        found = compose_environment(spec, self.boxed, agreed)
        self.assertEqual("1", found["KEPT"])
        for prefix in ("", "SINGULARITYENV_", "APPTAINERENV_"):
            there = {k.removeprefix(prefix): v for k, v in found.items() if k.startswith(prefix)}
            self.assertLessEqual(variables.items(), there.items())
        self.assertNotIn("elsewhere", str(found))
        for name in ("CA_FILE", "METADATA_POLICY_SUBJECT", "SHAREPOINT_GRAPH_URL"):
            self.assertNotIn(name, found)
        self.assertNotIn("s3cr3t-2", compose_script(spec, self.boxed))
        script = JobSpec("j", "n", script="#!/bin/sh\nenv\n")
        self.assertNotIn("s3cr3t-2", str(compose_environment(script, self.boxed, agreed)))

    def test_keys_are_in_the_environment_only(self):
        spec = JobSpec("j", "n", request="{}")
        self.assertNotIn("s3cr3t", compose_script(spec, self.boxed))
        self.assertNotIn("s3cr3t", repr(self.boxed))


class CustomScriptTest(ScriptTest):
    """A script of the user's own."""

    def test_it_runs_as_it_is_with_its_own_interpreter(self):
        script = f"#!{sys.executable}\nimport os\nprint(os.environ['JOB_ID'], '''{HOSTILE}''')\n"
        done = self.run_job(JobSpec("j", "n", script=script))
        self.assertEqual((done.returncode, done.stderr), (0, b""))
        self.assertEqual(done.stdout.decode().split("\n")[0], "j " + HOSTILE.split("\n")[0])
        self.assert_inert()

    def test_it_gets_a_request_to_stop(self):
        script = "#!/bin/bash\ntrap 'echo asked; exit 3' TERM\necho on\nsleep 60 & wait\n"
        command = self.command(JobSpec("j", "n", script=script), 12, self.hpc())
        process = subprocess.Popen(**command, stdout=subprocess.PIPE, process_group=0)
        self.addCleanup(process.stdout.close)
        self.assertEqual(process.stdout.readline(), b"on\n")
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.stdout.readline(), b"asked\n")
        self.assertEqual(process.wait(30), 3)
        kill_group(process.pid)

    def test_it_runs_outside_of_the_container(self):
        done = self.run_job(
            JobSpec("j", "n", script="#!/bin/sh\nexit 5\n"), hpc=self.hpc(sif_location="/a.sif")
        )
        self.assertEqual((done.returncode, done.stderr), (5, b""))

    def test_one_that_cannot_be_run_says_so(self):
        done = self.run_job(JobSpec("j", "n", script="#!/no/such/program\n"))
        self.assertIn(done.returncode, (126, 127))
        self.assertRegex(done.stderr, b"j.script: .*(cannot execute|No such file|bad interpreter)")

    def test_variables_of_the_users_do_not_replace_ours(self):
        spec = JobSpec(
            "j", "n", script="#!/bin/sh\n", settings={"environment": {"JOB_ID": "x", "MINE": 1}}
        )
        found = compose_environment(spec, self.hpc(), {})
        self.assertEqual((found["JOB_ID"], found["MINE"]), ("j", "1"))
        self.assertNotIn("UPLOAD_RECORDED", found)
        self.assertNotIn("UPLOAD_ASSET", found)


class FilesTest(unittest.TestCase):
    """Names of files."""

    def test_each_has_the_jobs_name(self):
        hpc = HpcSettings(logging_directory="/logs")
        self.assertEqual(str(job_file(hpc.logging_directory, "j", ".out")), "/logs/j.out")


def kill_group(group: int) -> None:
    """End whatever is left of a group of processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
