"""A reader of spreadsheets that the tests of a process share, as its workers start slowly."""

import atexit
from functools import cache

from aind_data_transfer_service.spreadsheets.worker_pool import SpreadsheetReader


@cache
def shared_reader() -> SpreadsheetReader:
    """Return the reader; its workers end with the process."""
    reader = SpreadsheetReader()
    reader.open()
    atexit.register(reader.close)
    return reader
