"""The batch script of a job on the cluster, and what it leaves behind. Pure.

The script is the same few lines for every job. What differs from job to job goes in as data: in
base64, into a file of the job's own. So no text in any field can become code.

In the folder of logs, a job leaves these files, each with the job's id before its ending:

=================  ==================================================================
``.out``           what it said
``.err``           what it complained of
``.events.jsonl``  what it did, one JSON object a line
``.request.json``  what it was asked for, or ``.script``: the script of the user's own
``.claim``         as which Slurm job it runs; a second one with the same id does nothing
``.end``           how it ended, for when Slurm has forgotten it
``.cancel``        empty; the service makes it when a user cancels the job, so that the
                   job can tell this from a time limit or preemption
=================  ==================================================================

Where a job is cut into shards, its array has the id `<id>.shards`: the claim is its own, and the
other files are its shards', `<id>.shards.3.out` and so on.
"""

import base64
import re
import shlex
from collections.abc import Mapping
from pathlib import PurePosixPath
from typing import Any

from aind_data_transfer_service.errors import ExecutorError
from aind_data_transfer_service.executors.base import JobSpec
from aind_data_transfer_service.settings.env_policy import is_administrators, without_sources
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.slurmrest.job_properties import read_properties

ENDINGS = {"stdout": ".out", "stderr": ".err", "events": ".events.jsonl"}
CLAIM = ".claim"
END = ".end"
REQUEST = ".request.json"
SCRIPT = ".script"
CANCEL = ".cancel"
MODULE = "aind_data_transfer_service.upload"
PATH = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
_CONTAINER_PREFIXES = ("SINGULARITYENV_", "APPTAINERENV_")
_CONTAINER_BINDS = ("SINGULARITY_BIND", "APPTAINER_BIND")
_SAFE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}(?:\.shards(?:\.[0-9]{1,4})?)?")

_SCRIPT = r"""#!/bin/bash
# Job @ID@ of the data transfer service.
set -u
base=@BASE@
me="${SLURM_JOB_ID:?only Slurm runs this}"
number=$me claim=$base.claim
@SHARD@
# Submitted twice, a job still runs once.
printf '%s\n' "$number" >"$claim.$me" && ln "$claim.$me" "$claim" 2>/dev/null
rm -f "$claim.$me"
claimed=$(cat "$claim") || { echo "the folder of logs cannot be written to" >&2; exit 1; }
if [ "$claimed" != "$number" ]; then
    echo "this job runs as Slurm job $claimed; as Slurm job $number it does nothing" >&2
    exit 0
fi
if grep -qs '"exit_code": 0,' "$base.end"; then  # queued again by a controller that missed its end
    echo "this job has done its work already" >&2
    exit 0
fi
rm -f "$base.end"

# Where the user sent the output elsewhere, it is to be found here too.
[ -e "$base.out" ] || ln "$(readlink "/proc/$$/fd/1")" "$base.out" 2>/dev/null
[ -e "$base.err" ] || ln "$(readlink "/proc/$$/fd/2")" "$base.err" 2>/dev/null

input=$base@INPUT@
base64 -d >"$input" <<'END-OF-DATA' || { echo "$input cannot be written" >&2; exit 1; }
@DATA@
END-OF-DATA
# The traps come first: a signal that arrives while the command starts is passed on afterwards.
child= early= woken=1 stopped=false code= timer=
pass_on() {
    woken=1
    if [ -n "$child" ]; then kill -s "$1" "$child" 2>/dev/null; else early=$1; fi
}
trap 'stopped=true; pass_on TERM' TERM
trap 'stopped=true; pass_on HUP' HUP
trap 'stopped=true; pass_on QUIT' QUIT
trap 'pass_on INT' INT
trap 'pass_on USR1' USR1
trap 'pass_on USR2' USR2
@COMMAND@ &
child=$!@ANNOUNCE@
[ -z "$early" ] || kill -s "$early" "$child" 2>/dev/null
while [ -n "$woken" ]; do
    woken=
    wait "$child"
    now=$?
    if [ -z "$code" ] || [ "$now" != 127 ]; then code=$now; fi
done
jobs -pr | grep -qx "${timer:-none}" && kill "$timer" 2>/dev/null
printf '{"slurm_job_id": %s, "exit_code": %s, "stopped": %s, "ended": %s}\n' \
    "$me" "$code" "$stopped" "$(date +%s)" >"$base.end.$me" && mv -f "$base.end.$me" "$base.end"
exit "$code"
"""

_NOTICE = 60
"""Seconds before the time limit at which it is announced; before a short one, a quarter of it."""
_ASK_EVERY = 600
"""Seconds after which Slurm is asked again for the time limit, which may have become shorter."""
_PATIENCE = 10
"""Seconds to wait for an answer of Slurm at most; near a short limit, a quarter of the notice."""
_MORE_FOLDERS = "/opt/slurm/bin:/usr/local/slurm/bin"
"""Where `squeue` may be besides the job's PATH, which knows nothing of the node."""
_ANNOUNCE = r"""
# SIGUSR1 announces the time limit while the job can still record what it has sent. The limit may be
# changed meanwhile, so Slurm is asked for it; without an answer it is the one that was known last.
# A trap runs during `read`, but not while a command of `$(...)` does.
announce() {
    local began=$(date +%s) nap= asking= answer= said is_silent notice left
    local end=${SLURM_JOB_END_TIME:-} patience=PATIENCE limited=
    trap 'kill $nap $asking; exit' TERM
    [[ $end =~ ^[0-9]+$ ]] || end=$(($2 ? began + 60 * $2 : 0))
    ! command -v timeout >/dev/null || limited="timeout -k 1 $((2 * PATIENCE))"
    while :; do
        exec {answer}< <(
            echo "$BASHPID"
            export PATH=$PATH:MORE_FOLDERS SLURM_TIME_FORMAT=%s
            exec $limited squeue -h -j "$1" -o %e
        )
        read -r -u "$answer" asking
        said=
        read -r -t "$patience" -u "$answer" said
        is_silent=$(($? > 128))
        [ "$is_silent" = 0 ] || kill $asking
        asking=
        exec {answer}<&-
        if [[ $said =~ ^[0-9]+$ ]]; then end=$said; fi
        [ "$end" -gt 0 ] || return
        notice=$(((end - began) / 4))
        [ "$notice" -lt NOTICE ] || notice=NOTICE
        left=$((end - notice - $(date +%s)))
        [ "$left" -gt 0 ] || break
        [ "$left" -lt ASK_EVERY ] || left=ASK_EVERY
        sleep "$left" &
        nap=$!
        wait "$nap"
        nap=
        # A Slurm that hangs must not hold up the announcement.
        [ "$is_silent" = 0 ] || [ "$(date +%s)" -lt $((end - notice)) ] || break
        patience=$((notice / 4 + 1))
        [ "$patience" -lt PATIENCE ] || patience=PATIENCE
    done
    kill -s USR1 $$
}
task=$me
[ -z "${SLURM_ARRAY_TASK_ID:-}" ] || task=${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID
announce "$task" @MINUTES@ </dev/null >/dev/null 2>&1 &
timer=$!"""
for _name, _value in (
    ("NOTICE", _NOTICE),
    ("ASK_EVERY", _ASK_EVERY),
    ("PATIENCE", _PATIENCE),
    ("MORE_FOLDERS", _MORE_FOLDERS),
):
    _ANNOUNCE = _ANNOUNCE.replace(_name, str(_value))

_SHARD = r"""
# A shard: it has files of its own, and the claim is that of the whole array.
number=$SLURM_ARRAY_JOB_ID base=$base.$SLURM_ARRAY_TASK_ID
for prefix in "" @PREFIXES@; do
    export "${prefix}UPLOAD_SHARD=$SLURM_ARRAY_TASK_ID/@SHARDS@"
    export "${prefix}UPLOAD_EVENTS_FILE=$base.events.jsonl"
done
"""


def check_id(job_id: str) -> str:
    """Refuse an id that cannot be part of a file's name.

    Raises
    ------
    ExecutorError
        Where it cannot.
    """
    if not _SAFE_ID.fullmatch(job_id):
        raise ExecutorError(f'"{job_id}" cannot be the id of a job')
    return job_id


def job_file(folder: PurePosixPath | None, job_id: str, ending: str) -> PurePosixPath:
    """Name one of a job's files."""
    if folder is None:
        raise ExecutorError("HPC_LOGGING_DIRECTORY is not set")
    return folder / f"{check_id(job_id)}{ending}"


def compose_script(
    spec: JobSpec, hpc: HpcSettings, shards: int = 0, time_limit: int | None = None
) -> str:
    """Write the batch script of a job.

    Parameters
    ----------
    spec : JobSpec
        The job.
    hpc : HpcSettings
        What is known of the cluster.
    shards : int
        How many shards the array has; 0 if the job is whole.
    time_limit : int | None
        The time limit in minutes that the job asks for; by default the partition's.
    """
    base = str(job_file(hpc.logging_directory, spec.job_id, ""))
    data = base64.encodebytes((spec.script or spec.request).encode()).decode("ascii").strip()
    shard = _SHARD.replace("@PREFIXES@", " ".join(_CONTAINER_PREFIXES))
    announce = _ANNOUNCE.replace("@MINUTES@", str(time_limit or 0))
    parts = {
        "@SHARD@": shard.replace("@SHARDS@", str(shards)) if shards else "",
        "@ID@": spec.job_id,
        "@BASE@": shlex.quote(base),
        "@INPUT@": SCRIPT if spec.script else REQUEST,
        "@COMMAND@": _command(spec, hpc),
        "@DATA@": data,
        "@ANNOUNCE@": "" if spec.script else announce,
    }
    return re.sub("@[A-Z]+@", lambda found: parts[found[0]], _SCRIPT)


def compose_environment(
    spec: JobSpec, hpc: HpcSettings, agreed: Mapping[str, str]
) -> dict[str, str]:
    """Compose the environment of a job; the keys for AWS travel here and nowhere else.

    Parameters
    ----------
    spec : JobSpec
        The job. Variables of the user's own (`environment` among the settings) come first, so that
        they cannot replace ours.
    hpc : HpcSettings
        What is known of the cluster.
    agreed : mapping of str to str
        What the service and the job must agree on. The secrets of the sources of metadata are no
        affair of a script of the user's own.
    """
    secret = hpc.aws_secret_access_key
    session = hpc.aws_session_token
    ours: dict[str, Any] = {
        **(without_sources(agreed) if spec.script else agreed),
        "JOB_ID": spec.job_id,
        "UPLOAD_RECORDED": None if spec.script else "true",
        "UPLOAD_ASSET": None if spec.script else spec.name,
        "DATA_DIR": str(hpc.current_working_directory),
        "UPLOAD_STATE_DIR": f"{hpc.current_working_directory}/transfers",
        "UPLOAD_EVENTS_FILE": str(job_file(hpc.logging_directory, spec.job_id, ENDINGS["events"])),
        "UPLOAD_CANCEL_FILE": str(job_file(hpc.logging_directory, spec.job_id, CANCEL)),
        "AWS_ACCESS_KEY_ID": hpc.aws_access_key_id,
        "AWS_SECRET_ACCESS_KEY": secret and secret.get_secret_value(),
        "AWS_SESSION_TOKEN": session and session.get_secret_value(),
        "AWS_DEFAULT_REGION": hpc.aws_default_region,
        "STAGING_DIRECTORY": hpc.staging_directory and str(hpc.staging_directory),
    }
    ours = {name: value for name, value in ours.items() if value}
    found = {"PATH": PATH, "LANG": "C.UTF-8"}
    given = read_properties(spec.settings)[0].get("environment", {})
    found |= {name: value for name, value in given.items() if not is_administrators(name)}
    found |= ours
    if hpc.sif_location and not spec.script:
        binds = [hpc.logging_directory, hpc.current_working_directory, *hpc.bind_paths]
        found |= {
            prefix + name: value for prefix in _CONTAINER_PREFIXES for name, value in ours.items()
        }
        found |= dict.fromkeys(_CONTAINER_BINDS, ",".join(map(str, binds)))
    return found


def _command(spec: JobSpec, hpc: HpcSettings) -> str:
    """Write the command line; `$input` is the file that holds the request or the script."""
    if spec.script:
        return '{ chmod 700 "$input" && exec "$input"; }'
    words = [hpc.python, "-m", MODULE, "--json-file"]
    if hpc.sif_location:
        words = ["singularity", "exec", "--cleanenv", str(hpc.sif_location), *words]
    # The signal that announces the time limit would end Python before it has a handler for it.
    return f"{{ trap '' USR1; exec {shlex.join(words)} \"$input\"; }}"
