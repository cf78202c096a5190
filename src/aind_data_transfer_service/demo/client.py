"""A visitor of the service: speaks to its public HTTP API, and to nothing else."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from time import monotonic, sleep
from types import TracebackType
from typing import Any

import httpx

from aind_data_transfer_service.demo.service import DemoError

_ENDED = frozenset({"COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "UNKNOWN"})


@dataclass(frozen=True)
class JobView:
    """A job as the API shows it."""

    job: dict[str, Any]
    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether nothing more is going to happen."""
        return bool(self.job["state"] in _ENDED)

    @property
    def completed(self) -> bool:
        """Whether the asset arrived and was verified."""
        return bool(self.job["state"] == "COMPLETED")

    def figures(self, step: str) -> dict[str, Any]:
        """Give the figures with which a step ended; empty where it has not."""
        for event in reversed(self.events):
            if event["step"] == step and event["kind"] == "end":
                figures: dict[str, Any] = event["figures"]
                return figures
        return {}

    @property
    def documents(self) -> list[str]:
        """Say of each document of the asset how it is and where it came from, a line each."""
        rows = self.figures("transfer").get("documents", ())
        return [f"{row['name']:<22}{row['status']:<9}{row['source']}" for row in rows]


class ServiceClient:
    """The API, as far as the demo needs it; use it as a context."""

    def __init__(self, url: str, transport: httpx.BaseTransport | None = None) -> None:
        self._http = httpx.Client(base_url=url, timeout=30.0, trust_env=False, transport=transport)

    def __enter__(self) -> "ServiceClient":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._http.close()

    def knows(self, name: str) -> bool:
        """Tell whether the service has a job of this name."""
        answer = self._ask("GET", "/api/jobs", params={"text": name, "page_size": 1})
        return int(answer["total"]) > 0

    def validate(self, filename: str, data: bytes) -> dict[str, Any]:
        """Have a spreadsheet checked, and give its jobs, errors and warnings."""
        return self._ask("POST", "/api/validate_csv", files={"file": (filename, data)})

    def submit(self, jobs: list[str]) -> list[str]:
        """Submit jobs, and give their ids."""
        answer = self._ask("POST", "/api/submit_basic_jobs", json={"jobs": jobs})
        return [response["job_id"] for response in answer["responses"]]

    def job(self, job_id: str) -> JobView:
        """Look at a job."""
        answer = self._ask("GET", f"/api/jobs/{job_id}")
        return JobView(answer["job"], answer["events"])

    def follow(self, job_id: str, interval: float = 0.2, seconds: float = 600) -> Iterator[JobView]:
        """Look at a job until it has ended; the last look shows how."""
        deadline = monotonic() + seconds
        while True:
            view = self.job(job_id)
            yield view
            if view.ended:
                return
            if monotonic() > deadline:
                raise DemoError(f"job {job_id} had not ended after {seconds:g} s")
            sleep(interval)

    def cancel(self, job_id: str) -> None:
        """Stop a job."""
        self._ask("POST", f"/api/jobs/{job_id}/cancel")

    def _ask(self, method: str, path: str, **request: Any) -> dict[str, Any]:
        """Send a request, and give the `data` of the answer's envelope."""
        try:
            response = self._http.request(method, path, **request)
        except httpx.TransportError as error:
            raise DemoError(f"{method} {path}: the service does not answer ({error})") from error
        try:
            envelope = response.json()
            message: str = envelope["message"]
            data: dict[str, Any] = envelope["data"]
        except (json.JSONDecodeError, KeyError, TypeError) as error:
            raise DemoError(
                f"{method} {path}: answer {response.status_code} is not the service's own"
            ) from error
        if not response.is_success:
            errors = "; ".join(data.get("errors", ())) if isinstance(data, dict) else ""
            raise DemoError(f"{message}: {errors}" if errors else message)
        return data
