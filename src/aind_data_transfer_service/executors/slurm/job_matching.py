"""Which jobs that Slurm lists are ours, and which of our ids each has.

A job has several marks: our id in its comment, our id in the paths of its output files, and Slurm's
number of it together with the time of submission, the user and the name. `scontrol update` or a job
submit plugin can change the comment and the name. Slurm can use a number again: it wraps around, or
begins at one after the controller lost its state. So no single mark decides.
"""

import re
from collections.abc import Iterable, Mapping
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import PurePosixPath
from typing import Any

from aind_data_transfer_service.executors.slurm.job_array import SHARDS, array_number
from aind_data_transfer_service.executors.slurm.job_properties import (
    mark_of,
    marked_id,
    marked_shards,
    pattern,
    without_copies,
)
from aind_data_transfer_service.slurmrest.models import SlurmJob

_REMEMBERED = 50_000
_SKEW = timedelta(seconds=120)
"""How far our clock may be from that of Slurm's controller."""
_OUTPUT = re.compile(
    r"/([A-Za-z0-9][A-Za-z0-9_-]{0,63}(?:\.shards)?)(?:\.(?:[0-9]{1,10}|%a))?\.(?:out|err)"
)
_PATTERN = re.compile(r"%%|%[0-9]*[A-Za-z]")


@dataclass(slots=True)
class _Record:
    """What is known of a job of ours."""

    number: int = 0
    """Slurm's number of the job, or of its array; zero if it is not known."""
    submitted: datetime | None = None
    """When it was submitted, by Slurm's clock."""
    name: str | None = None
    shards: int = 0
    since: datetime | None = None
    """When it was sent, or recorded, by our clock."""
    paths: tuple[str, ...] = ()
    """Where its output was asked to go."""
    user_id: int | None = None
    """Whose it is, as Slurm listed it last; v0.0.36 gives no name."""
    is_from_here: bool = False
    """Whether this process sent it under the number."""


class Identity:
    """Recognises our jobs in what Slurm and slurmdbd list.

    Parameters
    ----------
    folder : PurePosixPath
        The folder of logs: a job's output goes there by default, to files named after its id.
    username : str
        Whose jobs ours are; empty if a job can be submitted for another user.
    shards : int
        Into how many shards jobs are cut.
    """

    def __init__(self, folder: PurePosixPath, username: str, shards: int = 0):
        self._folders = tuple({str(folder), pattern(folder)})
        self._username = username
        self._shards = shards
        self._user_id: int | None = None
        self._records: dict[str, _Record] = {}
        self._by_number: dict[int, str] = {}
        self._by_name: dict[str, set[str]] = {}
        self._possible: dict[str, SlurmJob] = {}

    def expect(
        self,
        job_id: str,
        number: int = 0,
        submitted: datetime | None = None,
        user_id: int | None = None,
    ) -> None:
        """Note what our own record says of a job; what Slurm said itself counts more."""
        record = self._record(job_id)
        if number and not record.number:
            self._set_number(job_id, record, number)
        if number == record.number and record.submitted is None:
            record.submitted = submitted
        if user_id is not None:
            record.user_id = user_id if record.user_id is None else record.user_id

    def note_sent(
        self, job_id: str, properties: Mapping[str, Any], since: datetime, number: int = 0
    ) -> None:
        """Note that a job is sent, or may have been, and the number that Slurm gave it, if any."""
        record = self._record(job_id)
        record.name, record.since = str(properties.get("name", "")), since
        paths = (properties.get(name) for name in ("standard_out", "standard_error"))
        record.paths = tuple(str(path) for path in paths if path)
        if number:
            self._set_number(job_id, record, number)
            record.submitted = record.user_id = None
            record.is_from_here = True
            self._forget_name(job_id, record)
        elif not record.number:
            self._by_name.setdefault(record.name, set()).add(job_id)

    def note_unsent(self, job_id: str) -> None:
        """Note that a job was surely not taken, so that none is recognised as it by its name."""
        if (record := self._records.get(job_id)) and not record.number:
            self._forget_name(job_id, record)
            self._possible.pop(job_id, None)

    def clear(self) -> None:
        """Forget everything: another process may give jobs other numbers."""
        memories: tuple[dict[Any, Any], ...] = (
            self._records,
            self._by_number,
            self._by_name,
            self._possible,
        )
        for memory in memories:
            memory.clear()
        self._user_id = None

    def sort(
        self, found: Iterable[SlurmJob], is_complete: bool = True
    ) -> tuple[dict[str, list[SlurmJob]], list[SlurmJob]]:
        """Return our jobs by our own ids, and all jobs. In both, ours have our mark as comment.

        A job that has nothing but the paths of one of ours counts if the latter is not listed.

        Parameters
        ----------
        found : iterable of SlurmJob
            What Slurm lists.
        is_complete : bool
            Whether that is all; else no job is recognised by its name, since a newer one may be
            missing.
        """
        listed: dict[str, list[SlurmJob]] = {}
        spare: dict[str, list[SlurmJob]] = {}
        rest = []
        for job in found:
            if job_id := self.id_of(job):
                listed.setdefault(job_id, []).append(job)
            elif job_id := self._id_by_paths_alone(job):
                spare.setdefault(job_id, []).append(job)
            else:
                rest.append(job)
        for job_id, jobs in spare.items():
            (rest if job_id in listed else listed.setdefault(job_id, [])).extend(jobs)
        if is_complete:
            for job_id, named in self._match_names(rest, listed).items():
                listed[job_id] = [named]
                rest = [job for job in rest if job is not named]
        for job_id, jobs in listed.items():
            if len(jobs) > 1:
                ours = without_copies(jobs, self._record(job_id).number)
                if len(ours) < len(jobs):
                    rest += [job for job in jobs if job not in ours]
                listed[job_id] = ours
        for job_id in sorted(listed, key=lambda one: not one.endswith(SHARDS)):
            listed[job_id] = [self.see(job_id, job) for job in listed[job_id]]
        return listed, [*(job for jobs in listed.values() for job in jobs), *rest]

    def id_of(self, job: SlurmJob) -> str:
        """Return our own id of a job that Slurm lists; empty if it is not ours."""
        known, marked = self._by_number.get(array_number(job), ""), marked_id(job.comment)
        agrees = bool(known) and self._agrees(self._records[known], job)
        if agrees and known == marked:  # of thousands of jobs most are
            return known
        in_paths = self._id_in_paths(job)
        if agrees and known == in_paths:
            return known
        if not self._is_our_users(job):
            return ""
        if in_paths and not self._records[in_paths].number:
            return in_paths
        if agrees and not in_paths and self._fits(self._records[known], job):
            return known
        if marked and self._may_have_mark(marked, in_paths, job):
            return marked
        return ""

    def is_ended(self, job_id: str, job: SlurmJob) -> bool:
        """Return whether a row of slurmdbd with a job's number is about that job."""
        record = self._records.get(job_id)
        if record is not None and not self._agrees(record, job):
            return False
        if marked := marked_id(job.comment) or self._id_in_paths(job):
            return marked == job_id
        if record is None or not self._is_our_users(job):
            return False
        if record.submitted is None and not _is_about_when_sent(record, job):
            return False  # slurmdbd also remembers jobs from before Slurm restarted its count
        is_named = record.name in (None, job.name)
        return is_named and self._fits(record, job)

    def sent(self, job_id: str) -> tuple[str, datetime] | None:
        """Return the name of a job that got no number, and the earliest time of its submission."""
        record = self._records.get(job_id)
        if record is None or record.number or not record.name or record.since is None:
            return None
        return record.name, record.since - _SKEW

    def may_be_sent(self, job_id: str, job: SlurmJob) -> bool:
        """Return whether a row of slurmdbd may be a job of ours that was sent and got no number."""
        record = self._records.get(job_id)
        if record is None or record.since is None or not self._is_our_users(job):
            return False
        if job.submitted is None or job.submitted < record.since - _SKEW:
            return False
        if marked := marked_id(job.comment) or self._id_in_paths(job):
            return marked == job_id
        is_array = bool(job.array_job_id)
        is_kind = is_array == job_id.endswith(SHARDS) and job.name == record.name
        return is_kind and not self._is_claimed(job)

    def possible(self, job_id: str) -> SlurmJob | None:
        """Return a listed job that may be one of ours which was sent and got no number."""
        return self._possible.get(job_id)

    def unclear(self, found: Iterable[SlurmJob], listed: Mapping[str, Any]) -> dict[str, SlurmJob]:
        """Return the jobs that may be ours by their numbers alone, by our own ids.

        They have no other mark of ours, and neither their user nor their time speaks against it.
        """
        numbered = ((self._by_number.get(array_number(job), ""), job) for job in found)
        return {
            job_id: job
            for job_id, job in numbered
            if job_id and job_id not in listed and self.is_unclear(job_id, job)
        }

    def is_unclear(self, job_id: str, job: SlurmJob) -> bool:
        """Return whether a job has the number of one of ours, and nothing tells if it is that."""
        record = self._records.get(job_id)
        if record is None or record.number != array_number(job) or self.id_of(job):
            return False
        if not self._is_our_users(job) or self._is_of_same_user(record, job) is False:
            return False
        if record.submitted is None or job.submitted is None:
            return True
        return bool(job.restarts) and job.submitted > record.submitted

    def see(self, job_id: str, job: SlurmJob) -> SlurmJob:
        """Remember what Slurm lists of a job of ours, and return it with our mark as comment."""
        record = self._record(job_id)
        is_marked = marked_id(job.comment) == job_id
        if is_marked:
            record.shards = marked_shards(job.comment)
        if job_id.endswith(SHARDS):
            record.shards = record.shards or self._shards
            self._record(job_id.removesuffix(SHARDS)).shards = record.shards
        number = array_number(job)
        if record.number != number:
            self._set_number(job_id, record, number)
            self._forget_name(job_id, record)
            record.is_from_here = False
        elif record.is_from_here and job.user_id is not None:
            self._user_id = job.user_id
        record.name, record.submitted = job.name, job.submitted
        if job.user_id is not None:
            record.user_id = job.user_id
        return job if is_marked else self.marked(job_id, job)

    def marked(self, job_id: str, job: SlurmJob) -> SlurmJob:
        """Return a job of ours with our mark as comment, whatever it was changed to."""
        if marked_id(job.comment) == job_id:
            return job
        record = self._records.get(job_id)
        changed = copy(job)  # `replace` takes five times as long
        object.__setattr__(changed, "comment", mark_of(job_id, record.shards if record else 0))
        return changed

    def submitted(self, job_id: str, number: int) -> datetime | None:
        """Return when Slurm took a job under a number, by Slurm's clock; None if not known."""
        record = self._records.get(job_id)
        return record.submitted if record and record.number == number else None

    def is_named_in_paths(self, job_id: str, job: SlurmJob) -> bool:
        """Return whether the paths of a job's output files name it, which is enough to know it."""
        return self._id_in_paths(job) == job_id

    def _record(self, job_id: str) -> _Record:
        """Return the record of a job, perhaps a new one; the oldest of too many is dropped."""
        record = self._records.get(job_id)
        if record is None:
            record = self._records[job_id] = _Record()
            while len(self._records) > _REMEMBERED:
                oldest = next(iter(self._records))
                dropped = self._records.pop(oldest)
                self._forget_name(oldest, dropped)
                self._forget_number(oldest, dropped)
        return record

    def _set_number(self, job_id: str, record: _Record, number: int) -> None:
        self._forget_number(job_id, record)
        record.number = number
        self._by_number[number] = job_id

    def _forget_number(self, job_id: str, record: _Record) -> None:
        if self._by_number.get(record.number) == job_id:
            del self._by_number[record.number]

    def _forget_name(self, job_id: str, record: _Record) -> None:
        """Stop looking for a job by its name: its number is known."""
        name = record.name or ""
        if ids := self._by_name.get(name):
            ids.discard(job_id)
            if not ids:
                del self._by_name[name]

    def _is_our_users(self, job: SlurmJob) -> bool:
        """Return whether a job may be of our user; v0.0.36 gives the user's number alone.

        That is known from jobs that this process sent: earlier ones may be of a former account.
        """
        if job.user and self._username:
            return job.user == self._username
        if self._user_id is not None and job.user_id is not None:
            return job.user_id == self._user_id
        return True

    def _agrees(self, record: _Record, job: SlurmJob) -> bool:
        """Return whether the user of a job that has our number and our mark may be ours.

        Where neither a name nor a number tells the user, the time of submission has to do.
        """
        is_same = self._is_of_same_user(record, job)
        if is_same is not None:
            return is_same
        if record.submitted is None or job.submitted in (None, record.submitted):
            return True
        return bool(job.restarts)

    def _is_of_same_user(self, record: _Record, job: SlurmJob) -> bool | None:
        """Return whether a job is of the user of one of ours; None if that is not known."""
        if job.user and self._username:
            return job.user == self._username
        if record.user_id is not None and job.user_id is not None:
            return job.user_id == record.user_id
        return None

    def _id_in_paths(self, job: SlurmJob) -> str:
        """Return the id of a job of ours after which a job's output files are named."""
        for path in (job.standard_output, job.standard_error):
            for folder in self._folders:
                found = path.startswith(folder) and _OUTPUT.fullmatch(path, len(folder))
                if found and found[1].removesuffix(SHARDS) in self._records:
                    self._record(found[1])
                    return found[1]
        return ""

    def _id_by_paths_alone(self, job: SlurmJob) -> str:
        """Return the id in a job's paths, unless its user, number or time speaks against it."""
        in_paths = self._id_in_paths(job)
        is_ours = bool(in_paths) and self._is_our_users(job)
        return in_paths if is_ours and self._may_have_mark(in_paths, in_paths, job) else ""

    def _match_names(
        self, jobs: Iterable[SlurmJob], listed: Mapping[str, Any]
    ) -> dict[str, SlurmJob]:
        """Match jobs without any mark to those of ours that were sent and got no number.

        Of several that fit the newest counts: the others are earlier jobs of the same name. One
        that is older than ours by the clocks at hand is taken for it in no case, but as the clocks
        may differ, ours is not sent again while it is listed (`possible`). The same holds if
        several jobs of ours fit: once one of them begins, its claim tells which it is.
        """
        self._possible = {}
        spare = [job for job in jobs if job.name in self._by_name and self._is_spare(job)]
        spare.sort(key=_age)
        matched: dict[str, SlurmJob] = {}
        for name in {job.name for job in spare}:
            fitting: dict[str, SlurmJob] = {}
            for job_id in self._by_name[name] - listed.keys():
                record = self._records[job_id]
                if fits := [job for job in spare if self._is_as_sent(record, job)]:
                    fitting[job_id] = fits[-1]
            for job_id, newest in fitting.items():
                is_certain = len(fitting) == 1 and self._is_newer(self._records[job_id], newest)
                (matched if is_certain else self._possible)[job_id] = newest
        return matched

    @staticmethod
    def _is_newer(record: _Record, job: SlurmJob) -> bool:
        """Return whether a job was submitted after ours was recorded; Slurm counts seconds."""
        if record.since is None or job.submitted is None:
            return False
        return job.submitted >= record.since.replace(microsecond=0)

    def _is_spare(self, job: SlurmJob) -> bool:
        """Return whether a listed job may be one of ours, and is claimed by none of them."""
        if job.array_job_id or job.submitted is None or marked_id(job.comment):
            return False
        return self._is_our_users(job) and not self._id_in_paths(job) and not self._is_claimed(job)

    def _is_claimed(self, job: SlurmJob) -> bool:
        """Return whether a job has the number of one of ours, and may be that one."""
        record = self._records.get(self._by_number.get(array_number(job), ""))
        if record is None:
            return False
        return record.submitted in (None, job.submitted) or bool(job.restarts)

    @staticmethod
    def _is_as_sent(record: _Record, job: SlurmJob) -> bool:
        """Return whether a job of our user may be one that was sent and got no number."""
        if job.submitted is None or record.since is None or len(record.paths) < 2:
            return False
        if job.name != record.name or job.submitted < record.since - _SKEW:
            return False
        return all(map(_fits_path, record.paths, (job.standard_output, job.standard_error)))

    def _may_have_mark(self, marked: str, in_paths: str, job: SlurmJob) -> bool:
        """Return whether a job that has our comment is ours by what else is known of both.

        Another process may have sent ours again, under another number. That is believed only if
        the number in hand is no other job's of ours, and more than the comment says whose it is.
        """
        record, number = self._records.get(marked), array_number(job)
        if record is None or not record.number:
            return True
        if record.number == number:
            return self._agrees(record, job)
        if number in self._by_number and self._agrees(self._records[self._by_number[number]], job):
            return False
        is_same = self._is_of_same_user(record, job)
        if is_same is not None:
            return is_same
        is_told = bool(job.user) or job.user_id is None or self._user_id is not None
        return is_told or in_paths == marked

    @staticmethod
    def _fits(record: _Record, job: SlurmJob) -> bool:
        """Return whether a job with the number of one of ours is that job.

        Slurm gives a job that it puts back into the queue a new time of submission. Before a job is
        listed for the first time, its own time is not known: our clock may not be Slurm's.
        """
        if job.submitted is None:
            return False
        if record.submitted is not None:
            if job.submitted == record.submitted:
                return True
            is_named = record.name in (None, job.name)
            return bool(job.restarts) and job.submitted > record.submitted and is_named
        if record.since is None:
            return False
        listed = (job.standard_output, job.standard_error)
        return job.name == record.name or any(map(_fits_path, record.paths, listed))


def _age(job: SlurmJob) -> tuple[float, int]:
    """Return what sorts older submissions before newer ones."""
    return job.submitted.timestamp() if job.submitted else 0.0, job.job_id


def _is_about_when_sent(record: _Record, job: SlurmJob) -> bool:
    """Return whether a job was submitted when one of ours was sent, as far as clocks agree."""
    if record.since is None or job.submitted is None:
        return False
    return abs(job.submitted - record.since) <= _SKEW


def _fits_path(sent: str, listed: str) -> bool:
    """Return whether Slurm lists a path as it was sent, with or without its patterns replaced."""
    parts = map(re.escape, _PATTERN.split(sent))
    return bool(listed) and re.fullmatch(r"(?:.*/)?" + ".*".join(parts), listed) is not None
