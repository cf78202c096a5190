"""Job properties as people and environment variables write them."""

import unittest

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.slurmrest.job_properties import (
    LATER_NAMES,
    PROPERTIES,
    read_properties,
)
from aind_data_transfer_service.slurmrest.sbatch_options import MEANT, WITHOUT_PROPERTY
from tests.support import slow

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)

SBATCH_OPTIONS = """
account acctg-freq array batch bb bbf begin chdir cluster-constraint clusters comment constraint
container container-id contiguous core-spec cores-per-socket cpu-freq cpus-per-gpu cpus-per-task
deadline delay-boot dependency distribution error exclude exclusive export export-file extra
extra-node-info get-user-env gid gpu-bind gpu-freq gpus gpus-per-node gpus-per-socket gpus-per-task
gres gres-flags help hint hold ignore-pbs input job-name kill-on-invalid-dep licenses mail-type
mail-user mcs-label mem mem-bind mem-per-cpu mem-per-gpu mincpus network nice no-kill no-requeue
nodefile nodelist nodes ntasks ntasks-per-core ntasks-per-gpu ntasks-per-node ntasks-per-socket
open-mode output overcommit oversubscribe parsable partition power prefer priority profile propagate
qos quiet reboot requeue reservation resv-ports segment signal sockets-per-node spread-job stepmgr
switches test-only thread-spec threads-per-core time time-min tmp tres-bind tres-per-task uid usage
use-min-nodes verbose version wait wait-all-nodes wckey wrap
"""
"""The long options of sbatch, of Slurm 20.11 to 25.05."""


class Properties(unittest.TestCase):
    """Good ones come in one form, wrong ones are named."""

    def good(self, **properties) -> dict:
        """Read properties that are right."""
        read, problems = read_properties(properties)
        self.assertEqual([], problems)
        return read

    def problem(self, **properties) -> str:
        """Read one property that is wrong."""
        _, [problem] = read_properties(properties)
        self.assertNotIn("\n", problem)
        return problem

    def test_the_examples_of_the_environment_are_read(self) -> None:
        read = self.good(
            partition="part",
            minimum_cpus_per_node="8",
            memory_per_cpu="8000",
            nodes="[1,1]",
            tasks="1",
            time_limit="360",
            qos="dev",
            environment=["PATH=/bin", "A=b=c"],
        )
        self.assertEqual((8, 8000, [1, 1], 1, 360), tuple(read.values())[1:6])
        self.assertEqual({"PATH": "/bin", "A": "b=c"}, read["environment"])

    def test_nodes_are_written_in_many_ways(self) -> None:
        for value in (2, "2", [2], [2, 2], "2-2", "[2, 2]", (2, 2), 2.0):
            self.assertEqual({"nodes": [2, 2]}, self.good(nodes=value))
        for value in (0, [], [2, 1], [1, 2, 3], "[1", "many", True, [1, None]):
            self.assertIn("write ", self.problem(nodes=value))

    def test_kinds_of_mail_are_a_list_or_words_with_commas(self) -> None:
        for value in (["END", "FAIL"], "END,FAIL", "END, FAIL", '["END","FAIL"]'):
            self.assertEqual({"mail_type": ["END", "FAIL"]}, self.good(mail_type=value))

    def test_truth_is_written_in_many_ways(self) -> None:
        for value, wanted in ((True, True), ("yes", True), (0, False), ("False", False)):
            self.assertEqual({"requeue": wanted}, self.good(requeue=value))

    def test_later_names_are_understood(self) -> None:
        self.assertEqual({"standard_out": "/o"}, self.good(standard_output="/o"))
        self.assertEqual({"account_gather_freqency": "x"}, self.good(account_gather_frequency="x"))
        twice = self.problem(standard_out="/o", standard_output="/p")
        self.assertEqual(
            "standard_output: is the same as standard_out, which is there too; give one", twice
        )

    def test_nothing_is_left_out(self) -> None:
        self.assertEqual({}, self.good(qos=None, batch_features=""))

    def test_an_unknown_property_is_named_with_the_nearest(self) -> None:
        self.assertEqual(
            '"time-limits" is no job property of Slurm; did you mean time_limit?',
            self.problem(**{"time-limits": 5}),
        )
        self.assertIn("see job properties", self.problem(zzzzzz=5))

    def test_a_wrong_value_is_told_with_what_would_be_right(self) -> None:
        self.assertEqual(
            'tasks: "many" is wrong here; write a whole number', self.problem(tasks="many")
        )
        self.assertIn("one of append, truncate", self.problem(open_mode="both"))
        self.assertIn("true or false", self.problem(hold="maybe"))
        for name, value in (
            ("comment", "a\0b"),
            ("comment", ["a"]),
            ("comment", True),
            ("tasks", True),
            ("tasks", 1.5),
            ("argv", "a"),
            ("mail_type", 5),
            ("environment", "A=b"),
            ("environment", {"A=": "b"}),
            ("environment", {"": "b"}),
        ):
            self.assertTrue(self.problem(**{name: value}).startswith(name))
        self.assertLess(len(self.problem(tasks="x" * 10_000)), 200)

    def test_times_are_minutes_or_what_sbatch_takes(self) -> None:
        for value, minutes in (
            *(("02:00:00", 120), ("2:00:00", 120), ("90:00", 90), ("90:01", 91), ("0:01", 1)),
            *(("1-0", 1440), ("1-12", 2160), ("1-12:30", 2190), ("2-00:00:01", 2881)),
            *((" 360 ", 360), (360.0, 360), ("100:00:00", 6000), ("1-24", 2880), ("1-0:90", 1530)),
            *(("1-24:00:00", 2880), ("00:90:00", 90), ("1:60:00", 120), ("90:90", 92)),
        ):
            with self.subTest(value):
                self.assertEqual({"time_limit": minutes}, self.good(time_limit=value))
                self.assertEqual({"time_minimum": minutes}, self.good(time_minimum=value))
        for value in (
            *("soon", "2h", "-1:00", "1:2:3:4", "1-", ":30", "1.5", "UNLIMITED", "1-1-1", "5s"),
            *("9999999:00:00:00", 1.5, True, [1], "٢:٠٠"),
        ):
            with self.subTest(value):
                self.assertRegex(
                    self.problem(time_limit=value),
                    "^time_limit: .* is wrong here; write minutes, such as 120, or a time, such as "
                    "02:00:00 or 1-12:00:00$",
                )

    def test_memory_is_megabytes_or_what_sbatch_takes(self) -> None:
        for value, megabytes in (
            *(("16G", 16384), ("16g", 16384), ("16GB", 16384), ("16 GiB", 16384), ("1.5G", 1536)),
            *(("2T", 2 * 1024**2), ("500M", 500), ("500MB", 500), ("1025K", 2), ("0", 0)),
            *((16000, 16000), ("16000", 16000), (0, 0), ("0G", 0)),
        ):
            for name in ("memory_per_node", "memory_per_cpu", "memory_per_gpu"):
                with self.subTest(value, name=name):
                    self.assertEqual({name: megabytes}, self.good(**{name: value}))
        for value in ("much", "16X", "-1G", "1,5G", "G", "16GG", "1e3G", 1.5, True, [1]):
            with self.subTest(value):
                self.assertRegex(
                    self.problem(memory_per_node=value),
                    "^memory_per_node: .* is wrong here; write megabytes, such as 16000, or a "
                    "size, such as 16G$",
                )

    def test_a_number_out_of_range_is_told_the_range(self) -> None:
        for value in (0, -1, "-1", "0", "0:00", "00:00:00", 2**31, "2147483648", "9999999-0"):
            with self.subTest(value):
                self.assertRegex(
                    self.problem(time_limit=value),
                    "^time_limit: .* is wrong here; write 1 to 2,147,483,647 minutes$",
                )
        for value in (-1, "-1", 2**31, "2048T", "9999999999"):
            with self.subTest(value):
                self.assertRegex(
                    self.problem(memory_per_node=value),
                    "^memory_per_node: .* is wrong here; write 0 to 2,147,483,647 megabytes$",
                )

    def test_options_are_named_by_their_property(self) -> None:
        for option, name in (
            *(("mem", "memory_per_node"), ("time", "time_limit"), ("walltime", "time_limit")),
            *(("--mem-per-cpu", "memory_per_cpu"), ("Time-Limit", "time_limit")),
            *(("ntasks", "tasks"), ("job-name", "name"), ("Output", "standard_out")),
            *(("mincpus", "minimum_cpus_per_node"), ("chdir", "current_working_directory")),
            *(("ncpus", "cpus_per_task"), ("cores", "cpus_per_task"), ("ppn", "tasks_per_node")),
            *(("-t", "time_limit"), ("c", "cpus_per_task"), ("-n", "tasks"), ("-N", "nodes")),
            *(("-p", "partition"), ("J", "name"), ("-D", "current_working_directory")),
            *(("-d", "dependency"), ("-C", "constraints"), ("-o", "standard_out"), ("-q", "qos")),
        ):
            with self.subTest(option):
                self.assertIn(f"did you mean {name}?", self.problem(**{option: 1}))

    def test_an_option_without_a_property_gets_no_guess(self) -> None:
        for option, words in (
            *(("exclude", "nodes cannot be chosen by name"), ("-w", "nodes cannot be chosen")),
            *(("nodelist", "nodes cannot be chosen by name"), ("tmp", "no property does the same")),
            *(("user", "jobs run as the user of the service"), ("--uid", "jobs run as the user")),
            *(("mem-per-task", "use memory_per_cpu or"), ("no_requeue", "write false for requeue")),
            *(("clusters", "jobs run on the cluster of the service"), ("wrap", "send it as the")),
        ):
            with self.subTest(option):
                problem = self.problem(**{option: 1})
                self.assertIn(f"is no job property of Slurm's REST API; {words}", problem)
                self.assertNotIn("did you mean", problem)

    def test_every_option_of_sbatch_is_explained(self) -> None:
        for option in SBATCH_OPTIONS.split():
            with self.subTest(option):
                name = option.replace("-", "_")
                if name in PROPERTIES or name in LATER_NAMES:
                    continue
                is_meant, is_without = name in MEANT, name in WITHOUT_PROPERTY
                self.assertNotEqual(is_meant, is_without)

    def test_what_is_meant_by_an_option_is_a_property(self) -> None:
        self.assertLessEqual(set(MEANT.values()), PROPERTIES.keys())
        self.assertEqual(set(), (MEANT.keys() | WITHOUT_PROPERTY.keys()) & PROPERTIES.keys())
        self.assertEqual(set(), MEANT.keys() & WITHOUT_PROPERTY.keys())

    def test_numbers_and_texts_have_bounds(self) -> None:
        for name, value in (
            *(("tasks", 0), ("tasks", 2**31), ("time_limit", 0), ("time_limit", "-5")),
            *(("nice", 2**31), ("priority", -1), ("priority", 2**32 - 2), ("nodes", 2**40)),
            *(("memory_per_node", -1), ("tasks_per_node", 70_000), ("core_specification", -1)),
            *(("gpus", "-1"), ("gpus", "a100:-1"), ("gres", "gpu:2,ssd:+3"), ("licenses", "a:-1")),
            *(("gpus_per_node", "1" * 10), ("cpus_per_gpu", -2), ("signal", "TERM@x")),
            *(("signal", "x" * 50), ("comment", "x" * 5000), ("qos", "a\tb"), ("argv", ["a\x1b"])),
            *(("mail_user", "a\u202eb"), ("environment", {"A": "x" * 40_000})),
            *(("nodes", "[" * 100_000), ("argv", "[" * 100_000), ("mail_type", "[" * 100_000)),
        ):
            with self.subTest(name, value=str(value)[:20]):
                self.assertRegex(self.problem(**{name: value}), f"^{name}: .*; write ")
        self.good(
            tasks=1,
            nice=-100,
            priority=0,
            memory_per_node=0,
            gpus="a100:2",
            gres="gpu:tesla-v100:2,ssd:1",
            licenses="matlab@db:3",
            signal="B:USR1@120",
            environment={"TEXT": "two\nlines"},
        )

    def test_a_signal_is_one_that_slurm_knows(self) -> None:
        for value in ("TERM", "sigusr1", "B:INT@120", "15", "RB:XCPU@65535", "64@0"):
            self.assertEqual({"signal": value}, self.good(signal=value))
        for value, right in (
            ("NOPE", "one of the signals ABRT, .*, or a number from 1 to 64"),
            ("SEGV@60", "one of the signals"),
            ("65", "a number from 1 to 64"),
            ("0", "a number from 1 to 64"),
            ("B:TERM@65536", "at most 65,535 seconds before the end"),
            ("@60", "a signal, such as"),
            ("BB:TERM", "a signal, such as"),
        ):
            with self.subTest(value):
                self.assertRegex(self.problem(signal=value), f"^signal: .*; write .*{right}")

    def test_all_that_is_wrong_is_told_at_once(self) -> None:
        _, problems = read_properties({"tasks": "x", "nodez": 1, "hold": "y"})
        self.assertEqual(3, len(problems))

    @slow
    @given(st.dictionaries(st.sampled_from(sorted(PROPERTIES)) | st.text(max_size=9), ANYTHING))
    def test_anything_is_read_or_refused(self, given_properties: dict) -> None:
        read, problems = read_properties(given_properties)
        self.assertLessEqual(set(read), set(PROPERTIES))
        self.assertEqual([], read_properties(read)[1])
        self.assertEqual(read, read_properties(read)[0])
        self.assertTrue(all(isinstance(problem, str) for problem in problems))


if __name__ == "__main__":
    unittest.main()
