"""Whether the sources of metadata know the subjects and projects that jobs name."""

from collections.abc import Mapping, Sequence
from typing import Any

from aind_data_transfer_service.concurrency.deadline_pool import Workers
from aind_data_transfer_service.configs.vocabulary import nearest
from aind_data_transfer_service.jobs.validation.results import LATE, CheckResult, ToCheck, said
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.conversion import in_generation
from aind_data_transfer_service.metadata.registry import label_of, open_lab
from aind_data_transfer_service.settings.metadata import Policy
from aind_data_transfer_service.settings.service import ServiceSettings


class Known:
    """Asks the sources that the jobs will ask, by the same choice and policy.

    Parameters
    ----------
    settings : ServiceSettings
        Where to ask, and how patiently.
    """

    def __init__(self, settings: ServiceSettings):
        self._seconds = settings.check_timeout
        self._documents = Workers("check metadata", 8)
        self._lab = open_lab(settings, self._seconds, attempts=1)

    def close(self) -> None:
        """Let go of connections and threads."""
        self._documents.close()
        self._lab.close()

    def subjects(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """See that one of the sources of metadata knows the subjects."""
        result = CheckResult()
        chosen, policy = self._lab.chosen("subject"), self._lab.policy("subject")
        if not chosen or policy == Policy.IGNORE:
            return result
        ids = dict.fromkeys(job.config.subject_id for job in jobs)
        answers = self._documents.ask(
            lambda asked: self._subject(*asked),
            [(name, subject_id) for name in chosen for subject_id in ids],
            self._seconds,
        )
        for job in jobs:
            subject_id = job.config.subject_id
            place = f"{job.label}, subject_id"
            of_sources = {name: answers.get((name, subject_id), LATE) for name in chosen}
            failed = _failures(of_sources)
            if any(n not in failed and a is not None for n, a in of_sources.items()):
                continue
            unknown = f'{place}: {_knows_none(chosen)} subject "{subject_id}"'
            if failed:
                why = "; ".join(failed.values())
                result.warnings[job.label].append(f"{place}: could not be checked: {why}")
            elif job.config.metadata_dir is None and policy == Policy.REQUIRE:
                result.errors[job.label].append(unknown)
            elif policy == Policy.REQUIRE:
                result.warnings[job.label].append(
                    f"{unknown}; the job fails unless {job.config.metadata_dir} holds a "
                    "subject.json"
                )
            else:
                result.warnings[job.label].append(unknown)
        return result

    def _subject(self, name: str, subject_id: str) -> Found | None:
        """Ask a source for a subject, and see that its document exists in the generation."""
        found = self._lab.ask(name, "subject", subject_id)
        return in_generation("subject", found, self._lab.generation) if found else None

    def projects(self, jobs: Sequence[ToCheck]) -> CheckResult:
        """See that one of the sources of metadata lists the projects."""
        result = CheckResult()
        chosen = self._lab.chosen("project_names")
        answers = self._documents.ask(
            lambda name: self._lab.ask(name, "project_names"), chosen, self._seconds
        )
        told: dict[str, Any] = {name: answers.get(name, LATE) for name in chosen}
        failed = _failures(told)
        lists = [told[name] for name in chosen if name not in failed and told[name]]
        if not lists and "service" in chosen:
            failed.setdefault("service", f"{label_of('service')} lists none")
        for job in jobs:
            place = f"{job.label}, project_name"
            if lists:
                problem = _no_project(job.config.project_name, lists[0])
                if problem:
                    result.errors[job.label].append(f"{place}: {problem}")
            elif failed:
                why = "; ".join(failed.values())
                result.warnings[job.label].append(f"{place}: could not be checked: {why}")
        return result


def _failures(answers: Mapping[str, object]) -> dict[str, str]:
    """Say which sources of metadata did not answer, and why."""
    failed = {}
    for name, answer in answers.items():
        if answer is LATE:
            failed[name] = f"{label_of(name)} {LATE}"
        elif isinstance(answer, Exception):
            failed[name] = said(answer)
    return failed


def _knows_none(sources: Sequence[str]) -> str:
    """Say that sources know none of something."""
    verb = "knows no" if len(sources) == 1 else "know no"
    return f"{' and '.join(label_of(name) for name in sources)} {verb}"


def _no_project(name: str, known: Sequence[str]) -> str:
    """Say that there is no project of a name; empty where there is."""
    if name in known:
        return ""
    near = nearest(name, known)
    hint = f'did you mean "{near}"?' if near else "see the list of project names"
    return f'"{name}" is no project; {hint}'
