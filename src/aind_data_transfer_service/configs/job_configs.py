"""What a user asks for: `BasicUploadJobConfigs`, one asset to upload, and `ModalityConfigs`, one
of its folders.

Both are plain, frozen models. Nothing is filled in from the environment, and importing this module
takes neither a server nor a spreadsheet library, so it is also what a client script uses.

The service hands two of its settings to the models as pydantic's validation context::

    BasicUploadJobConfigs.model_validate_json(
        text, context={"lab_timezone": ZoneInfo("America/Los_Angeles"), "date_order": "MDY"}
    )

With `lab_timezone`, `acq_datetime` is the lab's wall clock without a zone. It has an offset only if
the wall clock shows this time twice; see `configs.datetimes`.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from datetime import datetime
from pathlib import PurePosixPath
from typing import Annotated, Any, ClassVar, Literal, NamedTuple, Self, TypedDict, TypeGuard
from zoneinfo import ZoneInfo

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    ModelWrapValidatorHandler,
    PrivateAttr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import SkipJsonSchema
from pydantic_core import core_schema

from aind_data_transfer_service import plain_text
from aind_data_transfer_service.configs import error_messages, validators, windows_paths
from aind_data_transfer_service.configs.bucket_aliases import bucket_of
from aind_data_transfer_service.configs.datetimes import (
    DateOrder,
    parse_acq_datetime,
    recorded_wall_clock,
)
from aind_data_transfer_service.configs.deprecated_fields import (
    BEHAVIOR_DIR,
    behavior_warnings,
    without_former_fields,
)
from aind_data_transfer_service.configs.vocabulary import Modality, Platform, quoted


def asset_name(platform: str, subject_id: str, acquired: datetime) -> str:
    """Return the name of an asset, by the wall clock of its acquisition time.

    Parameters
    ----------
    platform : str
        Abbreviation of the platform; empty for names without it.
    subject_id : str
        The subject.
    acquired : datetime
        When the acquisition began. Its offset is not part of the name.

    Examples
    --------
    >>> asset_name("behavior", "690165", datetime(2024, 2, 19, 11, 25, 17))
    'behavior_690165_2024-02-19_11-25-17'
    """
    moment = acquired.isoformat("_", "seconds")[:19].replace(":", "-")
    return "_".join(filter(None, (platform, subject_id, moment)))


class ReadingContext(TypedDict, total=False):
    """The settings of the service that bear on how a request is read."""

    lab_timezone: ZoneInfo | None
    date_order: DateOrder
    allowed_buckets: Collection[str]
    """Names and patterns; none where every bucket is."""
    bucket_names: Mapping[str, str]
    """The buckets behind words such as `private`; without it, a word stays as it is."""
    processor_optional: bool
    """Whether `processor_full_name` may be absent."""
    path_mappings: Mapping[str, str] | None
    """Where the cluster has network names and drives of Windows; None where nobody knows."""
    most_errors: int
    """How many errors of one job are kept."""
    names_platform: bool
    """Whether an asset's name begins with the platform, as by default."""
    asset_name: str
    """The asset's name, if the job is recorded under one already."""
    is_recorded: bool
    """Whether the request is recorded: it was accepted before, perhaps by an earlier release, so
    its values are taken as they are."""


class _Rule:
    """Read a field by a rule of ours alone; write it as what it then is."""

    def __init__(
        self,
        rule: Callable[..., Any],
        accepts: Any,
        writes: Any = None,
        *,
        sees_context: bool = False,
    ):
        self.rule, self.accepts, self.writes = rule, accepts, writes
        self.sees_context = sees_context

    def __get_pydantic_core_schema__(
        self, source: Any, handler: GetCoreSchemaHandler
    ) -> core_schema.CoreSchema:
        """Tell pydantic the rule, and for JSON Schema the types that it takes."""
        make = (
            core_schema.with_info_plain_validator_function
            if self.sees_context
            else core_schema.no_info_plain_validator_function
        )
        accepts = handler.generate_schema(self.accepts)
        return make(self.rule, json_schema_input_schema=accepts, serialization=self.writes)


def _read_time(value: object, info: core_schema.ValidationInfo) -> datetime:
    """Read a time by the rules of `configs.datetimes`, with the settings in the context."""
    context: ReadingContext = info.context or ReadingContext()
    if context.get("is_recorded") and (moment := recorded_wall_clock(value)):
        return moment
    return parse_acq_datetime(value, context.get("date_order", "MDY"), context.get("lab_timezone"))


def _is_recorded_text(value: object, info: core_schema.ValidationInfo) -> TypeGuard[str]:
    """Return whether a value is a text of a recorded request, which is not checked again."""
    return (
        info.context is not None
        and bool(info.context.get("is_recorded"))
        and isinstance(value, str)
        and value != ""
    )


def _text_reader(rule: Callable[[object], Any]) -> Callable[..., Any]:
    """Return a rule that checks a text unless it is recorded."""

    def read(value: object, info: core_schema.ValidationInfo) -> Any:
        return value if _is_recorded_text(value, info) else rule(value)

    return read


def _read_bucket(value: object, info: core_schema.ValidationInfo) -> str | None:
    """Read a bucket by its name or by a word; it has to be one of those that are allowed."""
    context: ReadingContext = info.context or ReadingContext()
    written = value if _is_recorded_text(value, info) else validators.bucket(value)
    if written is None:
        return None
    names = context.get("bucket_names")
    bucket = written if names is None else bucket_of(written, names)
    if problem := validators.bucket_problem(bucket, context.get("allowed_buckets")):
        raise ValueError(
            problem if bucket == written else f"{quoted(written)} stands for {bucket}: {problem}"
        )
    return bucket


def _read_processor(value: object, info: core_schema.ValidationInfo) -> str | None:
    """Read the name of a person, which may be absent if the settings say so."""
    context: ReadingContext = info.context or ReadingContext()
    if _is_recorded_text(value, info):
        return value
    if validators.is_left_out(value) and context.get("processor_optional"):
        return None
    if value is None:
        raise ValueError(validators.MISSING)
    return validators.text(value)


def _path_reader(rule: Callable[..., Any]) -> Callable[[object, core_schema.ValidationInfo], Any]:
    """Return a rule that reads a path by the mappings in the context."""

    def read(value: object, info: core_schema.ValidationInfo) -> Any:
        context: ReadingContext = info.context or ReadingContext()
        mappings = context.get("path_mappings")
        if _is_recorded_text(value, info):
            return PurePosixPath(validators.recorded_path(value, mappings))
        return rule(value, mappings)

    return read


def _read_extra_configs(value: object, info: core_schema.ValidationInfo) -> Any:
    """Read extra settings: an object, or the path of a file, read by the mappings."""
    context: ReadingContext = info.context or ReadingContext()
    mappings = context.get("path_mappings")
    if context.get("is_recorded") and isinstance(value, dict):
        return value
    if _is_recorded_text(value, info):
        return validators.recorded_path(value, mappings)
    return validators.extra_configs(value, mappings)


def _compress(value: object, info: core_schema.ValidationInfo) -> bool:
    """Decide by the modality where the user did not."""
    if validators.is_left_out(value):
        modality = info.data.get("modality")
        return modality is not None and modality.abbreviation == "ecephys"
    return validators.flag(value)


Text = Annotated[str, _Rule(_text_reader(validators.text), str, sees_context=True)]
ProcessorName = Annotated[str | None, _Rule(_read_processor, str, sees_context=True)]
OptionalText = Annotated[
    str | None, _Rule(_text_reader(validators.optional_text), str | None, sees_context=True)
]
Path = Annotated[
    PurePosixPath,
    _Rule(
        _path_reader(validators.path), str, core_schema.to_string_ser_schema(), sees_context=True
    ),
]
OptionalPath = Annotated[
    PurePosixPath | None,
    _Rule(
        _path_reader(validators.optional_path),
        str | None,
        core_schema.to_string_ser_schema(),
        sees_context=True,
    ),
]
Flag = Annotated[bool, _Rule(validators.flag, bool)]
Bucket = Annotated[str | None, _Rule(_read_bucket, str | None, sees_context=True)]
SubjectId = Annotated[str, _Rule(_text_reader(validators.subject_id), str | int, sees_context=True)]
AcqDatetime = Annotated[datetime, _Rule(_read_time, datetime, sees_context=True)]
Compression = Annotated[bool, _Rule(_compress, bool | None, sees_context=True)]
Settings = dict[str, Any] | str | None
ExtraConfigs = Annotated[Settings, _Rule(_read_extra_configs, Settings, sees_context=True)]
LogLevel = Annotated[str, _Rule(validators.log_level, Literal[validators.LOG_LEVELS])]


class _Model(BaseModel):
    """What both models share: frozen, no unknown fields, errors in plain words."""

    model_config = ConfigDict(frozen=True, extra="forbid", validate_default=False)

    @model_validator(mode="wrap")
    @classmethod
    def _in_plain_words(
        cls, data: Any, handler: ModelWrapValidatorHandler[Any], info: core_schema.ValidationInfo
    ) -> Any:
        """Say what is wrong in the words of this product rather than in pydantic's."""
        try:
            return handler(data)
        except ValidationError as error:
            context: ReadingContext = info.context or ReadingContext()
            most = context.get("most_errors", error_messages.MOST_JOB_ERRORS)
            raise error_messages.reworded(error, cls.model_fields, most) from error


class ModalityConfigs(_Model):
    """One folder of data of one kind, and what is to be done with it on the way."""

    modality: Modality
    """The kind of data; names the folder in the asset."""
    source: Path
    """The folder of the data, as the machines that run the job see it."""
    compress_raw_data: Compression = Field(default=None, validate_default=True)
    """Whether to compress the data on the way; unless said, yes for ecephys and no for others."""
    extra_configs: ExtraConfigs = None
    """More settings for this kind of data: a JSON object, or the path of a file that holds one."""
    skip_staging: Flag = False
    """Kept for older scripts: data go straight from the source to the destination in any case."""
    number: int = Field(default=0, ge=0, le=validators.MAX_MODALITIES)
    """Which one of its kind in the asset, from 0. The job counts anew, whatever is given."""

    former_field: ClassVar[str] = ""
    """The field of the request that names it, if that is not `modalities`; else empty."""

    @property
    def default_output_folder_name(self) -> str:
        """The folder of these data in the asset: `behavior`, the second of a kind `behavior1`."""
        return f"{self.modality.abbreviation}{self.number or ''}"


class _BehaviorDir(ModalityConfigs):
    """The folder that a client of an earlier release names apart from the modalities."""

    former_field: ClassVar[str] = BEHAVIOR_DIR


class _Notes(NamedTuple):
    """What a job knows besides its fields."""

    names_platform: bool = True
    """Whether the asset's name begins with the platform."""
    asset_name: str = ""
    """The name under which the job is recorded, if it is."""
    warnings: tuple[str, ...] = ()


_NO_NOTES = _Notes()


class BasicUploadJobConfigs(_Model):
    """One asset to upload: whose, of what, recorded when, and where its folders lie."""

    processor_full_name: ProcessorName
    """The person who submits the job; None only if the service does not require a name."""
    project_name: Text
    """The project, as the lab's list of project names has it."""
    process_capsule_id: OptionalText = None
    """Code Ocean capsule or pipeline to run when the data have arrived."""
    s3_bucket: Bucket = None
    """The bucket to upload to; without one, the service's default."""
    platform: Platform
    """The rig or method of the session."""
    behavior_dir: SkipJsonSchema[OptionalPath] = Field(default=None, exclude=True, repr=False)
    """Sent by clients of earlier releases: one more folder, which becomes a modality."""
    modalities: list[ModalityConfigs]
    """The folders to upload, at least one."""
    subject_id: SubjectId
    """The subject's id."""
    acq_datetime: AcqDatetime
    """When the data were acquired: the lab's wall clock, with an offset if a client gave one or if
    the clock shows this time twice."""
    metadata_dir: OptionalPath = None
    """A folder of metadata documents that are there already."""
    metadata_dir_force: Flag = False
    """Whether documents of `metadata_dir` win over those of the metadata service."""
    force_cloud_sync: Flag = False
    """Whether to upload into an asset that exists."""
    dry_run: Flag = False
    """Whether to only tell what would be done."""
    log_level: LogLevel = "INFO"
    """How much the job logs."""
    _notes: _Notes = PrivateAttr(default_factory=lambda: _NO_NOTES)

    @model_validator(mode="wrap")
    @classmethod
    def _without_former_fields(
        cls, data: Any, handler: ModelWrapValidatorHandler[Self], info: core_schema.ValidationInfo
    ) -> Self:
        """Remove fields that only clients of earlier releases send; keep how assets are named."""
        context: ReadingContext = info.context or ReadingContext()
        warnings: list[str] = []
        if isinstance(data, Mapping):
            data, warnings = without_former_fields(data)
            if context.get("processor_optional"):
                data.setdefault("processor_full_name", None)
        config = handler(data)
        if config.behavior_dir is not None:
            warnings = [*config._behavior_warnings(config.behavior_dir), *warnings]
        names_platform, name = context.get("names_platform", True), context.get("asset_name", "")
        if warnings or name or not names_platform:
            notes = config._read_notes()
            config._notes = _Notes(
                names_platform and notes.names_platform,
                name or notes.asset_name,
                tuple(warnings) or notes.warnings,
            )
        return config

    @field_validator("modalities", mode="after")
    @classmethod
    def _number_modalities(
        cls, modalities: list[ModalityConfigs], info: core_schema.ValidationInfo
    ) -> list[ModalityConfigs]:
        """Refuse an empty list, add `behavior_dir`, and number the second and further of a kind."""
        if not modalities:
            raise ValueError("empty; name at least one modality with its source")
        folder = info.data.get(BEHAVIOR_DIR)
        if folder is not None:
            behavior = _BehaviorDir(modality=Modality.parse("behavior"), source=folder)
            listed = ((one.modality, one.source) for one in modalities)
            if (behavior.modality, behavior.source) not in listed:
                modalities = [*modalities, behavior]
        return list(_numbered(modalities))

    def paths(self) -> Iterator[tuple[error_messages.Location, str | PurePosixPath]]:
        """Return every path that the job names, each with its place in the request."""
        for number, modality in enumerate(self.modalities):
            if not modality.former_field:
                yield ("modalities", number, "source"), modality.source
            if isinstance(modality.extra_configs, str):
                yield ("modalities", number, "extra_configs"), modality.extra_configs
        if self.behavior_dir is not None:
            yield (BEHAVIOR_DIR,), self.behavior_dir
        if self.metadata_dir is not None:
            yield ("metadata_dir",), self.metadata_dir

    def _behavior_warnings(self, folder: PurePosixPath) -> Iterable[str]:
        """Say what becomes of `behavior_dir`."""
        listed = [one for one in self.modalities if not one.former_field]
        others = [(one.default_output_folder_name, one.source) for one in listed]
        return behavior_warnings(folder, len(listed) < len(self.modalities), others)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What has no effect, or another one than in earlier releases; each with its field."""
        return self._read_notes().warnings

    @property
    def s3_prefix(self) -> str:
        """The asset's name: `{platform}_{subject_id}_{YYYY-MM-DD}_{HH-MM-SS}`.

        Generation 2 of the metadata schema has names without the platform. A job keeps the name
        under which it is recorded.
        Its time is the wall clock's, without the offset. Two sessions of one platform and subject
        whose names are equal, as in the hour that the clock shows twice, are refused, not merged.
        """
        notes = self._read_notes()
        if notes.asset_name:
            return notes.asset_name
        platform = self.platform.abbreviation if notes.names_platform else ""
        return asset_name(platform, self.subject_id, self.acq_datetime)

    def _read_notes(self) -> _Notes:
        """Return the notes without pydantic's search for a private attribute, which is slow."""
        found: _Notes = (self.__pydantic_private__ or {}).get("_notes", _NO_NOTES)
        return found


def path_warnings(
    config: BasicUploadJobConfigs, given: Mapping[str, Any]
) -> Iterator[tuple[error_messages.Location, str]]:
    """Return a warning for each path of a job that was read as another.

    Parameters
    ----------
    config : BasicUploadJobConfigs
        The job.
    given : Mapping[str, Any]
        The fields from which it was read.
    """
    for location, path in config.paths():
        written = _value_at(given, location)
        if not isinstance(written, str) or written == str(path):
            continue
        written = plain_text.trim(written)
        if windows_paths.is_windows_path(written) and not windows_paths.is_windows_path(str(path)):
            yield location, f"{quoted(written)} was read as {path}"


def _value_at(given: Any, location: error_messages.Location) -> Any:
    """Return what a request has at a place."""
    for step in location:
        given = given[step]
    return given


def _numbered(modalities: Iterable[ModalityConfigs]) -> Iterable[ModalityConfigs]:
    """Give each modality its number among those of its kind."""
    seen: dict[str, int] = {}
    for config in modalities:
        kind = config.modality.abbreviation
        number = seen.get(kind, 0)
        seen[kind] = number + 1
        yield config if config.number == number else config.model_copy(update={"number": number})
