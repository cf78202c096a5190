"""Writing the documents that are composed of lab systems in the generation of the asset."""

from dataclasses import replace

from aind_data_transfer_service.metadata.base import Found
from aind_data_transfer_service.metadata.convert_procedures import procedures_in
from aind_data_transfer_service.metadata.convert_subject import subject_in
from aind_data_transfer_service.metadata.validation import Status, status_of
from aind_data_transfer_service.settings.schema_generation import Generation

_WRITERS = {"subject": subject_in, "procedures": procedures_in}


def in_generation(kind: str, found: Found, generation: Generation) -> Found:
    """Write a draft in a generation of the schema; return any other document unchanged.

    Every value of the draft is in a field of the result or in its notes.

    Parameters
    ----------
    kind : str
        The kind of document.
    found : Found
        What a source returned.
    generation : Generation
        The generation of the asset.

    Raises
    ------
    MetadataError
        If the generation has no such document of this subject.
    """
    if not found.is_draft or generation == Generation.V0 or kind not in _WRITERS:
        return found
    written = replace(_WRITERS[kind](found, generation), is_draft=False)
    return replace(written, valid=status_of(kind, written.document, generation) == Status.VALID)
