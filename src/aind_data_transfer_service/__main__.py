"""`python -m aind_data_transfer_service`, the same as the command `aind-data-transfer-service`."""

import sys

from aind_data_transfer_service.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
