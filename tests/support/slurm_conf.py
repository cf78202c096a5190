"""What the daemons of a test cluster are told."""

import os
from pathlib import Path

from tests.support import wait_until

SLURM_CONF = """\
ClusterName=tests
SlurmctldHost={host}({address})
SlurmctldPort={ctld_port}
SlurmdPort={node_port}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
AuthAltTypes=auth/jwt
AuthAltParameters=jwt_key={folder}/jwt.key
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.%n.pid
ProctrackType=proctrack/linuxproc
TaskPlugin={task_plugin}
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters={select}
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0,sched_interval=1,bf_interval=1
SlurmdParameters=config_overrides
MpiDefault=none
ReturnToService=2
MinJobAge={min_job_age}
MaxJobCount=100000
KillWait={kill_wait}
MessageTimeout=10
SlurmctldTimeout=300
SlurmdTimeout=300
SlurmctldDebug=info
SlurmdDebug=info
{extra}
{nodes}
PartitionName={partition} Nodes=ALL Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def slurm_conf(*, limits_memory: bool, **values) -> str:
    """Write slurm.conf.

    Parameters
    ----------
    limits_memory : bool
        Whether jobs get no more memory than they asked for.
    **values
        What stands in braces in `SLURM_CONF`.
    """
    values["task_plugin"] = "task/cgroup" if limits_memory else "task/none"
    values["select"] = "CR_CPU_Memory" if limits_memory else "CR_CPU"
    return SLURM_CONF.format(**values)


def cgroup_conf(*, limits_memory: bool) -> str:
    """Write cgroup.conf: memory is limited by the kernel, where there are control groups for it."""
    if not limits_memory:
        return "CgroupPlugin=disabled\n"
    plugin = "cgroup/v1" if _MEMORY.exists() else "cgroup/v2\nIgnoreSystemd=yes"
    return f"CgroupPlugin={plugin}\nConstrainRAMSpace=yes\nMinRAMSpace=30\n"


def remove_cgroups(host: str) -> None:
    """Remove the control groups that slurmd left, once the last of its processes is gone."""
    for top in (_MEMORY / f"slurm_{host}", _MEMORY / "slurm"):
        wait_until(lambda: _removed(top), 90, f"the end of what runs in {top}")


def _removed(top: Path) -> bool:
    """Remove a tree of control groups; tell whether it is gone."""
    for folder, _, _ in os.walk(top, topdown=False):
        try:
            os.rmdir(folder)
        except OSError:  # somebody is in there still, or has just removed it
            return False
    return True


_MEMORY = Path("/sys/fs/cgroup/memory")
