"""What a job says of its asset: the facts at its start, the documents at its end."""

import json
from collections.abc import Mapping
from datetime import datetime
from itertools import groupby
from typing import Any
from zoneinfo import ZoneInfo

from aind_data_transfer_service import __version__
from aind_data_transfer_service.configs.job_configs import BasicUploadJobConfigs
from aind_data_transfer_service.errors import MetadataError
from aind_data_transfer_service.metadata.asset_facts import Facts, Process
from aind_data_transfer_service.metadata.documents import (
    COMPOSED,
    Document,
    check_processing,
    invalid_parts,
    processes_of,
    processing,
    record,
)
from aind_data_transfer_service.metadata.schemas import RECORD
from aind_data_transfer_service.metadata.validation import Status, status_of
from aind_data_transfer_service.settings.schema_generation import Generation
from aind_data_transfer_service.storage.base import AssetStore
from aind_data_transfer_service.upload.plan.plan import Compression, Plan

SOFTWARE = "aind-data-transfer-service"
_MOST_NAMED = 100
"""Of how many objects made from the data of an asset `processing.json` has the names."""


def facts_of(
    config: BasicUploadJobConfigs,
    location: str,
    zone: ZoneInfo,
    generation: Generation = Generation.V0,
) -> Facts:
    """Say what the request says of the asset.

    Parameters
    ----------
    config : BasicUploadJobConfigs
        The request.
    location : str
        Where the asset will be.
    zone : ZoneInfo
        The lab's zone, in which times are that name none.
    generation : Generation
        The generation of the schema that the documents follow.
    """
    acquired = config.acq_datetime
    abbreviations = [m.modality.abbreviation for m in config.modalities]
    return Facts(
        asset=config.s3_prefix,
        location=location,
        subject_id=config.subject_id,
        project_name=config.project_name,
        platform=config.platform.abbreviation,
        modalities=list(dict.fromkeys(abbreviations)),
        acquired=acquired if acquired.tzinfo else acquired.replace(tzinfo=zone),
        generation=generation,
    )


def complete(
    config: BasicUploadJobConfigs,
    facts: Facts,
    plan: Plan,
    documents: Mapping[str, Document],
    started: datetime,
    ended: datetime,
) -> dict[str, Document]:
    """Write the documents that tell of this upload, and give all of the asset, by kind.

    Parameters
    ----------
    config : BasicUploadJobConfigs
        The request.
    facts : Facts
        What it says of the asset.
    plan : Plan
        What was sent.
    documents : Mapping[str, Document]
        The other documents, by kind.
    started, ended : datetime
        When the data travelled, in the lab's zone.
    """
    processes = _processes(config, plan, started, ended)
    earlier = documents.get("processing")
    written = processing(processes, config.processor_full_name, earlier, facts.generation)
    everything = {**documents, "processing": written}
    repeated = record(facts, everything, started, ended)
    status = status_of(RECORD, repeated, facts.generation)
    mine = Document(
        RECORD,
        repeated,
        status,
        COMPOSED,
        notes=tuple(invalid_parts(everything)),
        generation=facts.generation,
    )
    return {**everything, RECORD: mine}


def earlier_processing(store: AssetStore, prefix: str, started: datetime) -> Document | None:
    """Find what an asset says of earlier uploads into it, so that a further one goes on from there.

    Parameters
    ----------
    store : AssetStore
        Where the asset is.
    prefix : str
        Its name.
    started : datetime
        When this upload began: what an attempt of its own has written is not taken for earlier.

    Raises
    ------
    MetadataError
        Where the document is none that can be gone on with.
    """
    key = f"{prefix}/processing.json"
    data = store.get(key)
    if data is None:
        return None
    try:
        content = json.loads(data)
    except ValueError as error:
        raise MetadataError(f"{store.location(key)} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise MetadataError(f"{store.location(key)} is no JSON object")
    document = Document("processing", content, Status.UNKNOWN, store.location(key))
    check_processing(document)
    done = processes_of(content) or []
    done[:] = [process for process in done if not _is_of(process, started)]
    return document


def _is_of(process: Any, started: datetime) -> bool:
    """Tell whether a process is that of an upload that began at a moment."""
    return isinstance(process, Mapping) and process.get("start_date_time") == started.isoformat()


def _method(done: Compression) -> tuple[str, str]:
    """Return what is the same for data that are compressed in the same way."""
    return done.notes, json.dumps(done.parameters, sort_keys=True, default=str)


def _processes(
    config: BasicUploadJobConfigs, plan: Plan, started: datetime, ended: datetime
) -> list[Process]:
    """Tell what was done to the data on their way."""
    sources = [str(modality.source) for modality in config.modalities]
    frame = (started, ended, sources, plan.location, __version__)
    done = []
    for (notes, _), alike in groupby(sorted(plan.compressions, key=_method), _method):
        these = list(alike)
        keys = [item.key for one in these for item in one.items]
        outputs: dict[str, Any] = {"archives": keys}
        if len(keys) > _MOST_NAMED:
            outputs = {"objects": len(keys)}
        done.append(Process("Compression", notes, *frame, these[0].parameters, outputs))
    notes = f"Data transfer by {SOFTWARE}"
    options = {"force_cloud_sync": config.force_cloud_sync}
    outputs = {"files": plan.files_total, "bytes": plan.bytes_total}
    done.append(Process("Other", notes, *frame, options, outputs))
    return done
