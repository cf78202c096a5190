"""Reading spreadsheets in worker processes, so that no file slows down or fills the service."""

import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType

import msgspec

from aind_data_transfer_service.concurrency.process_pool import ProcessPool
from aind_data_transfer_service.configs.datetimes import DateOrder
from aind_data_transfer_service.errors import TransferServiceError, WorkerDied, WorkerTimeout
from aind_data_transfer_service.spreadsheets.worker import ReadReply, ReadRequest

logger = logging.getLogger(__name__)

WORKER = "aind_data_transfer_service.spreadsheets.worker"

WORKERS = 2
"""Files that are read at the same time."""

WORKER_BYTES = 1024**3
"""Address space of a worker. The largest good file needs about half of it."""

READ_SECONDS = 60.0
"""How long reading one file may take. The largest good file takes 3 s on a machine that is idle."""

_NAME_CHARACTERS = 255
"""Characters of a file's name that are used, from its end."""


class SpreadsheetReader:
    """Reads spreadsheets of jobs in worker processes.

    Parameters
    ----------
    workers : int
        How many files are read at the same time.
    memory : int
        Bytes of address space that a worker may use.
    seconds : float
        How long reading one file may take.
    """

    def __init__(
        self, workers: int = WORKERS, memory: int = WORKER_BYTES, seconds: float = READ_SECONDS
    ):
        self.pool = ProcessPool(WORKER, workers, memory, seconds)

    def open(self) -> None:
        """Start the workers, without waiting for them."""
        self.pool.open()

    def close(self) -> None:
        """End the workers."""
        self.pool.close()

    async def read(
        self,
        filename: str,
        data: bytes,
        date_order: DateOrder,
        lab_timezone: str,
        allowed_buckets: Sequence[str] = (),
        bucket_names: Mapping[str, str] | None = None,
        processor_optional: bool = False,
        path_mappings: Mapping[str, str] = MappingProxyType({}),
        names_platform: bool = True,
    ) -> ReadReply:
        """Read a spreadsheet. A file that no worker survives is a file with one error.

        Raises
        ------
        UnavailableError
            No worker can be started.
        TransferServiceError
            The reader has a fault; its traceback is in the log.
        """
        # A name can hold half a character, which cannot be sent. Its ending tells the format.
        name = filename.encode("utf-8", "replace").decode()[-_NAME_CHARACTERS:]
        names = None if bucket_names is None else dict(bucket_names)
        request = ReadRequest(
            name,
            data,
            date_order,
            lab_timezone,
            list(allowed_buckets),
            names,
            processor_optional,
            dict(path_mappings),
            names_platform,
        )
        try:
            reply = await self.pool.ask(msgspec.msgpack.encode(request))
        except WorkerTimeout:
            return _refused(
                f"reading the file takes longer than {self.pool.seconds:g} s, so it was given up"
            )
        except WorkerDied as error:
            logger.warning("a worker died while it read a spreadsheet: %s", error)
            return self._too_large()
        found = msgspec.msgpack.decode(reply, type=ReadReply)
        if found.is_too_large:
            return self._too_large()
        if found.fault:
            logger.error("the spreadsheet reader has a fault: %s", found.fault)
            raise TransferServiceError(
                "the file could not be read because of a fault in the service; its log says more"
            )
        return found

    def _too_large(self) -> ReadReply:
        """Refuse a file that ended its worker."""
        return _refused(
            f"the file could not be read with {self.pool.memory // 1024**2:,} MiB of memory"
        )


def _refused(reason: str) -> ReadReply:
    """Report a file as one error."""
    line = f"{reason}; split it into several, or copy the jobs' cells alone into a new spreadsheet"
    return ReadReply(errors=[line], error_count=1)
