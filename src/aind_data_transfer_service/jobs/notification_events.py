"""On what occasions people are told of a job. Pure."""

from collections.abc import Collection
from enum import StrEnum

from aind_data_transfer_service.jobs.states import ENDED, JobState


class Occasion(StrEnum):
    """What happened to a job, in the words of Slurm's `--mail-type`.

    Slurm's own: https://slurm.schedmd.com/sbatch.html#OPT_mail-type
    """

    BEGIN = "BEGIN"
    END = "END"
    FAIL = "FAIL"
    REQUEUE = "REQUEUE"


ALL = "ALL"
"""The word for every occasion."""


def occasion_of(before: JobState, after: JobState) -> Occasion | None:
    """Tell what a change of state is to the people; None where it is nothing to them."""
    if before is after:
        return None
    if after is JobState.RUNNING:
        return Occasion.BEGIN
    if after is JobState.PENDING and before is JobState.RUNNING:
        return Occasion.REQUEUE
    if after is JobState.COMPLETED:
        return Occasion.END
    return Occasion.FAIL if after in ENDED else None


def is_wanted(occasion: Occasion, wished: Collection[str]) -> bool:
    """Tell whether somebody wants to hear of an occasion.

    As with Slurm, `END` asks for every end, and `FAIL` for the bad ones alone.
    """
    if ALL in wished or occasion in wished:
        return True
    return occasion is Occasion.FAIL and Occasion.END in wished
