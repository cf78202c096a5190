"""The subject and the procedures that sources know, in the generation of an asset."""

from collections.abc import Sequence
from dataclasses import replace

from aind_data_transfer_service.concurrency.deadline_gather import Answer
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.conversion import in_generation
from aind_data_transfer_service.metadata.sources.labtracks.procedures import without_repeats
from aind_data_transfer_service.settings.schema_generation import Generation


def procedures_of(answers: Sequence[Answer], generation: Generation = Generation.V0) -> list[Found]:
    """Return the procedures that sources know, without tasks of LabTracks that another has.

    Parameters
    ----------
    answers : Sequence of Answer
        The answers of those that know procedures.
    generation : Generation
        The generation of the schema in which those are written that are composed here.
    """
    found = []
    for answer in answers:
        others = [other.value for other in answers if other is not answer]
        repeats = answer.source == "labtracks" and others
        found.append(without_repeats(answer.value, others) if repeats else answer.value)
    return [in_generation("procedures", one, generation) for one in found]


def subject_of(answer: Answer, generation: Generation) -> Answer:
    """Return an answer with its subject in a generation; with the problem if there is no such."""
    if not isinstance(answer.value, Found):
        return answer
    try:
        return replace(answer, value=in_generation("subject", answer.value, generation))
    except MetadataError as error:
        return replace(answer, value=None, problem=str(error))
