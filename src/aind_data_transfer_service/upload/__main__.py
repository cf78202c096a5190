"""Run one data transfer job: ``python -m aind_data_transfer_service.upload``."""

import gc
import os

from aind_data_transfer_service.utf8_mode import ensure_utf8

if __name__ == "__main__":
    ensure_utf8()  # before anything is loaded twice

gc.disable()  # what is loaded now stays: to look for garbage in it takes a fifth of the start

from aind_data_transfer_service.upload.cli.upload import main  # noqa: E402

gc.freeze()
gc.set_threshold(50000, 50, 100)
gc.enable()

if __name__ == "__main__":
    os._exit(main())
