"""The client against the mock of slurmrestd, at its paths with and without a prefix."""

import threading
import unittest

from aind_data_transfer_service.slurmrest.client import SlurmClient
from aind_data_transfer_service.slurmrest.tokens import FixedToken
from tests.support.slurm_client_contract import SlurmClientContract
from tests.test_server import slurmrestd
from tests.test_server.cluster import Cluster, Pace


class _OnMock(SlurmClientContract):
    endpoint: str | None = None

    async def asyncSetUp(self) -> None:
        server = slurmrestd.make_server("127.0.0.1", 0, Cluster(Pace(pending=0.1, run=0.3)))
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        url = f"http://127.0.0.1:{server.server_port}"
        self.client = SlurmClient(url, "some.user", FixedToken("some_token"), dialect=self.endpoint)
        self.addAsyncCleanup(self.client.aclose)


class ClientOnMock(_OnMock, unittest.IsolatedAsyncioTestCase):
    """The dialect is found out."""

    async def test_the_dialect_is_found_out(self) -> None:
        dialect = await self.client.dialect()
        self.assertEqual((36, "/slurm/v0.0.36"), (dialect.version, dialect.prefix))


class ClientOnMockPinned(_OnMock, unittest.IsolatedAsyncioTestCase):
    """The paths at the root are named."""

    endpoint = "/"

    async def test_the_dialect_is_as_it_was_named(self) -> None:
        dialect = await self.client.dialect()
        self.assertEqual((36, "/jobs"), (dialect.version, dialect.path("jobs")))


if __name__ == "__main__":
    unittest.main()
