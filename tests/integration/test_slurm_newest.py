"""The newest Slurm that Debian's packages offer: the client, slurmdbd, and one session."""

import unittest

from aind_data_transfer_service.slurmrest.errors import AnswerLost, Unreachable
from tests.integration import (
    test_slurm_accounting,
    test_slurm_changes,
    test_slurm_limits,
    test_slurm_next,
    test_slurm_service,
)
from tests.support import slurm, slurm_newest
from tests.support.slurm_client_contract import DaemonsContract

NEWEST_KNOWN = "v0.0.45"
"""The newest version of the interface that the client knows."""


def setUpModule() -> None:
    """Start the cluster on which the client is tested."""
    OnNewest.cluster = slurm.start(root=slurm_newest.provide())


def tearDownModule() -> None:
    """Stop it."""
    OnNewest.cluster.stop()


class OnNewest(test_slurm_next.OnSlurm):
    """Has a client of a cluster with the newest Slurm."""


class NewestClientTest(DaemonsContract, OnNewest):
    """The version of the interface is found out."""

    async def test_the_newest_version_that_is_known_is_chosen(self) -> None:
        offered = slurm.spoken_in(slurm_newest.provide())
        known = [version for version in offered if version <= NEWEST_KNOWN]
        self.assertEqual(max(known, default=min(offered)), str(await self.client.dialect()))


class NewestDialectsTest(OnNewest, test_slurm_next.EveryDialect):
    """What is the same in all versions of the interface that it offers."""

    away = (Unreachable, AnswerLost)  # slurmrestd waits for slurmctld longer than the client waits

    @property
    def ENDPOINTS(self) -> list[str]:
        """The versions, as they are named in HPC_API_ENDPOINT."""
        return [f"slurm/{version}" for version in slurm.spoken_in(slurm_newest.provide())]


class NewestChangesTest(test_slurm_changes.NextChangesTest):
    """What it says if it is asked for jobs only if something has changed."""

    @classmethod
    def start_cluster(cls, **options) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        root = slurm_newest.provide()
        cls.dialects = tuple(f"slurm/{version}" for version in slurm.spoken_in(root))
        return slurm.start(root=root, **options)


class NewestLimitsTest(test_slurm_limits.NextLimitsTest):
    """Which jobs it takes."""

    @classmethod
    def start_cluster(cls, **options) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        root = slurm_newest.provide()
        cls.dialects = (f"slurm/{max(slurm.spoken_in(root))}",)
        return slurm.start(root=root, **options)


class NewestCluster(test_slurm_service.ClusterTest):
    """A cluster with the newest Slurm."""

    @classmethod
    def start_cluster(cls) -> slurm.SlurmCluster:
        """Bring the daemons up."""
        return slurm.start(root=slurm_newest.provide(), **cls.options)


class NewestAccountingTest(NewestCluster, test_slurm_accounting.AccountingTest):
    """What slurmdbd tells of jobs that slurmctld has forgotten."""

    test_slurmdbd_is_away_and_comes_back = None  # that is no different


class NewestSessionTest(test_slurm_service.Session, NewestCluster, test_slurm_service.OnService):
    """The whole main path."""


if __name__ == "__main__":
    unittest.main()
