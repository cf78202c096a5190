"""The recorded answers to submissions, against real servers of both generations."""

import json
import unittest

from tests.support import slurm, slurm_next
from tests.support.submissions import NEWER, OLDER, RECORDED, record


class RecordedSubmissionsTest(unittest.TestCase):
    """Slurm 22.05."""

    versions = OLDER

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        return slurm.start()

    @classmethod
    def setUpClass(cls) -> None:
        cls.cluster = cls.start_cluster()
        cls.addClassCleanup(cls.cluster.stop)

    def test_a_real_server_answers_as_is_recorded(self) -> None:
        recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
        for version in self.versions:
            answers = json.loads(json.dumps(record(self.cluster, version)))
            for name, answer in answers.items():
                with self.subTest(version=version, variant=name):
                    self.assertEqual(recorded[f"v0.0.{version}"][name], answer)


class NextRecordedSubmissionsTest(RecordedSubmissionsTest):
    """Slurm 24.11."""

    versions = NEWER

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons of the newer generation up."""
        return slurm.start(root=slurm_next.provide())


if __name__ == "__main__":
    unittest.main()
