"""How pytest runs the tests: long modules first, one line per module, nothing for what passes."""

import os
import time
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest

_LONGEST = (
    "tests/integration/test_slurm_long_queue.py",
    "tests/integration/test_slurm_page.py",
    "tests/integration/test_transfer_killed.py",
    "tests/integration/test_slurm_accounting.py",
    "tests/integration/test_slurm_service.py",
    "tests/integration/test_slurm_time_limit.py",
    "tests/integration/test_s3_resume.py",
    "tests/integration/test_slurm_shards.py",
    "tests/integration/test_slurm_client.py",
    "tests/integration/test_slurm_newest.py",
    "tests/integration/test_slurm_next.py",
    "tests/integration/test_transfer_faults.py",
    "tests/integration/test_replicas.py",
    "tests/integration/test_s3_unchecked.py",
    "tests/integration/test_service_killed.py",
    "tests/integration/test_transfer_trees.py",
    "tests/browser/test_status.py",
)
"""Modules of a minute or so: started last, one of them would run alone while a core is idle."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark the slow tests, and put the longest modules first."""
    for item in items:
        if getattr(getattr(item, "obj", None), "is_slow", False) or _class_is_slow(item):
            item.add_marker(pytest.mark.slow)
    places = {name: place for place, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: places.get(_module(item.nodeid), len(places)))


def _class_is_slow(item: pytest.Item) -> bool:
    return getattr(getattr(item, "cls", None), "is_slow", False)


def _module(node_id: str) -> str:
    return node_id.partition("::")[0]


@pytest.hookimpl(wrapper=True)
def pytest_report_teststatus(report: pytest.TestReport) -> Iterator[None]:
    """Print no sign for what passes."""
    status = yield
    return (status[0], "", "") if report.passed else status


class ModuleLines:
    """Prints a line for each module whose tests are done.

    Parameters
    ----------
    config : pytest.Config
        The run.
    """

    def __init__(self, config: pytest.Config):
        self._terminal = config.pluginmanager.get_plugin("terminalreporter")
        self._left: Counter[str] = Counter()
        self._failed: Counter[str] = Counter()
        self._total: Counter[str] = Counter()
        self._seconds: Counter[str] = Counter()
        self._began = time.monotonic()

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        """Count the tests of a run in one process."""
        self._count([item.nodeid for item in session.items])

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        """Count the tests of a run in several processes, each of which found all of them."""
        self._count(ids)

    def _count(self, ids: Sequence[str]) -> None:
        if not self._total:
            self._total.update(map(_module, ids))
            self._left.update(self._total)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up what the tests of a module took."""
        module = _module(report.nodeid)
        self._failed[module] += report.failed
        if type(report) is pytest.TestReport:  # the time of a subtest is part of its test's
            self._seconds[module] += report.duration

    def pytest_runtest_logfinish(self, nodeid: str) -> None:
        """Print the line of a module after its last test."""
        module = _module(nodeid)
        self._left[module] -= 1
        if self._left[module] == 0:
            word = f"{self._failed[module]} FAILED" if self._failed[module] else "ok"
            self._terminal.write_line(
                f"{time.monotonic() - self._began:6.0f} s  {module}: {self._total[module]} tests, "
                f"{self._seconds[module]:.1f} s, {word}"
            )


@pytest.hookimpl(trylast=True)
def pytest_configure(config: pytest.Config) -> None:
    """Print the lines of modules where `./run test` asks for them."""
    is_worker = hasattr(config, "workerinput")
    if os.environ.get("TEST_LINES") == "modules" and not is_worker:
        config.pluginmanager.register(ModuleLines(config))
