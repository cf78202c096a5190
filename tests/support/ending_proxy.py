"""A proxy before an S3 server that ends the job behind it at a moment that was drawn.

It also stands for a store that is difficult with conditional writes, accepts each key for a while
only, and notes how often each part and each small file was sent and acknowledged.
"""

import json
import os
import random
import re
import signal
import socket
import threading
import time
import uuid
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from multiprocessing.connection import wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from aind_data_transfer_service.storage.model import Keys
from aind_data_transfer_service.storage.s3.sigv4 import Clock, sign
from tests.support.fault_proxy import Asked, Body, FaultProxy, Trouble

_CONDITION = re.compile(rb"\r\nif-(none-)?match:", re.IGNORECASE)
_ACCESS_KEY = re.compile(rb"Credential=([^/]+)/")
_PART = re.compile(r"partNumber=(\d+)")
_CLOCK = Clock()


class Store(StrEnum):
    """What a store does with conditional writes."""

    SOUND = "it honours conditions"
    IGNORES = "it ignores conditions: every conditional write is applied and acknowledged"
    DROPS = "it acknowledges conditional writes and applies none of them"
    LOSES = "it applies conditional writes, and the answers to half of them are lost"


class When(StrEnum):
    """At what a moment is measured."""

    CLOCK = "seconds after the start"
    BYTES = "bytes of data that have come in"
    ASKED = "requests that have come in, before the server has the last of them"
    DONE = "requests that the server has carried out, before the last answer"
    PUBLISHED = "the same, counted from the manifest on"


@dataclass(frozen=True)
class Moment:
    """When an attempt is ended, and how."""

    when: When
    amount: float
    number: signal.Signals

    @classmethod
    def draw(cls, chance: random.Random, size: int, requests: int) -> "Moment":
        """Draw a moment within an attempt.

        Parameters
        ----------
        chance : random.Random
            By what is drawn.
        size : int
            How many bytes an attempt may send.
        requests : int
            How many requests it may make besides those for small files.
        """
        when = chance.choices(list(When), (2, 4, 4, 4, 2))[0]
        most = {When.CLOCK: 1.5, When.BYTES: 0.9 * size, When.PUBLISHED: 4}.get(when, requests)
        number = chance.choice((signal.SIGKILL, signal.SIGTERM))
        return cls(when, chance.uniform(0, most), number)


@dataclass
class Sent:
    """A request with data, as it came in."""

    attempt: int
    size: int
    came: int = 0
    """How many bytes of it arrived."""
    is_refused: bool = False
    """Whether its key was refused as expired."""
    is_acknowledged: bool = False
    """Whether the answer was sent before the attempt was ended."""


@dataclass
class Attempt:
    """One process that runs the job."""

    machine: int
    moment: Moment | None
    process: BaseProcess | None = None
    requests: int = 0
    data: int = 0
    published: int = 0
    """How many requests were made since the manifest was sent, that one included."""
    is_ended: bool = False
    """Whether its moment came while it ran."""
    seconds: float = 0.0
    """When that was, and then how long it took to end."""

    def end(self) -> None:
        """End it, once."""
        if self.process is None or self.moment is None or self.is_ended:
            return
        if not wait([self.process.sentinel], 0):
            self.is_ended, self.seconds = True, time.monotonic()
            os.kill(self.process.pid, self.moment.number)


@dataclass
class EndingProxy(FaultProxy):
    """Passes on the requests of one attempt after the other at one asset.

    Parameters
    ----------
    prefix : str
        The asset.
    store : Store
        How the store treats conditions.
    keys : Sequence[tuple[str, str]]
        Access keys and their secrets; one at a time is accepted.
    keys_file : Path
        Where the accepted one is written, as a `credential_process` prints it.
    chance : random.Random
        Draws which answers are lost, and when a key is replaced.
    """

    prefix: str = ""
    store: Store = Store.SOUND
    keys: Sequence[tuple[str, str]] = ()
    keys_file: Path = Path()
    chance: random.Random = field(default_factory=random.Random)
    attempts: list[Attempt] = field(default_factory=list)
    sent: defaultdict[tuple[int, str], list[Sent]] = field(
        default_factory=lambda: defaultdict(list)
    )
    """By machine, and key or part: each time that it was sent."""
    renewals: int = 0
    """How often the accepted key was replaced by another."""

    def __enter__(self) -> "EndingProxy":
        super().__enter__()
        self._local = threading.local()
        self._left = 0
        self._lost: Counter[str] = Counter()
        with self._lock:
            self._renew()
        return self

    def begin_attempt(self, attempt: Attempt) -> None:
        """Count what comes from now on as another attempt's."""
        with self._lock:
            self.attempts.append(attempt)

    def _renew(self) -> None:
        """Accept the next key alone, and have it fetched from now on."""
        name, secret = self.keys[self.renewals % len(self.keys)]
        self.renewals += 1
        ends = datetime.now(UTC) + timedelta(minutes=5)
        keys: dict[str, Any] = {"Version": 1, "AccessKeyId": name, "SecretAccessKey": secret}
        new = self.keys_file.with_suffix(".new")
        new.write_text(json.dumps(keys | {"Expiration": ends.isoformat()}))
        os.replace(new, self.keys_file)
        self._accepted = name.encode()
        self._left = self.chance.randint(30, 150)

    def _note(self, head: bytes, size: int) -> Asked:
        """Note a request; end the attempt if this is the moment."""
        asked = super()._note(head, size)
        with self._lock:
            attempt = self.attempts[-1]
            self._left -= 1
            if self._left < 0:
                self._renew()
            is_expired = self._accepted not in _ACCESS_KEY.findall(head)
            self._local.is_expired, self._local.attempt = is_expired, attempt
            self._local.sent = None
            path, _, query = asked.target.partition("?")
            _, _, name = path.partition(f"/{self.prefix}/behavior/")
            part = _PART.search(query)
            if asked.method == "PUT" and name:
                key = f"{name} {part.group(1)}" if part else name
                sent = Sent(len(self.attempts) - 1, size, is_refused=is_expired)
                self.sent[attempt.machine, key].append(sent)
                self._local.sent = sent
            attempt.requests += self._local.sent is None or bool(part)
            is_manifest = asked.method == "PUT" and path.endswith("/manifest.jsonl")
            attempt.published += is_manifest or bool(attempt.published)
            self._local.number, self._local.published = attempt.requests, attempt.published
        self._end_if(attempt, When.ASKED, self._local.number)
        return asked

    def _count(self, head: bytes):
        """Return what counts the bytes of a body, and ends the attempt if this is the moment."""
        count, attempt, sent = super()._count(head), self._local.attempt, self._local.sent

        def count_data(size: int) -> None:
            count(size)
            if sent is None or not size:
                return
            with self._lock:
                sent.came += size
                attempt.data += size
            self._end_if(attempt, When.BYTES, attempt.data)

        return count_data

    def _pass_on(
        self, link: socket.socket, head: bytes, body: bytes, size: int, trouble: Trouble | None
    ) -> bytes:
        """Pass on a request, as this store treats it."""
        target = head.split(b" ", 2)[1].decode()
        if self._local.is_expired:
            trouble = Trouble.EXPIRED
        elif _CONDITION.search(head):
            if self.store is Store.IGNORES:
                head = self._without_conditions(head)
            elif self.store is Store.DROPS and head.startswith(b"PUT "):
                return self._drop(link, head, body, size)
            elif self.store is Store.LOSES:
                with self._lock:
                    is_lost = not self._lost[target] and self.chance.random() < 0.5
                    self._lost[target] = is_lost  # not twice in a row
                    self.troubled[Trouble.LOSE] += is_lost
                trouble = Trouble.LOSE if is_lost else trouble
        return super()._pass_on(link, head, body, size, trouble)

    def _drop(self, link: socket.socket, head: bytes, body: bytes, size: int) -> bytes:
        """Acknowledge a write, and forget it."""
        source = Body(link, body, size, self._count(head), None)
        source.drain()
        etag = uuid.uuid4().hex
        link.sendall(f'HTTP/1.1 200 OK\r\nETag: "{etag}"\r\nContent-Length: 0\r\n\r\n'.encode())
        return source.beyond

    def _answer(self, link: socket.socket, answer: bytes, trouble: Trouble | None) -> None:
        """Pass on an answer; end the attempt before if this is the moment."""
        attempt, sent = self._local.attempt, self._local.sent
        self._end_if(attempt, When.DONE, self._local.number)
        self._end_if(attempt, When.PUBLISHED, self._local.published)
        super()._answer(link, answer, trouble)
        if sent is not None and answer.split(b" ", 2)[1] == b"200" and not attempt.is_ended:
            sent.is_acknowledged = True

    def _end_if(self, attempt: Attempt, when: When, amount: float) -> None:
        """End an attempt if its moment has come."""
        moment = attempt.moment
        if moment is not None and moment.when is when and amount >= moment.amount:
            attempt.end()

    def _without_conditions(self, head: bytes) -> bytes:
        """Sign a request again, without its conditions."""
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        path, _, query = target.partition("?")
        headers = dict(line.split(": ", 1) for line in lines)
        headers = {name.lower(): value for name, value in headers.items()}
        payload = headers["x-amz-content-sha256"]
        apart = ("authorization", "connection", "content-length", "if-match", "if-none-match")
        rest = {name: headers[name] for name in apart[1:3] if name in headers}
        signed = {name: value for name, value in headers.items() if name not in apart}
        keys = Keys(*self.keys[(self.renewals - 1) % len(self.keys)])
        fresh = sign(keys, "us-east-1", _CLOCK.stamp(), method, path, query, signed, payload) | rest
        return "\r\n".join([first, *(f"{n}: {v}" for n, v in fresh.items())]).encode()
