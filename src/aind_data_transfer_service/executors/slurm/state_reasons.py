"""Messages for the reasons that Slurm gives for a job that is pending or has failed. Pure.

The names and their meaning are those of https://slurm.schedmd.com/job_reason_codes.html, of
squeue(1) and of `enum job_state_reason` in `slurm.h`, from Slurm 22.05 to 26.05.
"""

from collections.abc import Mapping
from fnmatch import fnmatchcase
from functools import lru_cache

from aind_data_transfer_service.redaction import on_a_line

LONGEST_TEXT = 500
"""Characters of what Slurm says of a job."""
LOST_BY_CLUSTER = "LostByCluster"
"""Not a reason of Slurm's: its controller came back without a job that it had accepted."""

_DESCRIPTIONS = {
    "is held because it could not be launched; it starts only after a cluster administrator has"
    " checked the node and released it": ("launch failed requeued held",),
    "was requeued and held; it starts only after a cluster administrator or the jobs' user"
    " releases it": (
        "job requeued in held state",
        "job requeued in special exit state",
    ),
    "waits for nodes that are down, drained or reserved; it starts by itself when they are"
    " available again; if that takes long, ask a cluster administrator when they return": (
        "Nodes required for job are DOWN, DRAINED or reserved",
    ),
    "waits because nodes that it needs are reserved for maintenance; it starts by itself"
    " afterwards": ("ReqNodeNotAvail, Reserved for maintenance",),
}
"""Messages for the beginnings of `state_description`, which is more exact than the reason."""

_REASONS = {
    "was lost by the cluster before it began, and is submitted again": (LOST_BY_CLUSTER,),
    "waits for the scheduler to consider it; there is nothing to do": (
        "None",
        "WaitingForScheduling",
    ),
    "waits for nodes to become free; it starts by itself": ("Resources",),
    "waits behind jobs of higher priority; it starts by itself": ("Priority",),
    "waits for the job that it depends on; it starts by itself after that job": ("Dependency",),
    "waits for its begin time; it starts by itself": ("BeginTime",),
    "waits for a license; it starts by itself when one is free": ("Licenses",),
    "waits for its reservation to become available; it starts by itself": ("Reservation",),
    "waits for the node to clean up after its previous run; it starts by itself": ("Cleaning",),
    "waits for the prolog program of the cluster; it starts by itself": ("Prolog",),
    "waits for other tasks of its job array; it starts by itself": ("JobArrayTaskLimit",),
    "waits for space in a burst buffer; it starts by itself": ("BurstBufferResources",),
    "waits for data to be staged into its burst buffer; it starts by itself": (
        "BurstBufferStageIn",
    ),
    "waits for a lock of the cluster federation; it starts by itself": ("FedJobLock",),
    "waits for electrical power or for nodes to be powered up; it starts by itself": (
        "PowerNotAvail",
        "PowerReserved",
        "MaxPoweredUpNodes",
    ),
    "waits for free communication ports on its nodes; it starts by itself": ("MpiPortsBusy",),
    "waits for a free channel between the GPUs of its nodes; it starts by itself": (
        "NvidiaImexChannels",
    ),
    "waits for a hardware block of the cluster; it starts by itself once the block is usable": (
        "BlockMaxError",
        "BlockFreeAction",
    ),
    "waits for nodes with the features that it asks for; it starts by itself when one is"
    " available": ("Constraints",),
    "waits until the fair share of its account is above the threshold of its QOS again; it starts"
    " by itself": ("QOSUsageThreshold",),
    "waits for a node that is in use, reserved, down or drained; it starts by itself when the node"
    " is available; a node that is down or drained needs a cluster administrator": (
        "ReqNodeNotAvail",
        "NodeDown",
        "FrontEndDown",
    ),
    "waits because its partition is down or inactive; it starts by itself after a cluster"
    " administrator has set the partition up again": ("PartitionDown", "PartitionInactive"),
    "is held by its user or an account coordinator; it starts only after the jobs' user or a"
    " cluster administrator releases it": ("JobHeldUser",),
    "is held by an administrator of the cluster; it starts only after an administrator releases"
    " it": ("JobHeldAdmin",),
    "is held because it was requeued too often; it starts only after a cluster administrator has"
    " found the cause and released it": ("JobHoldMaxRequeue",),
    "can never start: the job that it depends on did not end as required; cancel it and submit it"
    " again": ("DependencyNeverSatisfied",),
    "can never start as requested: no node has what it asks for; cancel it and submit it again"
    " with other requirements": ("BadConstraints",),
    "cannot start as requested: it asks for more time than its partition allows; cancel it and"
    " submit it again with a shorter time_limit, or ask a cluster administrator": (
        "PartitionTimeLimit",
    ),
    "cannot start as requested: it asks for more or fewer nodes than its partition allows, or"
    " nodes that it needs are down or drained; submit it again with another number of nodes, or"
    " ask a cluster administrator": ("PartitionNodeLimit",),
    "cannot start as requested: it exceeds a limit of its partition; submit it again with other"
    " requirements or another partition, or ask a cluster administrator": ("PartitionConfig",),
    "cannot start as requested: it asks for more memory per CPU or per node than is allowed; cancel"
    " it and submit it again with less memory, or ask a cluster administrator": ("MaxMemPerLimit",),
    "cannot start: its account or QOS is not valid, or not allowed here; submit it again with"
    " another one, or ask a cluster administrator": (
        "InvalidAccount",
        "InvalidQOS",
        "AccountNotAllowed",
        "QOSNotAllowed",
    ),
    "cannot start: its reservation was deleted or is not valid; cancel it and submit it again"
    " without that reservation": ("ReservationDeleted", "ReservationInvalid"),
    "cannot end before its deadline; cancel it and submit it again with a later deadline": (
        "DeadLine",
    ),
    "asks for an immediate start, which this cluster does not do; cancel it and submit it again"
    " without that": ("SchedDefer",),
    "may not start by itself: a policy of the cluster's accounting applies that Slurm does not"
    " name; ask a cluster administrator": ("AccountingPolicy",),
    "may not start by itself: its burst buffer failed; ask a cluster administrator": (
        "BurstBufferOperation",
    ),
    "may not start by itself: its previous run failed; ask a cluster administrator, or cancel it"
    " and submit it again": (
        "JobLaunchFailure",
        "SystemFailure",
        "NonZeroExitCode",
        "RaisedSignal",
        "TimeLimit",
        "InactiveLimit",
        "OutOfMemory",
    ),
    "waits because running jobs of its account, user or QOS use all that a limit of the cluster"
    " allows; it starts by itself when enough of them end, unless it alone exceeds the limit": (
        *("AssocGrp*RunMinutes*", "QOSGrp*RunMinutes*", "Max*RunMinsPer*"),
        *("AssocMaxJobsLimit", "AssocMaxSubmitJobLimit"),
        *("AssociationJobLimit", "AssociationResourceLimit", "QOSJobLimit", "QOSResourceLimit"),
        *("QOSMax*PerUser*", "Max*PerAccount"),
    ),
    "waits because its account or QOS has used up a limit on time; it starts by itself only if"
    " the limit counts recent usage alone; otherwise a cluster administrator has to raise it": (
        *("AssocGrp*Minutes*", "AssocGrpWallLimit", "AssociationTimeLimit"),
        *("QOSGrp*Minutes*", "QOSGrpWallLimit", "QOSTimeLimit"),
    ),
    "waits because the jobs of its account or QOS together use all that a limit of the cluster"
    " allows; it starts by itself when enough of them end, unless it alone exceeds the limit": (
        *("AssocGrp*", "QOSGrp*"),
    ),
    "cannot start as requested: it asks for more than its account or QOS allows for one job; cancel"
    " it and submit it again with less, or ask a cluster administrator": ("AssocMax*", "QOSMax*"),
    "cannot start as requested: it asks for less than the minimum of its QOS; cancel it and submit"
    " it again with more, or with another QOS": ("QOSMin*",),
}
"""Messages for pending jobs, each with its reasons; of several patterns the first counts."""

UNKNOWN = "waits for a reason that this service does not know"
"""The message for a reason of a later version."""

_FAILURES = {
    "failed: its partition went down; resubmit it when the partition is up": ("PartitionDown",),
    "failed: a node that it needs is down; resubmit it": ("NodeDown",),
    "failed: it asks for what no node has; resubmit it with other requirements": (
        "BadConstraints",
    ),
    "failed: its requirements could not be satisfied; resubmit it, or change them": (
        "Constraints",
    ),
    "failed: Slurm, a file system or the network failed; resubmit it, and ask a cluster"
    " administrator if it happens again": ("SystemFailure",),
    "failed: its burst buffer failed; ask a cluster administrator": ("BurstBufferOperation",),
    "failed: its account or QOS is not valid; resubmit it with another one, or ask a cluster"
    " administrator": ("InvalidAccount", "InvalidQOS"),
    "failed: it reached the cluster's limit on inactive jobs; resubmit it": ("InactiveLimit",),
    "failed: it reached its time limit; resubmit it with a longer time_limit": ("TimeLimit",),
    "failed: it ran out of memory; resubmit it with more memory": ("OutOfMemory",),
    "failed: it could not end before its deadline; resubmit it with a later one": ("DeadLine",),
    "failed: it asked for an immediate start, which this cluster does not do; resubmit it without"
    " that": ("SchedDefer",),
    "failed: it was ended by a signal; see its log, and resubmit it": ("RaisedSignal",),
}
"""Messages for failed jobs, each with its reasons."""

UNKNOWN_FAILURE = "failed for a reason that this service does not know"
"""The message for a reason of a later version."""


def _by_name(messages: Mapping[str, tuple[str, ...]]) -> dict[str, str]:
    """Return the messages by reason."""
    return {name: message for message, names in messages.items() for name in names}


_PENDING_BY_NAME, _FAILURE_BY_NAME = _by_name(_REASONS), _by_name(_FAILURES)
_PATTERNS = [name for name in _PENDING_BY_NAME if "*" in name]
_BEGINNINGS = _by_name(_DESCRIPTIONS)


def pending_messages() -> dict[str, tuple[str, ...]]:
    """Return the messages for pending jobs, each with its reasons or beginnings of descriptions."""
    return {**_DESCRIPTIONS, **_REASONS}


def failure_messages() -> dict[str, tuple[str, ...]]:
    """Return the messages for failed jobs, each with its reasons."""
    return dict(_FAILURES)


@lru_cache(maxsize=1000)
def waiting_reason(reason: str, description: str = "") -> str:
    """Return why a job is pending, whether it starts by itself, and what to do.

    Slurm's own text follows, with names of nodes if it has some.

    Parameters
    ----------
    reason : str
        Slurm's `state_reason`; it may be a description too.
    description : str
        Slurm's `state_description`.
    """
    said = on_a_line(description or reason, LONGEST_TEXT)
    message = _of_description(said) or _of_reason(reason)
    if reason in ("", "None", LOST_BY_CLUSTER) and not description:
        return message
    return f"{message}; Slurm: {said}"


def failure_reason(reason: str, description: str = "") -> str:
    """Return why a job failed and what to do, and Slurm's own text."""
    message = _FAILURE_BY_NAME.get(reason, UNKNOWN_FAILURE)
    return f"{message}; Slurm: {on_a_line(description or reason, LONGEST_TEXT)}"


def _of_description(said: str) -> str:
    """Return the message for a description; empty if there is none."""
    text = said.replace("_", " ")  # squeue writes it so
    for beginning, message in _BEGINNINGS.items():
        if text.startswith(beginning):
            return message
    return ""


def _of_reason(reason: str) -> str:
    """Return the message for a reason, which names of nodes may follow after a comma."""
    name = reason.partition(",")[0] or "None"
    if name in _PENDING_BY_NAME:
        return _PENDING_BY_NAME[name]
    pattern = next((one for one in _PATTERNS if fnmatchcase(name, one)), None)
    return _PENDING_BY_NAME[pattern] if pattern else UNKNOWN
