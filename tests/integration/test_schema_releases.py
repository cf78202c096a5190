"""What is composed for an asset, judged by the models of aind-data-schema itself."""

import json
import re
import unittest
from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from aind_data_transfer_service.configs.vocabulary import Modality, Platform
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata import schemas
from aind_data_transfer_service.metadata.asset_facts import Facts, Process
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.conversion import in_generation
from aind_data_transfer_service.metadata.documents import (
    Document,
    Status,
    data_description,
    processing,
    record,
)
from aind_data_transfer_service.metadata.schemas import read_terms
from aind_data_transfer_service.metadata.terms import missing_terms
from aind_data_transfer_service.metadata.validation import status_of
from aind_data_transfer_service.settings.schema_generation import Generation
from tests.support import lab_documents, slow
from tests.support.schema_changes import changes
from tests.support.schema_releases import ask
from tests.unit.metadata.test_validation import sample

MOMENT = datetime(2024, 2, 19, 19, 25, 17, tzinfo=UTC)
FUNDING = [
    {"funder": "Allen Institute", "grant_number": "R01", "investigators": "Bo Bee, Cy Cee"},
    {"funder": {"name": "Simons Foundation"}, "fundee": "Di Dee"},
]
Labelled = tuple[str, str, Any]
"""What a document is of, its kind and its content."""


def facts_of(generation: Generation, modality: str, platform: str) -> Facts:
    """Describe an asset of one modality."""
    name = "690165_2024-02-19_19-25-17"
    asset = name if generation == Generation.V2 else f"{platform}_{name}"
    return Facts(
        asset=asset,
        generation=generation,
        location=f"s3://bucket/{asset}",
        subject_id="690165",
        project_name="Ephys Platform",
        platform=platform,
        modalities=[modality],
        acquired=MOMENT,
    )


class SchemaReleases:
    """What holds for each generation; a class of tests says which."""

    generation: Generation
    of_others = re.compile("(?!)")
    """What the models say of documents that other people have to bring."""
    changed: tuple[tuple[str, str, dict[str, Any], bool], ...] = ()
    """Documents of the demo with a value replaced, and whether each is valid."""

    @classmethod
    def setUpClass(cls) -> None:
        """Ask the release once: importing it takes seconds."""
        cls.documents = cls.everything()
        given = [(kind, content) for _, kind, content in cls.documents]
        given += [(kind, content) for kind, _, content, _ in cls.changed]
        pairs = [(one.abbreviation, "behavior") for one in Modality.known()]
        pairs += [("behavior", one.abbreviation) for one in Platform.known()]
        cls.described = [cls.describe(*pair) for pair in pairs]
        cls.of_lab = cls.converted()
        given += [(kind, found.document) for _, kind, found in cls.of_lab]
        given += [("data_description", content) for _, content, _ in cls.described]
        cls.answer = ask(cls.generation, given)

    @classmethod
    def converted(cls) -> list[tuple[str, str, Found]]:
        """Compose documents of lab systems, except those that the generation does not have."""
        drafts = [(name, "procedures", found) for name, found in lab_documents.drafts()]
        drafts += [(name, "subject", found) for name, found in lab_documents.subjects()]
        written = []
        for name, kind, found in drafts:
            try:
                written.append((name, kind, in_generation(kind, found, cls.generation)))
            except MetadataError:
                continue
        return written

    @classmethod
    def describe(cls, modality: str, platform: str) -> tuple[str, Mapping[str, Any], bool]:
        """Describe an asset of terms that the generation may lack; true if it has both."""
        facts = facts_of(cls.generation, modality, platform)
        content = data_description(facts, FUNDING, "NYU").content
        missing = missing_terms(cls.generation, platform, [modality])
        return f"{modality} by {platform}", content, not missing

    @classmethod
    def composed(cls, modality: str, platform: str) -> Iterator[Labelled]:
        """Compose the documents of an asset, with and without a metadata service."""
        facts = facts_of(cls.generation, modality, platform)
        label = f"{modality} by {platform}"
        described = data_description(facts, FUNDING, "NYU", "Allen Institute")
        later = MOMENT + timedelta(hours=1)
        frame = (MOMENT, later, ["/drive/a", "/drive/b"], facts.location, "1.2.3")
        first = Process("Compression", "zipped", *frame, {"format": "zip"}, {"archives": ["a"]})
        second = Process("Other", "Data transfer", *frame, {"force_cloud_sync": False}, {})
        done = processing([first, second], "Anna Apple", None, cls.generation)
        later_one = replace(second, started=later)
        again = processing([later_one], "Anna Apple", done, cls.generation)
        yield label, "data_description", described.content
        yield label, "processing", done.content
        yield f"{label}, again", "processing", again.content
        mine = {"data_description": described, "processing": again}
        for name, others in (("alone", {}), ("described", cls.others())):
            repeated = record(facts, {**others, **mine}, MOMENT, later)
            yield f"{label}, {name}", "metadata", json.loads(json.dumps(repeated))
        for document in (described, done):
            if document.status != Status.VALID:
                raise AssertionError(f"{label}: {document.file_name}: {document.problems}")

    @classmethod
    def others(cls) -> dict[str, Document]:
        """Return documents of other people."""
        kinds = ("subject", "procedures")  # those that both first generations understand
        return {kind: Document(kind, sample(kind), Status.VALID, "demo") for kind in kinds}

    @classmethod
    def everything(cls) -> list[Labelled]:
        """Compose an asset of each modality and of each platform."""
        modalities, platforms = (
            [term["abbreviation"] for term in read_terms(cls.generation)[name]]
            for name in ("modalities", "platforms")
        )
        platforms = platforms or ["behavior"]
        pairs = [(modality, platforms[0]) for modality in modalities]
        pairs += [(modalities[0], platform) for platform in platforms]
        return [one for pair in pairs for one in cls.composed(*pair)]

    @slow
    def test_the_models_accept_what_is_composed_for_each_modality_and_platform(self) -> None:
        documents, answers = self.documents, self.answer.problems
        wrong = [
            (label, kind, lines)
            for (label, kind, _), said in zip(documents, answers)
            if (lines := [line for line in said if not self.of_others.search(line)])
        ]
        self.assertEqual([], wrong)

    @slow
    def test_the_models_accept_those_terms_of_all_generations_that_are_not_reported(self) -> None:
        answers = self.answer.problems[-len(self.described) :]
        for (label, _, is_valid), problems in zip(self.described, answers, strict=True):
            with self.subTest(label):
                self.assertEqual(is_valid, not problems, problems)

    @slow
    def test_the_models_accept_what_is_composed_of_lab_systems(self) -> None:
        first = len(self.documents) + len(self.changed)
        answers = self.answer.problems[first : first + len(self.of_lab)]
        for (name, kind, found), problems in zip(self.of_lab, answers, strict=True):
            with self.subTest(name, kind=kind):
                status = status_of(kind, found.document, self.generation)
                self.assertEqual(status != Status.VALID, bool(problems), problems)
                if kind == "procedures" and self.generation != Generation.V0:
                    self.assertEqual([], problems)
                elif found.valid:
                    self.assertEqual([], problems)

    @slow
    def test_the_schemas_that_are_shipped_are_those_of_the_release(self) -> None:
        folder = Path(schemas.__file__).parent
        for name, text in self.answer.files.items():
            with self.subTest(name):
                self.assertEqual(text, (folder / name).read_text(encoding="utf-8"))


class TestGeneration0(SchemaReleases, unittest.TestCase):
    """aind-data-schema 0.34.4."""

    generation = Generation.V0
    changed = tuple(changes())

    @slow
    def test_the_models_judge_changes_of_values_as_the_fast_tests_expect(self) -> None:
        first = len(self.documents)
        answers = self.answer.problems[first : first + len(self.changed)]
        for (_, change, _, is_valid), problems in zip(self.changed, answers, strict=True):
            with self.subTest(change):
                self.assertEqual(is_valid, not problems, problems)


class TestGeneration1(SchemaReleases, unittest.TestCase):
    """aind-data-schema 1.4.0, which wants certain documents of each modality."""

    generation = Generation.V1
    of_others = re.compile(r"metadata (missing required|includes excluded) file: \w+")


class TestGeneration2(SchemaReleases, unittest.TestCase):
    """aind-data-schema 2.9.2, in which there are neither platforms nor rigs and sessions."""

    generation = Generation.V2

    @classmethod
    def others(cls) -> dict[str, Document]:
        """Return a document of other people."""
        content = {"metrics": [], "default_grouping": []}
        return {"quality_control": Document("quality_control", content, Status.VALID, "demo")}


if __name__ == "__main__":
    unittest.main()
