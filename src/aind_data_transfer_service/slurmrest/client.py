"""An asynchronous client of slurmrestd."""

import asyncio
import ssl
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx

from aind_data_transfer_service.network.tls_trust import trust
from aind_data_transfer_service.slurmrest import parsing
from aind_data_transfer_service.slurmrest.accounting import (
    NOTHING_FOUND,
    PastDialect,
    read_past_jobs,
)
from aind_data_transfer_service.slurmrest.api_versions import Dialect
from aind_data_transfer_service.slurmrest.errors import (
    AnswerLost,
    NoSuchJob,
    NotSlurm,
    Refused,
    Unauthorised,
    Unreachable,
)
from aind_data_transfer_service.slurmrest.models import (
    JobList,
    JobStates,
    Pinged,
    SlurmJob,
    SlurmNode,
    Submission,
    Submitted,
)
from aind_data_transfer_service.slurmrest.partitions import (
    SlurmPartition,
    SlurmQos,
    read_partitions,
    read_qos,
)
from aind_data_transfer_service.slurmrest.responses import (
    CERTAIN,
    Answer,
    Exchange,
    judge,
    read_answer,
)
from aind_data_transfer_service.slurmrest.tokens import TokenSource

T = TypeVar("T")
_CONNECTIONS = 32
"""Of which submissions take 8 and questions 16 at most, so that a cancellation need not wait."""
_PAST_AT_ONCE = 200
_SPECIFICATIONS = ("/openapi/v3", "/openapi")
_IN_A_THREAD = 256 * 1024
"""Answers longer than this many bytes are taken apart in a thread."""
_NOT_SENT = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.UnsupportedProtocol,
    httpx.InvalidURL,
)


class SlurmClient:
    """Asks slurmrestd, in whichever dialect it speaks, and gives the internal form.

    May be used by many tasks at once; connections are pooled. Every method raises what
    `slurmrest.errors` draws, and nothing else.

    Parameters
    ----------
    base_url : str
        Scheme, host and port, such as `https://cluster:6820`.
    username : str
        In whose name requests are made.
    token : TokenSource
        Where the token comes from.
    timeout : float
        Seconds to wait for one answer. slurmrestd itself needs some ten to find out that slurmctld
        is not there.
    ca : Path, optional
        A file of certificates to trust, for https.
    dialect : str, optional
        Pins what is spoken, such as `slurm/v0.0.38`; found out from the server where left out.
    """

    def __init__(
        self,
        base_url: str,
        username: str,
        token: TokenSource,
        *,
        timeout: float = 30.0,
        ca: Path | None = None,
        dialect: str | None = None,
    ):
        self.base_url = base_url.rstrip("/")
        self.tokens = token
        self._username = username
        self._pinned = Dialect.named(dialect) if dialect else None
        self._dialect = self._pinned
        self._paths: list[str] | None = None
        self._asking = asyncio.Lock()
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            verify=_trust(ca) if self.base_url.startswith("https:") else False,
            timeout=httpx.Timeout(timeout, pool=None, connect=min(timeout, 10.0)),
            limits=httpx.Limits(
                max_connections=_CONNECTIONS, max_keepalive_connections=_CONNECTIONS
            ),
            headers={"Accept": "application/json"},
            trust_env=False,
        )

    async def __aenter__(self) -> "SlurmClient":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()

    async def dialect(self) -> Dialect:
        """Tell what is spoken; asked of the server once.

        A server that does not list its paths is taken to have them at its root, in v0.0.36.
        """
        if self._dialect is None:
            self._dialect = Dialect.among(await self._offered())
        return self._dialect

    async def submit(self, submission: Submission) -> Submitted:
        """Submit a job.

        It is sent once: where the answer is lost, nobody can tell whether it was accepted, and
        whoever calls has to look for it before sending it again. A job that Slurm accepted with
        complaints (held, say) is submitted: its answer carries them.

        Raises
        ------
        AnswerLost
            It may have been accepted.
        Busy
            It was not accepted now; Slurm may accept it later.
        Unconfirmed
            Slurm complains, but with a status of success: it may have been accepted.
        Refused
            Slurm says no, in its own words.
        Unreachable, Unauthorised, TokenUnavailable, NotSlurm
            It was not accepted.
        """
        dialect = await self.dialect()
        body = dialect.submission(submission)
        what = Exchange("POST", dialect.path("job", "submit"), changes=True, sent=body["job"])
        answer = await self._ask(what, json=body)
        slurm_id = parsing.read_slurm_id(answer.body)
        if slurm_id is None:
            raise AnswerLost(f"{self._place(what)} answered without a job id")
        complaints = tuple(map(str, parsing.read_complaints(answer.body)))
        return Submitted(slurm_id, answer.body, complaints)

    async def jobs(self, updated_since: datetime | None = None) -> JobList:
        """List all jobs that Slurm remembers, in one call, but those of others without a comment.

        Parameters
        ----------
        updated_since : datetime, optional
            With it, the list is empty where Slurm says that no job at all has changed since. Where
            any has, it lists all; so do servers of v0.0.36 always.
        """
        dialect = await self.dialect()
        what = Exchange("GET", dialect.path("jobs"), lists_jobs=True)
        query = {}
        if updated_since is not None and dialect.lists_changes:
            query = {"update_time": dialect.time(updated_since)}
        read = partial(parsing.read_job_list, username=self._username)
        return await self._ask_for(read, what, params=query)

    async def states(self) -> JobStates | None:
        """Return the states of all jobs; None if the server cannot list them by themselves.

        slurmrestd needs a fiftieth of the time and memory that a list of the same jobs takes. It
        has them in v0.0.40 and newer from Slurm 24.05 on. It can be asked for some of the jobs, but
        Slurm 24.11 and 26.05 refuse the numbers as their documentation has them, with commas.
        """
        dialect = await self.dialect()
        path = dialect.path("jobs", "state")
        if not dialect.may_list_states or f"{path}/" not in await self._offered():
            return None
        return await self._ask_for(
            parsing.read_job_states, Exchange("GET", f"{path}/", lists_states=True)
        )

    async def partitions(self) -> list[SlurmPartition]:
        """List the partitions, those included that Slurm hides from our user."""
        dialect = await self.dialect()
        what = Exchange("GET", dialect.path("partitions"))
        return await self._ask_for(read_partitions, what, params=dialect.everything)

    async def qos(self) -> list[SlurmQos] | None:
        """List slurmdbd's qualities of service; None if the server does not offer slurmdbd."""
        past = PastDialect.among(await self._offered())
        if past is None:
            return None
        path = past.path.rstrip("/").removesuffix("jobs") + "qos"
        return await self._ask_for(read_qos, Exchange("GET", path))

    async def job(self, job_id: int) -> SlurmJob | None:
        """Show one job; None where Slurm does not know it, or no longer."""
        jobs = await self.tasks(job_id)
        return next((job for job in jobs if job.job_id == job_id), jobs[0] if jobs else None)

    async def tasks(self, job_id: int) -> list[SlurmJob]:
        """Show the tasks of an array, those that are not on their way yet as one; or one job."""
        dialect = await self.dialect()
        what = Exchange("GET", dialect.path("job", int(job_id)), job_id=int(job_id))
        try:
            return await self._ask_for(parsing.read_jobs, what)
        except NoSuchJob as error:
            await self._sure_of(error)
            return []

    async def past_jobs(self, job_ids: Sequence[int]) -> list[SlurmJob] | None:
        """Ask slurmdbd, which forgets nothing, for jobs; None where the cluster has none to ask.

        One question for some hundreds of them. A job that was run several times is listed as it
        was the last time.
        """
        past = PastDialect.among(await self._offered())
        if past is None:
            return None
        found: list[SlurmJob] = []
        for start in range(0, len(job_ids), _PAST_AT_ONCE):
            query = past.query(job_ids[start : start + _PAST_AT_ONCE])
            found += await self._ask_accounting(past, query)
        return found

    async def past_jobs_since(self, since: datetime, name: str) -> list[SlurmJob] | None:
        """Ask slurmdbd for the jobs since a time, whatever their numbers; None if there is none.

        Parameters
        ----------
        since : datetime
            Jobs that ended before it are left out.
        name : str
            The name of the jobs; jobs of other names may be listed too.
        """
        past = PastDialect.among(await self._offered())
        if past is None:
            return None
        return await self._ask_accounting(past, past.query_since(since, name))

    async def _ask_accounting(
        self, past: PastDialect, query: Sequence[tuple[str, str]]
    ) -> list[SlurmJob]:
        """Send one query to slurmdbd."""
        try:
            return await self._ask_for(
                read_past_jobs, Exchange("GET", past.path), params=list(query)
            )
        except Refused as error:
            if all(complaint.number != NOTHING_FOUND for complaint in error.complaints):
                raise
            return []

    async def cancel(self, job_id: int, signal: str | None = None) -> bool:
        """Cancel a job, or send it a signal (`SIGTERM`).

        Returns
        -------
        bool
            False where Slurm says that it does not know the job, or that it has ended. True is no
            proof of the contrary: v0.0.40 and v0.0.41 say nothing, those up to v0.0.38 not of the
            ended.
        """
        dialect = await self.dialect()
        what = Exchange("DELETE", dialect.path("job", int(job_id)), job_id=int(job_id))
        try:
            await self._ask(what, params={"signal": signal} if signal else {})
        except Refused as error:
            await self._sure_of(error)
            if isinstance(error, NoSuchJob):
                return False
            raise
        return True

    async def ping(self) -> list[Pinged]:
        """Ask for the controllers."""
        dialect = await self.dialect()
        return await self._ask_for(parsing.read_pings, Exchange("GET", dialect.path("ping")))

    async def nodes(self) -> list[SlurmNode]:
        """List the nodes."""
        dialect = await self.dialect()
        return await self._ask_for(parsing.read_nodes, Exchange("GET", dialect.path("nodes")))

    async def _sure_of(self, error: Refused) -> None:
        """Make sure that it is slurmctld who says no to something about a job.

        Where slurmctld is down or rejects the token, slurmrestd of v0.0.36 says "unknown job" all
        the same, with no number, and that of v0.0.41 says "Operation not permitted".
        """
        if any(complaint.number in CERTAIN for complaint in error.complaints):
            return
        if not any(controller.up for controller in await self.ping()):
            raise Unreachable(
                f"{self.base_url}: no slurmctld answers slurmrestd; is one running?",
                perhaps_token=True,
            ) from error

    async def _offered(self) -> list[str]:
        """Tell which paths the server has; asked of it once."""
        if self._paths is None:
            async with self._asking:
                if self._paths is None:
                    self._paths = await self._listed_paths()
        return self._paths

    async def _listed_paths(self) -> list[str]:
        """Ask the server which paths it has."""
        for path in _SPECIFICATIONS:
            try:
                answer = await self._ask(Exchange("GET", path))
            except (NotSlurm, Refused):
                continue
            paths = answer.body.get("paths")
            return list(paths) if isinstance(paths, Mapping) else []
        return []

    async def _ask_for(
        self, read: Callable[[Mapping[str, Any]], T], what: Exchange, **request: Any
    ) -> T:
        """Ask, and read what was answered."""
        answer = await self._ask(what, **request)
        if answer.size > _IN_A_THREAD:
            return await asyncio.to_thread(read, answer.body)
        return read(answer.body)

    async def _ask(self, what: Exchange, **request: Any) -> Answer:
        """Ask, and once more with a fresh token where the first is not accepted."""
        token = await self.tokens.current()
        try:
            return await self._ask_with(token, what, **request)
        except NotSlurm:  # perhaps it was upgraded, and speaks otherwise now
            self._dialect, self._paths = self._pinned, None
            raise
        except Unauthorised:
            fresh = await self.tokens.renew(token) if self.tokens.renewable else token
            if fresh == token:
                raise
            return await self._ask_with(fresh, what, **request)
        except Unreachable as error:
            if not error.perhaps_token or not self.tokens.renewable:
                raise
            fresh = await self.tokens.renew(token)
            if fresh == token:
                raise
            return await self._ask_with(fresh, what, **request)

    async def _ask_with(self, token: str, what: Exchange, **request: Any) -> Answer:
        """Ask once, or twice where a question got lost on a connection that had gone stale."""
        try:
            response = await self._send(token, what, **request)
        except httpx.RemoteProtocolError as error:
            if what.changes:
                raise self._lost(what, error) from error
            response = await self._send_again(token, what, **request)
        if len(response.content) > _IN_A_THREAD:
            answer = await asyncio.to_thread(read_answer, response, what)
        else:
            answer = read_answer(response, what)
        judge(answer, replace(what, username=self._username), self._place(what), token)
        return answer

    async def _send(self, token: str, what: Exchange, **request: Any) -> httpx.Response:
        """Send a request and wait for its answer."""
        headers = {"X-SLURM-USER-NAME": self._username, "X-SLURM-USER-TOKEN": token}
        try:
            return await self._http.request(what.method, what.path, headers=headers, **request)
        except _NOT_SENT as error:
            raise Unreachable(
                f"{self.base_url} cannot be reached ({_words(error)}); nothing was sent. "
                "Is slurmrestd running there, and is HPC_URL (or HPC_HOST and HPC_PORT) right?"
            ) from error
        except httpx.RemoteProtocolError:
            raise
        except httpx.HTTPError as error:
            raise self._lost(what, error) from error

    async def _send_again(self, token: str, what: Exchange, **request: Any) -> httpx.Response:
        try:
            return await self._send(token, what, **request)
        except httpx.RemoteProtocolError as error:
            raise self._lost(what, error) from error

    def _lost(self, what: Exchange, error: Exception) -> AnswerLost | Unreachable:
        """Say that an answer was lost: of a question, or of something that may have been done."""
        if what.changes:
            return AnswerLost(
                f"{self._place(what)} gave no answer ({_words(error)}); "
                "it may have been carried out all the same"
            )
        return Unreachable(f"{self._place(what)} gave no answer ({_words(error)})")

    def _place(self, what: Exchange) -> str:
        return f"{what.method} {self.base_url}{what.path}"


def _trust(ca: Path | None) -> ssl.SSLContext:
    """Trust the system's certificates, and those of a file where one is named."""
    try:
        return trust(ca)
    except OSError as error:
        raise Unreachable(f"HPC_CA_FILE: {ca} cannot be read as certificates: {error}") from error


def _words(error: Exception) -> str:
    """Put an error of the network into a few words."""
    if isinstance(error, httpx.TimeoutException):
        return "time-out"
    text = " ".join(str(error).split())
    if "CERTIFICATE_VERIFY_FAILED" in text:
        return f"its certificate is not trusted; name its authority in HPC_CA_FILE: {text}"
    return text or type(error).__name__
