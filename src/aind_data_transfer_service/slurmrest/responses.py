"""What an answer of slurmrestd means: done, refused, not accepted, not there, or nobody knows.

slurmrestd passes on what it heard from slurmctld, and not always well. A real one of Slurm 22.05
answers 500 with an empty list of errors where slurmctld is down (v0.0.36), the same where slurmctld
rejects an expired token, and 200 with an error where a job is accepted but held.
"""

import errno
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import httpx

from aind_data_transfer_service.redaction import on_a_line
from aind_data_transfer_service.slurmrest import parsing
from aind_data_transfer_service.slurmrest.errors import (
    AnswerLost,
    Busy,
    NoSuchJob,
    NotSlurm,
    Refused,
    SlurmComplaint,
    SlurmError,
    Unauthorised,
    Unconfirmed,
    Unreachable,
)
from aind_data_transfer_service.slurmrest.property_errors import describe_sent
from aind_data_transfer_service.slurmrest.tokens import expiry, is_jwt, user_of

_NO_CONNECTION = frozenset({1800})
"""slurmrestd could not connect to slurmctld: nothing was carried out."""
_NO_ACCOUNTING = frozenset({7000})
"""slurmrestd could not connect to slurmdbd."""
_BROKEN = frozenset(
    {
        errno.ECONNABORTED,
        errno.ECONNREFUSED,
        errno.ECONNRESET,
        errno.EHOSTUNREACH,
        errno.ENETUNREACH,
        errno.ENOTCONN,
        errno.EPIPE,
        errno.ETIMEDOUT,
    }
)
"""The connection between slurmrestd and slurmctld broke; the operating system's own numbers."""
_INTERRUPTED = frozenset({1001, 1002, 1003, 1004, *range(1017, 1026), 5003})
"""Slurm's own numbers of a connection that broke, timed out or is being shut down."""
_NO_ANSWER = frozenset({-1, 1801, 1802, 1803, 5004, 5005}) | _BROKEN | _INTERRUPTED
"""slurmrestd got no answer from slurmctld: it is gone, or it rejects the token without a word."""
_FULL = "its queue is full (MaxJobCount), or its controller is busy"
_STANDBY = "the controller that answers is in standby"
_RATE = "it limits the rate of requests"
_BUSY = {
    errno.EAGAIN: _FULL,
    1804: _RATE,  # SLURMCTLD_COMMUNICATIONS_BACKOFF
    1805: _RATE,  # SLURMCTLD_COMMUNICATIONS_HARD_DROP
    2007: _FULL,  # ESLURM_MAX_JOB_COUNT, formerly ESLURM_ERROR_ON_DESC_TO_RECORD_COPY
    2016: "its nodes are busy",  # ESLURM_NODES_BUSY
    2027: _STANDBY,  # ESLURM_IN_STANDBY_MODE
    2059: "its ports are busy",  # ESLURM_PORTS_BUSY
    2061: "its prolog is running",  # ESLURM_PROLOG_RUNNING
    2131: _STANDBY,  # ESLURM_IN_STANDBY_USE_BACKUP
}
"""A job was not taken and may be sent again: `sbatch`, or Slurm's library under it, retries."""
_NO_NODE = 2018
"""v0.0.36 says so of the list of all nodes where it got no answer."""
_BAD_CREDENTIALS = frozenset({1007, 6001, 6002, 6003})
CERTAIN = frozenset({2002, 2017, 2021})
"""A job is somebody else's, unknown, or ended already: only slurmctld knows to say that."""
_NO_SUCH_JOB = frozenset({2017, 2021})
_NO_CHANGE = 304
_READ_OF_TEXT = 16 * 1024
"""Bytes of an answer that is no JSON in which its beginning is looked for."""
_CHECK = (
    "Is that slurmrestd, not a proxy or another service, and does HPC_API_ENDPOINT name what it "
    "serves?"
)
_NEW_TOKEN = "make a new one with `scontrol token`, and see HPC_TOKEN, HPC_TOKEN_FILE"


@dataclass(frozen=True)
class Exchange:
    """What is asked for."""

    method: str
    path: str
    changes: bool = False
    """Whether it must not be done twice."""
    job_id: int | None = None
    """The job that it is about."""
    lists_jobs: bool = False
    """Whether the answer is a list of jobs, which may be long."""
    lists_states: bool = False
    """Whether the answer is a list of jobs with nothing but their states."""
    username: str = ""
    """In whose name it is asked."""
    sent: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)
    """The job that is submitted, as it is sent."""


@dataclass(frozen=True)
class Answer:
    """What came back, as far as it could be read."""

    status: int
    body: Mapping[str, Any] = field(default_factory=dict)
    """Empty where it was no JSON object."""
    is_json: bool = False
    content_type: str = ""
    start: str = ""
    """How it begins, in one line, where it was no JSON."""
    size: int = 0
    location: str = ""


def read_answer(response: httpx.Response, what: Exchange) -> Answer:
    """Read what came back, whatever it is."""
    content = response.content
    body = parsing.read_listing(content) if what.lists_jobs else None
    if body is None:
        body = _read_json(content)
    is_json = isinstance(body, dict)
    start = "" if is_json else content[:_READ_OF_TEXT].decode("utf-8", "replace")
    return Answer(
        status=response.status_code,
        body=body if is_json else {},
        is_json=is_json,
        content_type=response.headers.get("content-type", "").split(";")[0].strip().lower(),
        start=on_a_line(start, 120),
        size=len(content),
        location=response.headers.get("location", ""),
    )


def _read_json(content: bytes) -> Any:
    """Read JSON; None where it is something else."""
    try:
        return json.loads(content) if content else None
    except (ValueError, RecursionError):
        return None


def judge(answer: Answer, what: Exchange, place: str, token: str) -> None:
    """Raise what an answer amounts to; return where it is a good one."""
    if answer.status == 401:
        raise Unauthorised(_rejected(place, token, what.username))
    if not answer.is_json:
        _judge_other(answer, what, place)
        return
    complaints = parsing.read_complaints(answer.body)
    if what.job_id is not None:
        complaints += parsing.read_statuses(answer.body)
    if what.changes and parsing.read_slurm_id(answer.body):
        return  # accepted: Slurm gives an id to nothing else; what it complains of is advice
    if 200 <= answer.status < 300 and not complaints:
        is_list = what.lists_jobs or what.lists_states
        if is_list and not isinstance(answer.body.get("jobs"), list):
            raise NotSlurm(f"{place} answered {answer.status} without a list of jobs. {_CHECK}")
        return
    try:
        _judge_failure(answer, complaints, what, place, token)
    except AnswerLost:
        raise
    except SlurmError as error:
        if what.changes and 200 <= answer.status < 300:
            raise Unconfirmed(error, answer.status, dict(answer.body)) from error
        raise


def _judge_other(answer: Answer, what: Exchange, place: str) -> None:
    """Judge what is no JSON."""
    if answer.status == _NO_CHANGE and not what.changes:
        return
    said = f"{answer.status} {answer.content_type or 'without a type'}: {answer.start or 'empty'}"
    if answer.status == 403:
        raise Unauthorised(f"{place} is forbidden ({said})")
    elsewhere = f" It points to {answer.location}." if answer.location else ""
    html = answer.content_type == "text/html"
    damaged = 200 <= answer.status < 300 and not html
    if what.changes and (damaged or answer.status >= 500):
        raise AnswerLost(f"{place} answered {said}; it may have been carried out all the same")
    if answer.status >= 500:
        raise Unreachable(f"{place} answered {said}.{elsewhere} Is slurmrestd running behind it?")
    raise NotSlurm(f"{place} answered {said}.{elsewhere} {_CHECK}")


def _judge_failure(
    answer: Answer,
    complaints: tuple[SlurmComplaint, ...],
    what: Exchange,
    place: str,
    token: str,
) -> None:
    """Judge what Slurm complains of."""
    numbers = {complaint.number for complaint in complaints if complaint.number is not None}
    words = "; ".join(map(str, complaints)) or f"{answer.status} without a reason"
    if numbers & _BAD_CREDENTIALS or "uthentication" in words:
        raise Unauthorised(f"{_rejected(place, token, what.username)} (Slurm says: {words})")
    if what.job_id is not None and _is_no_such_job(complaints, numbers):
        raise NoSuchJob(
            f"Slurm does not know job {what.job_id}, or it has ended: {words}",
            complaints,
            answer.status,
            dict(answer.body),
        )
    if numbers & _NO_CONNECTION or _says(words, "connect failure", "Unknown error 1800"):
        raise Unreachable(
            f"{place}: slurmrestd cannot reach slurmctld ({words}); is slurmctld running?"
        )
    if numbers & _NO_ACCOUNTING:
        raise Unreachable(
            f"{place}: slurmrestd cannot reach slurmdbd ({words}); is slurmdbd running?"
        )
    silent = not complaints or bool(numbers & _NO_ANSWER)
    silent = silent or (_NO_NODE in numbers and not what.changes)
    silent = silent or _says(words, "Zero Bytes", "Unknown error 5005", "Unspecified error")
    if silent and (answer.status >= 500 or (what.changes and answer.status < 300)):
        _judge_silence(what, place, token, words)
    if what.changes and (why := _why_busy(numbers, words)):
        text = f"the cluster cannot take the job now: {why}; the service sends it again"
        raise Busy(f"{text} (Slurm says: {words})", complaints, answer.status, dict(answer.body))
    about = describe_sent(answer.body.get("errors"), numbers, what.sent)
    text = f"Slurm refuses: {words}" + (f"; sent: {about}" if about else "")
    raise Refused(text, complaints, answer.status, dict(answer.body))


def _judge_silence(what: Exchange, place: str, token: str, words: str) -> None:
    """Judge that slurmrestd got no answer: slurmctld drops a request whose token it rejects."""
    if _has_ended(token) or not is_jwt(token):
        raise Unauthorised(f"{_rejected(place, token, what.username)} (Slurm says: {words})")
    text = (
        f"{place}: slurmrestd got no answer from slurmctld ({words}); it is not running, "
        f"or it rejects the token{_others_token(token, what.username)}"
    )
    if what.changes:
        raise AnswerLost(f"{text}. It may have been carried out all the same")
    raise Unreachable(text, perhaps_token=True)


def _why_busy(numbers: set[int], words: str) -> str:
    """Return why a job cannot be taken now; empty if it is refused for good."""
    if not numbers and _says(words, "temporarily unavailable", "temporarily unable"):
        return _FULL
    return _BUSY[min(numbers)] if numbers and numbers <= _BUSY.keys() else ""


def _is_no_such_job(complaints: tuple[SlurmComplaint, ...], numbers: set[int]) -> bool:
    if numbers & _NO_SUCH_JOB:
        return True
    return not numbers and any(
        _says(complaint.text, "unknown job", "Invalid job id", "already complet")
        for complaint in complaints
    )


def _says(text: str, *phrases: str) -> bool:
    return any(phrase.lower() in text.lower() for phrase in phrases)


def _has_ended(token: str) -> bool:
    ends = expiry(token)
    return ends is not None and ends <= datetime.now(UTC)


def _others_token(token: str, username: str) -> str:
    """Say that a token is another user's; Slurm takes that only of its administrators."""
    user = user_of(token)
    if not user or not username or user == username:
        return ""
    return (
        f', which is for the user "{user}" and not for HPC_USERNAME ("{username}"); make one with '
        f"`scontrol token username={username}`, or correct HPC_USERNAME"
    )


def _rejected(place: str, token: str, username: str) -> str:
    if (others := _others_token(token, username)) and not _has_ended(token):
        return f"{place}: the token is not accepted{others}"
    ended = expiry(token)
    if _has_ended(token):
        why = f"it ended at {ended:%Y-%m-%d %H:%M:%S} UTC"
    elif not is_jwt(token):
        why = "it does not look like one of Slurm's"
    else:
        why = "is it HPC_USERNAME's, and of this cluster?"
    return f"{place}: the token is not accepted; {why}; {_NEW_TOKEN}"
