"""What a message says: what happened, to which asset, and what a person would do next. Pure."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from urllib.parse import quote, urlencode
from zoneinfo import ZoneInfo

from aind_data_transfer_service.formatting import duration, number, size
from aind_data_transfer_service.jobs.models import Job
from aind_data_transfer_service.jobs.notification_events import Occasion
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.plain_text import more

_HEADLINES = {
    JobState.COMPLETED: "The asset has arrived and is verified.",
    JobState.FAILED: "The job failed. What was sent so far stays, and a resubmitted job goes on.",
    JobState.TIMEOUT: "The job ran out of time. Resubmit it with a longer time limit: what was "
    "sent is not sent again.",
    JobState.CANCELLED: "The job was cancelled.",
    JobState.UNKNOWN: "The cluster has forgotten the job, and it left no word of its end. Look at "
    "the asset before you resubmit it.",
    JobState.RUNNING: "The job has begun.",
    JobState.PENDING: "The job was put back into the queue, and will begin anew.",
}
NAMED_IN_DIGEST = 10
"""How many jobs a message about several of them names."""
_LONGEST_IN_DIGEST = 200
_SCRIPT_DONE = "The job has ended well."


@dataclass(frozen=True, slots=True)
class Message:
    """What is told of one job on one occasion."""

    occasion: Occasion
    state: JobState
    subject: str
    """One line."""
    headline: str
    """One sentence or two: what happened, and what that means."""
    facts: tuple[tuple[str, str], ...] = field(default=())
    """Names and values, in order."""
    link: str = ""
    """Address of the job's page, where the service knows its own."""

    @property
    def is_bad(self) -> bool:
        """Whether somebody ought to look at it."""
        return self.occasion is Occasion.FAIL

    @property
    def text(self) -> str:
        """The whole message as plain text."""
        lines = [self.headline, ""]
        lines += [f"{name}: {value}" for name, value in self.facts]
        if self.link:
            lines += ["", self.link]
        return "\n".join(lines) + "\n"


def compose(
    job: Job,
    occasion: Occasion,
    state: JobState,
    reason: str,
    service_url: str | None,
    zone: ZoneInfo,
) -> Message:
    """Write a message.

    Parameters
    ----------
    job : Job
        The job as it is now.
    occasion : Occasion
        What happened.
    state, reason : JobState, str
        How the job stood then.
    service_url : str | None
        Where people open the service's pages.
    zone : ZoneInfo
        The lab's, in which times are written.
    """
    headline = _HEADLINES[state]
    if state is JobState.COMPLETED and not job.location:
        headline = _SCRIPT_DONE
    facts = [
        ("Job", f"{job.name} ({job.id})"),
        ("State", state.value),
        ("Reason", _one_line(reason)),
        ("Asset", job.location),
        ("Project", job.project_name),
        ("Subject", job.subject_id),
        ("Modalities", job.modalities),
        ("Submitted by", job.submitter),
        ("Submitted", _moment(job.submitted_at, zone)),
        ("Started", _moment(job.started_at, zone)),
    ]
    if occasion in (Occasion.END, Occasion.FAIL):
        facts += [
            ("Ended", _moment(job.ended_at, zone)),
            ("Took", _time_taken(job)),
            ("Sent", _amount(job)),
            ("Exit code", "" if job.exit_code is None else str(job.exit_code)),
            ("Registration", _with_reason(job.registration, job.registration_reason)),
            ("Analysis", _with_reason(job.analysis, job.analysis_reason)),
            ("Data asset", job.data_asset_link),
        ]
    return Message(
        occasion=occasion,
        state=state,
        subject=_one_line(f"{state.value}: {job.name}"),
        headline=headline,
        facts=tuple((name, _one_line(value)) for name, value in facts if value),
        link=f"{service_url.rstrip('/')}/jobs/{quote(job.id)}" if service_url else "",
    )


def compose_digest(
    told: Sequence[tuple[Job, JobState, str]],
    counts: Mapping[JobState, int],
    occasion: Occasion,
    service_url: str | None,
    zone: ZoneInfo,
) -> Message:
    """Write one message about several jobs that were submitted together.

    Parameters
    ----------
    told : sequence of tuple
        The first of the jobs; of each the job, and its state and reason on this occasion.
    counts : Mapping[JobState, int]
        How many jobs came to each state.
    occasion : Occasion
        What happened to all of them.
    service_url : str | None
        Where people open the service's pages.
    zone : ZoneInfo
        The lab's, in which times are written.
    """
    total = sum(counts.values())
    first, state, _ = told[0]
    facts = [("Jobs", number(total))]
    facts += [(one.value, number(count)) for one, count in counts.items()] if counts else []
    facts += [
        ("Project", first.project_name),
        ("Submitted by", first.submitter),
        ("Submitted", _moment(first.submitted_at, zone)),
    ]
    facts += [(f"Job {place}", _in_digest(*one)) for place, one in enumerate(told, start=1)]
    if (others := total - len(told)) > 0:
        facts.append(("More", more(others, "job", "jobs")))
    states = ", ".join(one.value for one in counts)
    return Message(
        occasion=occasion,
        state=state,
        subject=_one_line(f"{states}: {number(total)} jobs of one request ({first.name}, …)"),
        headline=f"{number(total)} jobs that were submitted together: {states}.",
        facts=tuple((name, _one_line(value)) for name, value in facts if value),
        link=_link_of_batch(first, counts, service_url),
    )


def _in_digest(job: Job, state: JobState, reason: str) -> str:
    """Compose the lines about one of several jobs."""
    text = f"{job.name} ({job.id}), {_with_reason(state.value, reason)}"
    return text if len(text) <= _LONGEST_IN_DIGEST else f"{text[:_LONGEST_IN_DIGEST - 1]}…"


def _link_of_batch(job: Job, states: Collection[JobState], service_url: str | None) -> str:
    """Compose the address of the list of jobs that were submitted at the same moment."""
    if not service_url:
        return ""
    query = [("state", state.value) for state in states]
    query.append(("since", job.submitted_at.isoformat()))
    query.append(("until", (job.submitted_at + timedelta(microseconds=1)).isoformat()))
    return f"{service_url.rstrip('/')}/jobs?{urlencode(query)}"


def _one_line(text: str) -> str:
    """Make any text fit for one line, so that no name can add a header or a fact."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def _moment(moment: datetime | None, zone: ZoneInfo) -> str:
    """Write a time on the lab's clock, with its zone."""
    return "" if moment is None else f"{moment.astimezone(zone):%Y-%m-%d %H:%M:%S %Z}"


def _time_taken(job: Job) -> str:
    """Write how long a job ran."""
    if job.started_at is None or job.ended_at is None:
        return ""
    return duration((job.ended_at - job.started_at).total_seconds())


def _with_reason(state: str, reason: str) -> str:
    """Write a state, and why it is that."""
    return f"{state}: {reason}" if reason else state


def _amount(job: Job) -> str:
    """Write how much of the asset was sent."""
    if job.bytes_done is None or job.bytes_total is None:
        return ""
    sent = f"{size(job.bytes_done)} of {size(job.bytes_total)}"
    if job.files_done is None or job.files_total is None:
        return sent
    return f"{number(job.files_done)} of {number(job.files_total)} files, {sent}"
