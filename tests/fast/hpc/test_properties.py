"""Job properties as people and environment variables write them."""

import unittest

from hypothesis import given
from hypothesis import strategies as st

from aind_data_transfer_service.hpc.properties import PROPERTIES, read_properties
from tests.support import slow

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


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
            'time_limit: "soon" is wrong here; write a whole number',
            self.problem(time_limit="soon"),
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
