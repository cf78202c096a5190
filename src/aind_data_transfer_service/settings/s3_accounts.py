"""Accounts of S3 by name: which keys belong to which buckets.

The setting holds secrets, so no message shows a value of it: only names of accounts and keys.
"""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Annotated, Any

from pydantic import BeforeValidator, Secret, SecretStr

from aind_data_transfer_service import redaction
from aind_data_transfer_service.configs.vocabulary import limited_hints, nearest, quoted
from aind_data_transfer_service.settings.json_objects import refuse
from aind_data_transfer_service.settings.slurm import HpcSettings
from aind_data_transfer_service.settings.types import can_match_bucket

_PAIR = ("aws_access_key_id", "aws_secret_access_key")
_KEYS = ("buckets", *_PAIR, "aws_session_token", "aws_default_region")
_PUBLIC = frozenset({"buckets", "aws_access_key_id", "aws_default_region"})
"""What is not searched for in text: it names things, and opens nothing."""
_EXAMPLE = '{"open-data": {"buckets": ["open-*"], "aws_access_key_id": "…", …}}'
_CREDENTIAL = re.compile(r"[!-~]+")
"""What can be sent in a header: ASCII without blanks."""
_REGION = re.compile(r"[a-z0-9-]+")
_MOST_PROBLEMS = 100
"""How many problems are listed."""


@dataclass(frozen=True)
class S3Account:
    """The keys of one account, and the buckets that they are for."""

    name: str
    buckets: frozenset[str]
    """Names of buckets, and patterns such as `open-*`."""
    aws_access_key_id: str
    aws_secret_access_key: SecretStr
    aws_session_token: SecretStr | None = None
    aws_default_region: str | None = None

    @property
    def secrets(self) -> list[str]:
        """Return what nobody else may see."""
        found = (self.aws_secret_access_key, self.aws_session_token)
        return [secret.get_secret_value() for secret in found if secret is not None]

    def in_place_of(self, hpc: HpcSettings) -> HpcSettings:
        """Return the cluster's settings with the keys of this account.

        Parameters
        ----------
        hpc : HpcSettings
            The cluster's settings. Their region counts if the account names none.
        """
        return hpc.model_copy(
            update={
                "aws_access_key_id": self.aws_access_key_id,
                "aws_secret_access_key": self.aws_secret_access_key,
                "aws_session_token": self.aws_session_token,
                "aws_default_region": self.aws_default_region or hpc.aws_default_region,
            }
        )


def account_of(bucket: str, accounts: Sequence[S3Account]) -> S3Account | None:
    """Return the account that a bucket belongs to, if any.

    Parameters
    ----------
    bucket : str
        The name of the bucket.
    accounts : Sequence[S3Account]
        All accounts. One that names the bucket wins over one with a pattern; of several patterns,
        that of the first account counts.
    """
    if not bucket:  # of a job that writes to none
        return None
    for account in accounts:
        if bucket in account.buckets:
            return account
    for account in accounts:
        if any(fnmatchcase(bucket, pattern) for pattern in account.buckets):
            return account
    return None


class _Object(list[tuple[str, Any]]):
    """The pairs of a JSON object, with the names that are repeated."""


def _read_accounts(value: Any) -> Any:
    """Read accounts from JSON; raise an error with everything that is wrong with them."""
    if isinstance(value, Secret):  # what was read before
        return value
    if not isinstance(value, str):  # an error of pydantic's own would show it
        raise ValueError(f"not a text; write {_EXAMPLE}")
    try:
        document = json.loads(value, object_pairs_hook=_Object)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    except json.JSONDecodeError as error:
        place = f"line {error.lineno}, column {error.colno}"
        raise ValueError(f"not valid JSON ({place}); write {_EXAMPLE}") from None
    except ValueError:  # an integer with thousands of digits
        raise ValueError(f"a number is too long; write {_EXAMPLE}") from None
    redaction.learn(*_secrets(document))
    if not isinstance(document, _Object):
        raise ValueError(f"not a JSON object of accounts by name; write {_EXAMPLE}")
    with limited_hints(_MOST_PROBLEMS):
        refuse([*_problems(document), *_shared_buckets(document)], _MOST_PROBLEMS)
    return tuple(_account(name, content) for name, content in document)


S3Accounts = Annotated[Secret[tuple[S3Account, ...]], BeforeValidator(_read_accounts)]
"""All accounts, in the order in which they are written."""


def _secrets(document: Any) -> Iterator[str]:
    """Yield every text that may be a secret, wherever it was written."""
    left = [("", document)]
    while left:
        key, value = left.pop()
        if isinstance(value, _Object):
            left += [(name.lower(), one) for name, one in value]
        elif isinstance(value, list):
            left += [(key, one) for one in value]
        elif isinstance(value, str) and key not in _PUBLIC:
            yield value


def _problems(document: _Object) -> Iterator[str]:
    """Yield what is wrong with each account by itself."""
    for name, content in document:
        account = f"account {_name(name)}"
        if not name.strip():
            yield "an account has an empty name"
        if not isinstance(content, _Object):
            yield f"{account}: not an object with the keys {', '.join(_KEYS)}"
            continue
        yield from (f"{account}: {problem}" for problem in _problems_of_account(content))
    for name in _repeated(name for name, _ in document):
        yield f"account {_name(name)}: defined twice"


def _problems_of_account(content: _Object) -> Iterator[str]:
    """Yield what is wrong with the keys of one account."""
    names = [name.lower() for name, _ in content]
    for name in _repeated(names):
        yield f"{_name(name)}: set twice"
    for name in names:
        if name not in _KEYS:
            near = nearest(name, _KEYS)
            hint = f"did you mean {near}?" if near else f"the keys are {', '.join(_KEYS)}"
            yield f"{_name(name)}: unknown key; {hint}"
    values = _set_values(content)
    for name in ("buckets", *_PAIR):
        if name not in values:
            is_half = name in _PAIR and any(other in values for other in _PAIR)
            yield f"{name}: missing{f'; set both {_PAIR[0]} and {_PAIR[1]}' if is_half else ''}"
    for name, value in values.items():
        if name == "buckets":
            yield from _problems_of_buckets(value)
        elif name in _KEYS and not isinstance(value, str):
            yield f"{name}: not a text"
        elif name == "aws_default_region" and not _REGION.fullmatch(value):
            yield f"{name}: not a region; write a name such as us-west-2"
        elif name in _KEYS and not _CREDENTIAL.fullmatch(value):
            yield f"{name}: contains a blank, a control character or one outside ASCII"


def _problems_of_buckets(value: Any) -> Iterator[str]:
    """Yield what is wrong with the list of buckets; an item is named by its place."""
    if isinstance(value, _Object) or not isinstance(value, list):
        yield 'buckets: not a list of texts; write ["lab-data", "open-*"]'
        return
    if not value:
        yield "buckets: names no bucket"
    seen: set[str] = set()
    for place, pattern in enumerate(value, 1):
        if not isinstance(pattern, str):
            yield f"buckets: item {place} is not a text"
            continue
        if not can_match_bucket(pattern):
            yield (
                f"buckets: item {place} matches no bucket; write names or patterns of 3 to 63 "
                "lower-case letters, digits, - and ., with * or ?"
            )
        elif pattern in seen:
            yield f"buckets: item {place} repeats an earlier one"
        seen.add(pattern)


def _shared_buckets(document: _Object) -> Iterator[str]:
    """Yield which accounts name the same bucket or pattern."""
    owners: dict[str, str] = {}
    for name, content in document:
        buckets = _set_values(content).get("buckets") if isinstance(content, _Object) else None
        for place, pattern in enumerate(buckets if isinstance(buckets, list) else (), 1):
            if not isinstance(pattern, str):
                continue
            owner = owners.setdefault(pattern, name)
            if owner != name:
                yield (
                    f"account {_name(name)}: buckets: item {place} belongs to account "
                    f"{_name(owner)} too; name each bucket and each pattern once"
                )


def _set_values(content: _Object) -> dict[str, Any]:
    """Return the values by key; an empty text counts as not set, as a variable does."""
    return {name.lower(): value for name, value in content if value not in ("", None)}


def _account(name: str, content: _Object) -> S3Account:
    """Make an account of what was checked."""
    values = _set_values(content)
    token = values.get("aws_session_token")
    return S3Account(
        name=name,
        buckets=frozenset(values["buckets"]),
        aws_access_key_id=values["aws_access_key_id"],
        aws_secret_access_key=SecretStr(values["aws_secret_access_key"]),
        aws_session_token=SecretStr(token) if token else None,
        aws_default_region=values.get("aws_default_region"),
    )


def _repeated(names: Iterable[str]) -> list[str]:
    """Return the names that are there more than once."""
    seen: set[str] = set()
    found: dict[str, None] = {}
    for name in names:
        if name in seen:
            found[name] = None
        seen.add(name)
    return list(found)


def _name(text: str) -> str:
    """Quote a name for a message; a secret in its place is hidden before it is cut to size."""
    return quoted(redaction.redact(text))
