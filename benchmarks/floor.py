"""The floor under every client: bytes read, hashed once, and written to loopback sockets.

Plain HTTP PUTs, one for each file, with no signing, no listing, no record of what was done. Run
by `transfer.py`::

    python benchmarks/floor.py FOLDER HOST PORT BUCKET
"""

import hashlib
import os
import socket
import sys
import threading
from urllib.parse import quote

THREADS = 8
_PIECE = 1 << 20


def files_of(folder: str) -> list[tuple[str, int]]:
    """Find all files with their sizes, the largest first."""
    found = [
        (path := os.path.join(parent, name), os.path.getsize(path))
        for parent, _, names in os.walk(folder)
        for name in names
    ]
    return sorted(found, key=lambda file: -file[1])


def send(peer: socket.socket, path: str, size: int, target: str) -> str:
    """Send one file, and give its hash."""
    buffer, digest = memoryview(bytearray(min(size, _PIECE))), hashlib.sha256()
    head = f"PUT {target} HTTP/1.1\r\nHost: floor\r\nContent-Length: {size}\r\n\r\n".encode()
    with open(path, "rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
            peer.sendall(head + buffer[:count] if head else buffer[:count])
            head = b""
    if head:  # of an empty file
        peer.sendall(head)
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += peer.recv(4096)
    if not answer.startswith(b"HTTP/1.1 200"):
        raise AssertionError(answer)
    return digest.hexdigest()


def main(folder: str, host: str, port: str, bucket: str) -> None:
    """Send a folder."""
    files = files_of(folder)
    waiting = iter(files)
    lock, hashes = threading.Lock(), {}

    def work() -> None:
        with socket.create_connection((host, int(port))) as peer:
            peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while True:
                with lock:
                    path, size = next(waiting, ("", 0))
                if not path:
                    return
                key = quote(os.path.relpath(path, folder))
                hashes[path] = send(peer, path, size, f"/{bucket}/floor/{key}")

    threads = [threading.Thread(target=work) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if len(hashes) < len(files):
        sys.exit(f"{len(files) - len(hashes)} files were not sent")


if __name__ == "__main__":
    main(*sys.argv[1:])
