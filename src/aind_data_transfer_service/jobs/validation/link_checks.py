"""Links in sources, as far as the service sees them before a job runs.

A source may have a million files on a slow drive. So only the upper folders are looked at, up to a
number of entries and for a short time; the job looks at everything before it sends anything.

Anyone who submits decides where a link leads. So one is followed only on drives of this machine, in
the source itself and in the `SOURCE_ROOTS` that are there: elsewhere may be a drive that never
answers. And the threads that follow links do nothing else.
"""

import os
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import islice
from operator import attrgetter

from aind_data_transfer_service.concurrency.deadline_pool import Workers
from aind_data_transfer_service.errors import SourceError
from aind_data_transfer_service.jobs.validation.results import CheckResult, SourcePlace
from aind_data_transfer_service.plain_text import show
from aind_data_transfer_service.settings.service import ServiceSettings
from aind_data_transfer_service.source_paths.excluded_names import ExcludedNames
from aind_data_transfer_service.source_paths.links import (
    REPAIR,
    BrokenLinkError,
    first_barred,
    follow_link,
)
from aind_data_transfer_service.source_paths.roots import SourceRoots, is_under

MAX_ENTRIES = 20_000
"""Entries that are looked at in all sources of a request together."""
MIN_ENTRIES = 500
"""Entries that are looked at in each source at least."""
SECONDS = 1.0
"""How long the look at all sources of a request takes at most."""
MAX_LINKS = 20
"""Links of one source that are reported; the look ends there."""
_LATE = "its links could not all be looked at in time; the job looks at all of them"
_FULL = f"the look at its links ended after these {MAX_LINKS}; the job looks at all of them"


def find_broken_links(
    sources: Sequence[SourcePlace],
    roots: SourceRoots,
    seen: Collection[str],
    settings: ServiceSettings,
    workers: Workers,
    deadline: float,
) -> CheckResult:
    """Report links in sources that cannot or may not be followed, as far as is found in time.

    Parameters
    ----------
    sources : Sequence of SourcePlace
        Sources that are there and may be read.
    roots : SourceRoots
        What may be read.
    seen : Collection of str
        The folders that this machine sees as the jobs do, as they really are.
    settings : ServiceSettings
        What broken links do, and which names do not count.
    workers : Workers
        Threads for questions to drives.
    deadline : float
        When the checks of the request have to end, by the monotonic clock.
    """
    result = CheckResult()
    paths = dict.fromkeys(source.path for source in sources)
    seconds = min(SECONDS, deadline - time.monotonic())
    if not paths or seconds <= 0:
        return result
    entries = max(MIN_ENTRIES, MAX_ENTRIES // len(paths))
    exclude = ExcludedNames(settings.exclude)
    search = LinkSearch(roots, seen, exclude, entries, time.monotonic() + seconds)
    reports = {path: LinkReport() for path in paths}
    workers.ask(lambda path: search.find(path, reports[path]), paths, seconds)
    for label, place, path, _ in sources:
        report = reports[path]
        for one in list(report.found):
            text, is_error = _judge(one, settings.broken_links == "fail")
            found = result.errors if is_error else result.warnings
            found[label].append(f"{label}, {place}: {text}")
        if report.end:
            result.warnings[label].append(f"{label}, {place}: {show(path)}: {report.end}")
    return result


@dataclass(frozen=True, slots=True)
class LinkFinding:
    """What is wrong with a link."""

    text: str
    is_broken: bool
    """Whether it cannot be followed, rather than may not be."""
    is_certain: bool
    """Whether the job would find the same."""


@dataclass(slots=True)
class LinkReport:
    """What a search found so far: one that hangs takes nothing back."""

    found: list[LinkFinding] = field(default_factory=list)
    """What is wrong with links, the uppermost first."""
    end: str = _LATE
    """Why the search ended before its end; empty if it did not."""


@dataclass(frozen=True, slots=True)
class LinkSearch:
    """How links are looked for.

    Attributes
    ----------
    roots : SourceRoots
        What may be read.
    seen : Collection of str
        The folders that this machine sees as the jobs do, as they really are.
    exclude : ExcludedNames
        Names that jobs leave out.
    most_entries : int
        How many entries of one source are looked at.
    deadline : float
        When the look ends, by `clock`.
    clock : Callable
        Returns the time in seconds.
    """

    roots: SourceRoots
    seen: Collection[str]
    exclude: ExcludedNames
    most_entries: int
    deadline: float
    clock: Callable[[], float] = time.monotonic

    def find(self, source: str, report: LinkReport) -> None:
        """Find what is wrong with links in a source.

        Parameters
        ----------
        source : str
            A file or a folder.
        report : LinkReport
            Takes what is found, as soon as it is.
        """
        real = self.roots.resolve(source)
        for link in self._links(real):
            if self.clock() >= self.deadline:
                return
            if finding := self._finding(source, link, real):
                report.found.append(finding)
            if len(report.found) == MAX_LINKS:
                report.end = _FULL
                return
        if self.clock() < self.deadline:
            report.end = ""

    def _links(self, real: str) -> Iterator[str]:
        """Return the links in a folder, and in the folders in it."""
        waiting, left = deque([real]), self.most_entries
        while waiting and left > 0 and self.clock() < self.deadline:
            try:
                with os.scandir(waiting.popleft()) as entries:
                    batch = sorted(islice(entries, left), key=attrgetter("name"))
            except OSError:  # a file, or a folder that only the job may read
                continue
            left -= len(batch)
            for entry in batch:
                if self.exclude.match(entry.name):
                    continue
                if entry.is_symlink():
                    yield entry.path
                elif entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)

    def _finding(self, source: str, link: str, real: str) -> LinkFinding | None:
        """Say what is wrong with a link; the path is shown as the request writes it."""
        shown = source + link[len(real) :]
        known = (*self.seen, real)

        def may_look(path: str) -> bool:
            is_known = any(is_under(path, one) or is_under(one, path) for one in known)
            return is_known or self.roots.is_on_this_machine(path)

        if (target := first_barred(link, may_look)) is not None:
            if not self.roots.target_problem(shown, target):
                return None
            text = (
                f"the link {show(shown)} leads to {show(target)}, where the service does not look"
            )
            return LinkFinding(f"{text}; only the job can tell", False, False)
        try:
            follow_link(shown, [os.path.dirname(link)], self.roots)
        except BrokenLinkError as error:
            target = os.path.realpath(link)
            if any(is_under(target, root) for root in self.seen):
                return LinkFinding(str(error), True, True)
            text = f"{error} as seen from here; only the job can tell"
            return LinkFinding(text, True, False)
        except SourceError as error:
            return LinkFinding(str(error), False, True)
        except OSError:  # what the service may not look at, or a drive with a fault
            return None
        return None


def _judge(found: LinkFinding, is_failure: bool) -> tuple[str, bool]:
    """Return what to say of a link, and whether it is an error.

    Parameters
    ----------
    found : LinkFinding
        What is wrong with it.
    is_failure : bool
        Whether a broken link fails a job.
    """
    if not found.is_certain:
        return found.text, False
    if not found.is_broken:
        return found.text, True
    return (
        (f"{found.text}{REPAIR}", True) if is_failure else (f"{found.text}; it is left out", False)
    )
