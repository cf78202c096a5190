"""The demo itself: one session, from a spreadsheet to a verified asset, while you watch."""

import argparse
import signal
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
)
from tzlocal import get_localzone_name

from aind_data_transfer_service.demo.client import JobView, ServiceClient
from aind_data_transfer_service.demo.documents import (
    acquisition_time,
    sample_asset_name,
    sample_spreadsheet,
    write_lab_folder,
    write_metadata,
)
from aind_data_transfer_service.demo.service import (
    LAB_FOLDER,
    DemoError,
    DemoService,
    choose_port,
)
from aind_data_transfer_service.demo.session import SampleSession, SessionSize, make_session

VERIFIED, NOT_VERIFIED = 0, 1
_SPREADSHEET = "sample_jobs.csv"


def parser() -> argparse.ArgumentParser:
    """Describe the demo's command line."""
    result = argparse.ArgumentParser(
        prog="aind-data-transfer-service demo",
        description="Make a sample session, start the service, and send the session through it.",
    )
    result.add_argument(
        "--exit",
        action="store_true",
        help="end when the job has; exit code 0 says that the asset was verified",
    )
    result.add_argument("--port", type=int, help="port of the page (default: 5000 if it is free)")
    result.add_argument(
        "--folder",
        type=Path,
        default=Path("demo-data"),
        help="where everything goes (default: %(default)s)",
    )
    result.add_argument(
        "--seconds",
        type=int,
        default=SessionSize().seconds,
        help="length of the sample session (default: %(default)s, about 200 MB)",
    )
    return result


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; the answer is the process's exit code."""
    options = parser().parse_args(argv)
    console = Console(highlight=False)
    previous = signal.signal(signal.SIGTERM, _interrupt)
    try:
        return Tour(console, options.folder.absolute(), SessionSize(options.seconds)).run(
            options.port, stay=not options.exit
        )
    except DemoError as error:
        console.print(f"[red]error:[/] {escape(str(error))}", soft_wrap=True)
        return NOT_VERIFIED
    except KeyboardInterrupt:
        console.print("\nStopped.")
        return 130
    finally:
        signal.signal(signal.SIGTERM, previous)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


class Tour:
    """One run of the demo."""

    def __init__(self, console: Console, folder: Path, size: SessionSize) -> None:
        self._console = console
        self._folder = folder
        self._size = size

    def run(self, port: int | None, stay: bool) -> int:
        """Make the session, start the service, send the session, and tell how it ended."""
        session = self._make_session()
        write_lab_folder(self._folder / LAB_FOLDER)
        with DemoService(self._folder, choose_port(port)) as service:
            self._say(f"The service is up at [link={service.url}]{service.url}[/].")
            with ServiceClient(service.url) as client:
                view = self._send(client, session)
                self._report(view, service)
            if stay:
                self._stay(service)
        return VERIFIED if view.completed else NOT_VERIFIED

    def _say(self, text: str) -> None:
        self._console.print(text, soft_wrap=True)

    def _make_session(self) -> SampleSession:
        folder = self._folder / "shared_drive" / "690165"
        session = make_session(folder, self._size)
        self._say(f"The sample session lies in {escape(str(session.folder))}.")
        return session

    def _send(self, client: ServiceClient, session: SampleSession) -> JobView:
        acquired = self._fresh_time(client)
        metadata = session.folder / "Metadata" / f"{acquired:%Y-%m-%d_%H-%M-%S}"
        write_metadata(metadata, acquired, get_localzone_name())
        data = sample_spreadsheet(session, metadata, acquired)
        (self._folder / _SPREADSHEET).write_bytes(data)
        answer = client.validate(_SPREADSHEET, data)
        self._say(f"The spreadsheet {escape(str(self._folder / _SPREADSHEET))} is valid.")
        for warning in answer.get("warnings", ()):
            self._say(f"[yellow]warning:[/] {escape(warning)}")
        (job_id,) = client.submit(answer["jobs"])
        self._say(f"Submitted {sample_asset_name(acquired)} as job {job_id}.")
        try:
            return self._watch(client, job_id)
        except KeyboardInterrupt:
            client.cancel(job_id)
            raise

    def _fresh_time(self, client: ServiceClient) -> datetime:
        """Find the first sample time that has not been used: an asset is never overwritten."""
        destination = self._folder / "destination"
        for number in count():
            acquired = acquisition_time(number)
            name = sample_asset_name(acquired)
            if not any(destination.glob(f"*/{name}")) and not client.knows(name):
                return acquired
        raise AssertionError("count() does not end")

    def _watch(self, client: ServiceClient, job_id: str) -> JobView:
        progress = Progress(
            TextColumn("{task.description:>9}"),
            BarColumn(),
            TaskProgressColumn(),
            DownloadColumn(),
            TextColumn("{task.fields[pace]}"),
            console=self._console,
        )
        told = 0
        with progress:
            bar = progress.add_task("waiting", total=None, pace="")
            for view in client.follow(job_id):
                for event in view.events[told:]:
                    _tell(self._say, event)
                told = len(view.events)
                progress.update(
                    bar,
                    description=view.job["step"] or view.job["state"].lower(),
                    total=view.job["bytes_total"] or None,
                    completed=view.job["bytes_done"] or 0,
                    pace=_pace(view.job),
                )
        return view

    def _report(self, view: JobView, service: DemoService) -> None:
        job = view.job
        page = f"{service.url}/jobs/{job['id']}"
        if view.completed:
            done = view.figures("done")
            for line in view.documents:
                self._say(f"  [dim]{escape(line)}[/]")
            self._say(
                f"\n[green]Verified:[/] {done['files']} files, {done['bytes']:,} bytes "
                "compared with what was read from the source.\n"
                f"[green]Asset:[/]    {escape(str(job['location']))}"
            )
        else:
            self._say(f"\n[red]{job['state']}:[/] {escape(job['reason'] or 'no reason given')}")
        self._say(f"[green]Page:[/]     {page}")

    def _stay(self, service: DemoService) -> None:
        self._say(f"\nThe service stays up at {service.url} until Ctrl-C.")
        try:
            service.wait()
        except KeyboardInterrupt:
            self._say("\nStopped.")
            return
        raise DemoError(f"the service ended by itself; see {service.log_file}")


def _tell(say: Callable[[str], None], event: dict[str, Any]) -> None:
    """Print an event where it is worth a line; progress has its bar."""
    if event["kind"] == "progress":
        return
    colour = {"warning": "yellow", "fail": "red"}.get(event["kind"], "dim")
    say(f"  [{colour}]{event['step']:>9} {event['kind']:<7}[/] {escape(event['message'])}")


def _pace(job: dict[str, Any]) -> str:
    """Say how fast the bytes move and how long it will take, as far as the service knows."""
    rate, left = job["bytes_per_second"], job["seconds_left"]
    words = [f"{rate / 1e6:,.0f} MB/s"] if rate else []
    return ", ".join([*words, *([f"{left:.0f} s left"] if left else [])])
