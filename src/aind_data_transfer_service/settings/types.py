"""What a variable of the environment can be: paths, addresses, names, each checked."""

import errno
import json
import os
import re
import stat
import string
import tempfile
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path, PurePosixPath
from typing import Annotated, Any, Literal
from urllib.parse import unquote, urlsplit
from zoneinfo import ZoneInfo

from pydantic import AfterValidator, BeforeValidator

from aind_data_transfer_service.configs import validators
from aind_data_transfer_service.configs.units import byte_count, bytes_per_second
from aind_data_transfer_service.network.host_names import parse_pattern

_BUCKET_PATTERN = re.compile(r"[a-z0-9._*?!\[\]-]+")
_PATTERN_TOKEN = re.compile(r"\*|\?|\[!?\]?[^\]]*\]|.")
"""What `fnmatch` matches with one character, and `*`."""
_BUCKET_ENDS = frozenset(string.ascii_lowercase + string.digits)
_BUCKET_SIGNS = _BUCKET_ENDS | frozenset("._-")
_SHORTEST_BUCKET, _LONGEST_BUCKET = 3, 63
"""S3's limits of the name of a bucket, in characters."""


def _split_paths(value: Any) -> Any:
    """Take folders as the shell writes them, separated by `:`, or as a JSON list."""
    if not isinstance(value, str):
        return value
    if value.lstrip().startswith("["):
        try:
            return json.loads(value)
        except RecursionError:
            raise ValueError("is nested too deeply; write a list of folders") from None
    folders = [part for part in value.split(os.pathsep) if part.strip()]
    if not folders:
        raise ValueError("names no folder; leave it out, or write one such as /shared_drive")
    return folders


def joined_paths(paths: Sequence[Path]) -> str:
    """Write folders so that `_split_paths` reads them."""
    names = [str(path) for path in paths]
    is_plain = not any(os.pathsep in name or name.startswith("[") for name in names)
    return os.pathsep.join(names) if is_plain else json.dumps(names)


def _known_zone(value: str) -> str:
    """Refuse a time zone that the zone database does not have."""
    try:
        ZoneInfo(value)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(
            f'"{value}" is not a time zone; write a name such as America/Los_Angeles'
        ) from error
    return value


def _valid_destination(value: str) -> str:
    """Take `s3://`, a `file://` address or an absolute folder; refuse anything else."""
    if value.rstrip("/") == "s3:" or value == "s3":
        return "s3://"
    if value.startswith("file://"):
        value = unquote(urlsplit(value).path)
    if not Path(value).is_absolute():
        raise ValueError(
            f'"{value}" is no destination; write s3:// (each job names its bucket) '
            "or an absolute folder"
        )
    return value


def _absolute_folders(value: list[Path]) -> list[Path]:
    """Refuse folders whose meaning depends on where the process stands."""
    for folder in value:
        if not folder.is_absolute():
            raise ValueError(f'"{folder}" is no absolute path; write one such as /shared_drive')
    return value


def _web_address(value: str) -> str:
    """Refuse an address at which no web server can answer."""
    try:
        parts = urlsplit(value)
        is_right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_right = False
    if not is_right:
        shown = value.rpartition("@")[2]  # without a password
        raise ValueError(f'"{shown}" is no web address; write one such as http://host:8000')
    return value


def _host(value: str) -> str:
    """Refuse what names more than a host: an instance, a port, an address of the web."""
    value = value.strip()
    if any(sign in value for sign in "\\,/;@ ") or not value.isprintable():
        raise ValueError(
            "write the name of the host alone, such as server.example.org; the port (an "
            "instance has one of its own) goes into the variable of that name"
        )
    return value


def bucket_name(value: str) -> str:
    """Refuse what cannot be the name of a bucket."""
    return validators.bucket(value) or ""


def _split_names(value: Any) -> Any:
    """Take names that are separated by commas."""
    if isinstance(value, str):
        return frozenset(part.strip() for part in value.split(",") if part.strip())
    return value


def _host_patterns(value: frozenset[str]) -> frozenset[str]:
    """Bring names of hosts and patterns into the form in which they are compared."""
    return frozenset(map(parse_pattern, value))


def _root_path(value: str) -> str:
    """Take the path prefix of a proxy, with or without a slash at its end."""
    path = value.strip().rstrip("/")
    if path and not re.fullmatch(r"(/[A-Za-z0-9._~-]+)+", path) or "/." in path:
        raise ValueError(f'"{value}" is not a path prefix; write one such as /transfer')
    return path


def _split_patterns(value: Any) -> Any:
    """Take patterns that are separated by commas; a text must name one."""
    found = _split_names(value)
    if isinstance(value, str) and not found:
        raise ValueError("names no bucket; leave it out, or write names or patterns such as lab-*")
    return found


def can_match_bucket(pattern: str) -> bool:
    """Return whether there can be a bucket that a name or pattern of `fnmatch` matches.

    Parameters
    ----------
    pattern : str
        A name, or a pattern such as `open-*`.

    Examples
    --------
    >>> [can_match_bucket(one) for one in ("open-*", "lab[0-9]x", "Lab-*", "a", "s3://x")]
    [True, True, False, False, False]
    """
    if not _BUCKET_PATTERN.fullmatch(pattern):
        return False
    tokens = _PATTERN_TOKEN.findall(pattern)
    fixed = len(tokens) - tokens.count("*")
    if fixed > _LONGEST_BUCKET or fixed == len(tokens) < _SHORTEST_BUCKET or ".." in pattern:
        return False
    ends_match = all(_matches_one_of(_BUCKET_ENDS, token) for token in (tokens[0], tokens[-1]))
    return ends_match and all(_matches_one_of(_BUCKET_SIGNS, token) for token in set(tokens))


def _matches_one_of(signs: Iterable[str], token: str) -> bool:
    """Return whether a piece of a pattern matches any of the characters."""
    return any(fnmatchcase(sign, token) for sign in signs)


def _bucket_patterns(value: frozenset[str]) -> frozenset[str]:
    """Refuse what no name of a bucket can match."""
    for pattern in sorted(value):
        if not can_match_bucket(pattern):
            raise ValueError(
                f'"{pattern}" is neither a bucket nor a pattern of buckets; write names or '
                "patterns such as lab-*,aind-open-data"
            )
    return value


def _node_counts(value: Any) -> Any:
    """Take `2`, `1-4` or `[1,4]`: how many nodes, or the least and the most."""
    if isinstance(value, str):
        text = value.strip()
        try:
            value = json.loads(text if "-" not in text else f"[{text.replace('-', ',')}]")
        except (ValueError, RecursionError):
            value = None
    counts = [value, value] if isinstance(value, int) else value
    if isinstance(counts, list | tuple) and len(counts) == 2:
        least, most = counts
        if isinstance(least, int) and isinstance(most, int) and 1 <= least <= most:
            return (least, most)
    raise ValueError("write how many nodes, as 1, or the least and the most, as [1,2]")


def _node_path(value: PurePosixPath) -> PurePosixPath:
    """Refuse a path that is not absolute, or that Slurm or a container would take apart."""
    text = str(value)
    if not value.is_absolute() or not text.isprintable() or any(sign in text for sign in "\\:,"):
        raise ValueError(f"write an absolute path on the nodes, without : , or \\, not {text!r}")
    return value


def _shard_number(value: Any) -> Any:
    """Take `3/8`: the third of eight shards."""
    if isinstance(value, str):
        first, slash, last = value.partition("/")
        value = (first, last) if slash else None
    try:
        number, of = (int(part) for part in value)
    except (TypeError, ValueError):
        number = of = 0
    if not 1 <= number <= of:
        raise ValueError("write which shard of how many, as 3/8")
    return (number, of)


def _byte_count(value: Any) -> Any:
    """Take a size with its unit."""
    return byte_count(value) if isinstance(value, str) else value


def _byte_rate(value: Any) -> Any:
    """Take a rate with its unit."""
    return bytes_per_second(value) if isinstance(value, str) else value


def _lower_case(value: Any) -> Any:
    """Take a word in any case."""
    return value.strip().lower() if isinstance(value, str) else value


def home_expanded(path: Path) -> Path:
    """Expand the `~` of a path; one of a user who does not exist is part of the name."""
    try:
        return path.expanduser()
    except RuntimeError:
        return path


def refuse_special_file(path: Path) -> None:
    """Raise an error for what is not a regular file: reading a pipe could block for ever.

    Raises
    ------
    OSError
        If it is none, or does not exist.
    """
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file")


def sqlite_files(url: str) -> list[Path]:
    """Return the files of an SQLite database; none of an address of another kind."""
    scheme, _, rest = url.partition("://")
    if not scheme.startswith("sqlite"):
        return []
    database = rest.partition("/")[2].partition("?")[0]
    paths = {database, unquote(database).removeprefix("file:").removeprefix("//localhost")}
    endings = ("", "-wal", "-shm", "-journal")
    return [Path(f"{path}{ending}") for path in sorted(paths) if path for ending in endings]


def default_data_dir() -> Path:
    """Keep state in the user's own folder, where there is one."""
    try:
        return Path.home() / ".aind-data-transfer-service"
    except RuntimeError:
        return Path(tempfile.gettempdir()) / "aind-data-transfer-service"


ZoneName = Annotated[str, AfterValidator(_known_zone)]
Destination = Annotated[str, AfterValidator(_valid_destination)]
Folders = Annotated[list[Path], BeforeValidator(_split_paths), AfterValidator(_absolute_folders)]
HostName = Annotated[str, AfterValidator(_host)]
LogForm = Annotated[Literal["text", "json"], BeforeValidator(_lower_case)]
BrokenLinks = Annotated[Literal["fail", "warn"], BeforeValidator(_lower_case)]
LogLevel = Annotated[str, AfterValidator(validators.log_level)]
WebAddress = Annotated[str, AfterValidator(_web_address)]
BucketName = Annotated[str, AfterValidator(bucket_name)]
BucketPatterns = Annotated[
    frozenset[str], BeforeValidator(_split_patterns), AfterValidator(_bucket_patterns)
]
Names = Annotated[frozenset[str], BeforeValidator(_split_names)]
HostPatterns = Annotated[Names, AfterValidator(_host_patterns)]
RootPath = Annotated[str, AfterValidator(_root_path)]
NodeCounts = Annotated[tuple[int, int], BeforeValidator(_node_counts)]
NodePath = Annotated[PurePosixPath, AfterValidator(_node_path)]
NodePaths = Annotated[list[NodePath], BeforeValidator(_split_paths)]
ShardNumber = Annotated[tuple[int, int], BeforeValidator(_shard_number)]
ByteCount = Annotated[int, BeforeValidator(_byte_count)]
ByteRate = Annotated[float, BeforeValidator(_byte_rate)]
