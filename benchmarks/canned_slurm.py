"""A slurmrestd that lists the same jobs again and again: a process of its own, for `slurm.py`.

``python benchmarks/canned_slurm.py FILE`` listens on a free port of the loopback interface, writes
its number to the standard output, and answers every request for jobs with what FILE holds, and one
for a single job with that job. The list changes all the time: `update_time` spares nobody anything.
"""

import asyncio
import json
import sys
from pathlib import Path

_PATHS = b'{"paths": {"/slurm/v0.0.38/job/submit": {}, "/slurm/v0.0.38/jobs": {}}}'


def framed(body: bytes) -> bytes:
    """Put an answer on the wire."""
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return head % len(body) + body


async def serve(listing: bytes) -> None:
    """Answer until the process is ended."""
    told = json.loads(listing)
    whole = framed(listing)
    answers = {b"/openapi": framed(_PATHS), b"/openapi/v3": framed(_PATHS)}
    for job in told["jobs"]:
        path = f"/slurm/v0.0.38/job/{job['job_id']}".encode()
        answers[path] = framed(json.dumps(told | {"jobs": [job]}).encode())

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer on one connection until it is closed."""
        while True:
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except asyncio.IncompleteReadError:
                return
            writer.write(answers.get(head.split(b" ", 2)[1], whole))
            await writer.drain()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]).read_bytes()))
