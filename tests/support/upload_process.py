"""One job in a process of its own, with other intervals of its lease.

``python -m tests.support.upload_process '{"ttl": 1.5, "interval": 0.2}'`` takes the request and the
settings from the environment, as the job does. It prints what stopped it and ends with its code.
"""

import json
import sys

from aind_data_transfer_service.errors import UploadError
from aind_data_transfer_service.settings.upload import UploadSettings
from aind_data_transfer_service.upload.job import UploadJob
from aind_data_transfer_service.upload.lease import Timing
from aind_data_transfer_service.upload.request import read_request


def main() -> int:
    """Run the job and give its exit code."""
    settings = UploadSettings()
    config = read_request(settings.upload_json or "", settings)
    try:
        UploadJob(config, settings, timing=Timing(**json.loads(sys.argv[1]))).run()
    except UploadError as error:
        print(error, file=sys.stderr)
        return int(error.exit_code)
    return 0


if __name__ == "__main__":
    sys.exit(main())
