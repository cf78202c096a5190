"""The page on Slurm leads from bare machines to a verified upload.

Its commands and files are read out of the page and carried out on machines of a lab, with the real
Slurm, MUNGE, MariaDB, service and job; the store is SeaweedFS.
"""

import json
import os
import shutil
import time
import unittest
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import psutil

from tests.support import machines, missing, page_steps, seaweedfs, wait_until
from tests.support.page_steps import Kind, Step

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "doc_template" / "source" / "slurm_cluster.rst"
SECTION = "From bare machines to a first upload"
PROJECT = ("src", "deploy", "pyproject.toml", "constraints.txt", "README.md", "LICENSE")
PROGRAMS = ("munged", "slurmctld", "slurmd", "slurmdbd", "slurmrestd", "mariadbd")
FOLDER = "/root/aind-data-transfer-service"
ASSET = "behavior_690165_2024-02-19_11-25-17"
PATIENCE = 60.0

SUBSTITUTIONS = {
    # What this machine may lack: control groups, and the processors and memory of a node.
    "proctrack/cgroup": "proctrack/linuxproc",
    "task/cgroup": "task/none",
    "CPUs=16 RealMemory=64000": f"CPUs={os.cpu_count()} "
    f"RealMemory={psutil.virtual_memory().total // 2**21}",
    # What pip would download is there already.
    "pip install": "pip install --no-index --no-build-isolation --no-deps",
    # What is the reader's own.
    "StoragePass=…": "StoragePass=of-the-database",
    "IDENTIFIED BY '…'": "IDENTIFIED BY 'of-the-database'",
    "AWS_ACCESS_KEY_ID=…": f"AWS_ACCESS_KEY_ID={seaweedfs.ACCESS_KEY}",
    "AWS_SECRET_ACCESS_KEY=…": f"AWS_SECRET_ACCESS_KEY={seaweedfs.SECRET_KEY}",
    # The store is not Amazon's.
    "HPC_AWS_DEFAULT_REGION=us-west-2": "HPC_AWS_DEFAULT_REGION=us-west-2\n"
    f"AWS_ENDPOINT_URL=http://store:{machines.STORE_PORT}",
    " AWS_DEFAULT_REGION=us-west-2": " AWS_DEFAULT_REGION=us-west-2 "
    f"AWS_ENDPOINT_URL=http://store:{machines.STORE_PORT}",
}


def substituted(step: Step) -> str:
    """Return the text of a step with the values of the lab."""
    text = step.text
    for placeholder, value in SUBSTITUTIONS.items():
        text = text.replace(placeholder, value)
    return text


class Reader:
    """A reader of the page, who carries its steps out.

    Parameters
    ----------
    lab : machines.Lab
        The machines.
    patience : float
        For how many seconds the reader waits for an output.
    """

    def __init__(self, lab: machines.Lab, patience: float = PATIENCE):
        self._lab = lab
        self._patience = patience

    def follow(self, steps: list[Step]) -> list[str]:
        """Carry out steps in their order, and return what the last prints on each machine.

        Raises
        ------
        AssertionError
            With the line of the page, if a step fails.
        """
        printed: list[str] = []
        for place, step in enumerate(steps):
            expected = steps[place + 1] if place + 1 < len(steps) else None
            try:
                if expected and expected.kind is Kind.OUTPUT:
                    printed = self._repeat(step, expected)
                elif step.kind is not Kind.OUTPUT:
                    printed = self._carry_out(step)
            except AssertionError as error:
                where = f"{PAGE.name}, line {step.line}"
                raise AssertionError(f"{where}: {error}\n\n{self._lab.logs()}") from error
        return printed

    def _carry_out(self, step: Step) -> list[str]:
        """Carry out a step, and return what it prints on each machine."""
        with ThreadPoolExecutor() as pool:
            return list(pool.map(lambda name: self._carry_out_on(name, step), step.machines))

    def _carry_out_on(self, name: str, step: Step) -> str:
        """Carry out a step on one machine."""
        machine = self._lab.machines[name]
        if step.kind is Kind.RUN:
            folder = FOLDER if name == "transfer" else "/root"
            return machine.run(substituted(step), folder=folder)
        machine.write(step.path, substituted(step), append=step.kind is Kind.APPEND)
        return ""

    def _repeat(self, step: Step, expected: Step) -> list[str]:
        """Carry out a step again and again, until it prints what the page shows."""
        deadline = time.monotonic() + self._patience
        while True:
            try:
                printed = self._carry_out(step)
            except machines.Failed as error:
                printed = [str(error)]
            if all(expected.is_in(text) for text in printed):
                return printed
            if time.monotonic() > deadline:
                shown = "\n".join(printed)
                raise AssertionError(f"printed\n{shown}\nand not\n{expected.text}")
            time.sleep(0.2)  # as a person would look again


class SlurmPage(unittest.TestCase):
    """A cluster and a service that were set up by the page."""

    page: str
    steps: list[Step]
    lab: machines.Lab
    printed: list[str]
    """What the last of the page's commands have printed."""

    @classmethod
    def setUpClass(cls) -> None:
        cls.page = PAGE.read_text("utf-8")
        cls.steps = page_steps.steps(cls.page, SECTION)
        absent = [name for name in PROGRAMS if not Path("/usr/sbin", name).exists()]
        if absent:
            raise missing(f"Slurm with its accounting ({', '.join(absent)})")
        cls.lab = machines.start("head", "node1", "node2", "transfer")
        cls.addClassCleanup(cls.lab.stop)
        cls.give_what_the_reader_has()
        cls.printed = Reader(cls.lab).follow(cls.steps)

    @classmethod
    def give_what_the_reader_has(cls) -> None:
        """Give the reader the project, a session and a bucket."""
        shared = cls.lab.folder / "shared"
        project = shared / "project"
        project.mkdir()
        for name in PROJECT:
            if (ROOT / name).is_dir():
                ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
                shutil.copytree(ROOT / name, project / name, ignore=ignored)
            else:
                shutil.copy(ROOT / name, project)
        cls.lab.machines["transfer"].run(f"mv /shared/project {FOLDER}")
        session = shared / "data" / "690165"
        session.mkdir(parents=True)
        for number in range(20):
            (session / f"trial{number}.bin").write_bytes(os.urandom(50_000))
        cls.lab.make_bucket("my-bucket")

    def test_the_steps_lead_to_a_verified_upload(self) -> None:
        self.assertIn(f"s3://my-bucket/{ASSET}: 23 files", self.printed[-1])

    def test_every_placeholder_is_on_the_page(self) -> None:
        for placeholder in SUBSTITUTIONS:
            with self.subTest(placeholder):
                self.assertTrue(any(placeholder in step.text for step in self.steps))

    def test_a_step_that_an_edit_breaks_fails_with_its_line(self) -> None:
        edited = self.page.replace("SLURM_JWT=daemon MALLOC_ARENA_MAX=1", "MALLOC_ARENA_MAX=1")
        steps = page_steps.steps(edited, SECTION)
        first = next(i for i, step in enumerate(steps) if "slurmrestd.service.d" in step.path)
        last = next(i for i, step in enumerate(steps) if "/ping" in step.text)
        head, path = self.lab.machines["head"], steps[first].path
        self.addCleanup(head.run, "systemctl daemon-reload\nsystemctl restart slurmrestd")
        self.addCleanup(head.write, path, head.run(f"cat {path}"))
        with self.assertRaisesRegex(AssertionError, f"line {steps[last].line}: printed"):
            Reader(self.lab, patience=0.5).follow(steps[first : last + 2])

    def test_a_drive_that_no_node_has_mounted_looks_as_the_page_says(self) -> None:
        for node in (self.lab.machines["node1"], self.lab.machines["node2"]):
            node.run("mount -t tmpfs none /shared")
            self.addCleanup(node.run, "umount /shared")
        job = self.submit("11:25:18")
        self.assertEqual("FAILED", job["state"])
        self.assert_shown("its output could not be written", job["reason"])

    def test_a_missing_working_directory_looks_as_the_page_says(self) -> None:
        self.move_working_directory("/shared/transfer", "/shared/missing")
        self.addCleanup(self.move_working_directory, "/shared/missing", "/shared/transfer")
        job = self.submit("11:25:19")
        self.assertEqual("FAILED", job["state"])
        self.assert_shown("the record of this transfer cannot be kept in", job["reason"])
        log = self.log_of(job)
        self.assert_shown("couldn't chdir to `", log)
        self.assert_shown("going to /tmp instead", log)

    def test_only_the_group_reads_the_files_of_jobs_after_the_steps_for_that(self) -> None:
        Reader(self.lab).follow(page_steps.steps(self.page, "How a job runs"))
        self.wait_for_service()
        job = self.submit("11:25:20")
        self.assertEqual(("COMPLETED", ""), (job["state"], job["reason"]))
        self.assertIn("complete and verified", self.log_of(job))
        mode = self.lab.machines["node1"].run(f"stat -c %a /shared/transfer/logs/{job['id']}.err")
        self.assertEqual("640\n", mode)

    def assert_shown(self, words: str, where: str) -> None:
        """A message contains words, and the page lists them."""
        self.assertIn(words, where)
        self.assertIn(words, self.page.split("\nA job, on its page\n")[1])

    def move_working_directory(self, before: str, after: str) -> None:
        """Change `HPC_CURRENT_WORKING_DIRECTORY`, and restart the service as the page does."""
        name, file = "HPC_CURRENT_WORKING_DIRECTORY", "/etc/aind-data-transfer-service.env"
        self.lab.machines["transfer"].run(
            f"sed -i 's|^{name}={before}$|{name}={after}|' {file}\n"
            "systemctl restart aind-data-transfer-service"
        )
        self.wait_for_service()

    def wait_for_service(self) -> None:
        """Wait until the service is healthy, as the page does."""
        place = next(i for i, step in enumerate(self.steps) if "/healthz" in step.text)
        Reader(self.lab).follow(self.steps[place : place + 2])

    def submit(self, time_of_day: str) -> dict:
        """Submit the session once more as the page does, and return the job after its end."""
        place = next(i for i, step in enumerate(self.steps) if step.path.endswith("first.csv"))
        table = self.steps[place]
        changed = replace(table, text=table.text.replace("11:25:17", time_of_day))
        Reader(self.lab).follow([changed, self.steps[place + 1]])
        return wait_until(lambda: self.ended(time_of_day), PATIENCE, f"the job of {time_of_day}")

    def ended(self, time_of_day: str) -> dict | None:
        """Return the job of a time, if it has ended."""
        for job in self.ask("/api/jobs")["data"]["jobs"]:
            if job["acq_datetime"].endswith(time_of_day) and job["ended_at"]:
                return job
        return None

    def log_of(self, job: dict) -> str:
        """Return what a job has written to its log."""
        return self.ask(f"/api/jobs/{job['id']}/log?stream=stderr")["data"]["text"]

    def ask(self, path: str) -> dict:
        """Ask the service, and return its answer."""
        url = f"http://transfer:5000{path}"
        return json.loads(self.lab.machines["transfer"].run(f"curl -s --fail '{url}'"))
