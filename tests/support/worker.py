"""A worker process that does what a test asks for: `python -m tests.support.worker`."""

import json
import os
import signal
import time

from aind_data_transfer_service.concurrency.worker_process import serve


def handle(request: bytes) -> bytes:
    """Do what the request names."""
    word, _, rest = request.partition(b" ")
    if word == b"environment":
        return json.dumps(dict(os.environ)).encode()
    if word == b"hang":
        time.sleep(600)
    if word == b"allocate":
        try:
            return b"%d" % len(bytearray(int(rest)))
        except MemoryError:
            return b"MemoryError"
    if word == b"abort":
        os.abort()
    if word == b"kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if word == b"repeat":
        return b"x" * int(rest)
    if word == b"print":
        print("a stray line", flush=True)
    return b"%d %d" % (os.getpid(), len(rest))


if __name__ == "__main__":
    serve(handle, lambda: None)
