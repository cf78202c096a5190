"""What a message says: what happened, to which asset, and what a person would do next. Pure."""

from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import quote
from zoneinfo import ZoneInfo

from aind_data_transfer_service.figures import duration, number, size
from aind_data_transfer_service.jobs.record import Job
from aind_data_transfer_service.jobs.states import JobState
from aind_data_transfer_service.notifications.occasion import Occasion

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
