"""`python -m aind_data_transfer_service.demo`."""

import sys

from aind_data_transfer_service.demo.tour import main

if __name__ == "__main__":
    sys.exit(main())
