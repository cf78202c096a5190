"""Run one data transfer job: ``python -m aind_data_transfer_service.upload``."""

import sys

from aind_data_transfer_service.upload.program import main

if __name__ == "__main__":
    sys.exit(main())
