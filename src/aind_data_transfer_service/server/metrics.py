"""What the service counts, for Prometheus at `/metrics`."""

import math
import time
from collections.abc import Mapping
from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aind_data_transfer_service.jobs.states import JobState

PREFIX = "transfer_service"
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Metrics:
    """The figures of one application, in a registry of its own."""

    def __init__(self) -> None:
        """Begin at nought."""
        self.registry = CollectorRegistry()
        self.jobs = Gauge(
            f"{PREFIX}_jobs", "Jobs in the store, by state.", ["state"], registry=self.registry
        )
        self.submissions = Counter(
            f"{PREFIX}_submissions",
            "Requests to submit jobs, by route and outcome.",
            ["route", "outcome"],
            registry=self.registry,
        )
        self.submitted_jobs = Counter(
            f"{PREFIX}_submitted_jobs", "Jobs that were accepted.", registry=self.registry
        )
        self.validations = Counter(
            f"{PREFIX}_validations",
            "Spreadsheets that were checked, by outcome.",
            ["outcome"],
            registry=self.registry,
        )
        self.validation_seconds = Histogram(
            f"{PREFIX}_validation_seconds",
            "Time that the check of one spreadsheet took.",
            buckets=BUCKETS,
            registry=self.registry,
        )
        self.token_seconds = Gauge(
            f"{PREFIX}_cluster_token_seconds",
            "Seconds until the token for the cluster ends; infinite where that is not known.",
            registry=self.registry,
        )
        self.notices = Gauge(
            f"{PREFIX}_notices_waiting",
            "Messages to people that have not gone out yet.",
            registry=self.registry,
        )
        self.requests = Histogram(
            f"{PREFIX}_request_seconds",
            "Time until the answer to a request began, by route, method and status.",
            ["route", "method", "status"],
            buckets=BUCKETS,
            registry=self.registry,
        )

    def set_token(self, ends: datetime | None) -> None:
        """Take over when the token ends, if it does."""
        left = math.inf if ends is None else (ends - datetime.now(UTC)).total_seconds()
        self.token_seconds.set(left)

    def set_jobs(self, counts: Mapping[JobState, int]) -> None:
        """Take over how many jobs are in each state now."""
        for state in JobState:
            self.jobs.labels(state=state.value).set(counts.get(state, 0))

    def page(self) -> bytes:
        """Write all figures in Prometheus's text format."""
        return generate_latest(self.registry)


class RequestTimer:
    """Measures how long each request waits for its answer to begin."""

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        """Stand around `app` and note in `metrics`."""
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let a request through, and note its time under its route."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        began = time.perf_counter()

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's own pattern, so that no address a visitor makes up becomes a label.
                route = getattr(scope.get("route"), "path", "other")
                method = scope["method"] if scope["method"] in _METHODS else "other"
                self.metrics.requests.labels(route, method, str(message["status"])).observe(
                    time.perf_counter() - began
                )
            await send(message)

        await self.app(scope, receive, note)


_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
