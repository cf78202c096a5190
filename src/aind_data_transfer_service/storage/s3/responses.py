"""What a server that speaks S3 answers, read: lists, identifiers, ETags, and errors in disguise."""

import re
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Generic, TypeVar
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from aind_data_transfer_service.redaction import redact
from aind_data_transfer_service.storage.model import StoredObject
from aind_data_transfer_service.storage.s3.http_response import Reply
from aind_data_transfer_service.storage.s3.retry import Fault, Kind, judge

T = TypeVar("T")
Decode = Callable[[str], str]
"""Decodes a key of a list."""

_REDIRECTING = frozenset((301, 302, 307, 400, 403))
"""The statuses of refusals with which S3 names the bucket's region."""
_REGION = re.compile(rb"<Region>([a-z0-9-]+)</Region>")
_WORDS = 200
"""Bytes of a refusal in other words than S3's that are told."""
_BEFORE_XML = re.compile(rb"(?:\s|\xef\xbb\xbf|<!--.*?-->)*", re.DOTALL)
"""What XML may not begin with before its declaration, and servers send nevertheless: white space
keeps a connection alive while they work."""
_FIRST_BYTE = re.compile(r"bytes (\d+)-")
_NEVER_ENCODED = re.compile(r"[^!-~\n]|%(?![0-9A-Fa-f]{2})")
_ROWS = frozenset(("Contents", "CommonPrefixes", "Part", "Upload"))
_MARKERS = {
    "continuation-token": "NextContinuationToken",
    "part-number-marker": "NextPartNumberMarker",
    "key-marker": "NextKeyMarker",
    "upload-id-marker": "NextUploadIdMarker",
}


@dataclass(frozen=True, slots=True)
class ListPage(Generic[T]):
    """One page of a list."""

    items: list[T]
    next: dict[str, str] | None
    """Query parameters that ask for the next page; None for the last page."""
    identity: int | None
    """A number that pages with the same first and last entry share; None for an empty page."""


def read_xml(reply: Reply) -> ElementTree.Element:
    """Read a reply that has to be XML; one that tells of an error is a fault in spite of its 200.

    Such come for requests that take long: "Complete multipart upload" in the API reference. What it
    is, only its code tells.
    """
    found = _parsed(reply.body)
    if reply.is_cut:
        raise _too_long(reply)
    if found is None:
        raise Fault(Kind.PASSING, "the reply makes no sense: it is not complete XML")
    if found.tag == "Error":
        code = text_of(found, "Code")
        raise Fault(
            judge(200 if code else 500, code), f"{code}: {text_of(found, 'Message')}", 500, code
        )
    return found


def read_body(reply: Reply) -> bytes:
    """Read an object that was asked for whole."""
    if reply.is_cut:
        raise _too_long(reply)
    return reply.body


def read_range(start: int, reply: Reply) -> tuple[bool, bytes]:
    """Read a piece of an object.

    Parameters
    ----------
    start : int
        The first byte that was asked for.
    reply : Reply
        The response.

    Returns
    -------
    tuple[bool, bytes]
        Whether it is the piece, and the bytes; else they are the object from its start.
    """
    said = reply.headers.get("content-range", "")
    if reply.status != 206 and not said:
        return False, reply.body
    if reply.is_cut:
        raise _too_long(reply)
    first = _FIRST_BYTE.match(said)
    if first and int(first[1]) != start:
        words = f"the server sent bytes from {int(first[1]):,} on, not from {start:,}"
        raise Fault(Kind.DAMAGED, words, reply.status)
    return True, reply.body


def _too_long(reply: Reply) -> Fault:
    """Say that more came than was asked for."""
    words = f"the reply is longer than the {len(reply.body):,} bytes that were asked for"
    return Fault(Kind.DAMAGED, words, reply.status)


def read_error(reply: Reply) -> tuple[str, str]:
    """Read what a refusal says: S3's code and a message; both empty where it says nothing."""
    found = _parsed(reply.body)
    if found is None or found.tag != "Error":
        return "", ""
    return text_of(found, "Code"), text_of(found, "Message")


def read_region(reply: Reply) -> str:
    """Read which region a refusal names as the bucket's; empty if it names none."""
    if reply.status not in _REDIRECTING:
        return ""
    named = reply.headers.get("x-amz-bucket-region")
    found = None if named else _REGION.search(reply.body)
    return named or (found[1].decode() if found else "")


def read_retry_after(reply: Reply) -> float:
    """Read for how many seconds the server asks to wait; 0 if it does not say."""
    said = reply.headers.get("retry-after", "").strip()
    if said.isdecimal():
        return float(said)
    try:
        until = parsedate_to_datetime(said)
        now = parsedate_to_datetime(reply.headers.get("date", ""))
        return max(0.0, (until - now).total_seconds())
    except (TypeError, ValueError):
        return 0.0


def read_words(reply: Reply) -> str:
    """Read what a refusal says in plain words, that is neither S3's nor a page; mostly nothing."""
    found = redact(reply.body.decode("utf-8", "replace"))[:_WORDS].strip()
    is_plain = found.isprintable() and "<" not in found
    return f": {found}" if found and is_plain else ""


def _parsed(body: bytes) -> ElementTree.Element | None:
    """Parse XML, names without their namespaces; None if it is not well-formed or cut off."""
    start = _BEFORE_XML.match(body)
    try:
        found = ElementTree.fromstring(body[start.end() :] if start else body)
    except (ElementTree.ParseError, LookupError, ValueError):  # or of an unknown encoding
        return None
    for item in found.iter():
        if "}" in item.tag:
            item.tag = item.tag.rpartition("}")[2]
    return found


def text_of(element: ElementTree.Element, name: str, needed: bool = False) -> str:
    """Read the text of a child; empty where there is none."""
    found = element.findtext(name) or ""
    if needed and not found:
        raise Fault(Kind.PASSING, f"the reply makes no sense: it has no {name}")
    return found


def read_page(
    reply: Reply,
    tag: str,
    markers: Sequence[str],
    read: Callable[[Mapping[str, str], Decode], T],
) -> ListPage[T]:
    """Read one page of a list.

    Parameters
    ----------
    reply : Reply
        The response.
    tag : str
        Name of the elements that are read.
    markers : Sequence[str]
        Query parameters that lead to the next page.
    read : Callable
        Reads one element, from the texts of its children and a function that decodes keys: they
        are encoded only if the page says so, and shows no key that cannot be encoded.

    Raises
    ------
    Fault
        If it is not a list, or an element or a marker is missing or cannot be read.
    """
    page = read_xml(reply)
    rows = [row for row in page if row.tag in _ROWS]
    said = text_of(page, "IsTruncated").lower()
    if not (rows or said or page.tag.endswith("Result")):  # a page of a proxy, say
        raise Fault(Kind.PASSING, f"the reply makes no sense: it is not a list but {page.tag}")
    is_encoded = text_of(page, "EncodingType").lower() == "url" and not _has_plain_keys(rows)
    decode: Decode = unquote_plus if is_encoded else str
    try:
        items = [
            read({field.tag: field.text or "" for field in row}, decode)
            for row in rows
            if row.tag == tag
        ]
    except (KeyError, ValueError) as error:
        words = f"the reply makes no sense: {tag} without {error.args[0]}"
        raise Fault(Kind.PASSING, words) from error
    following = None
    if said == "true":
        following = {name: text_of(page, _MARKERS[name], needed=True) for name in markers}
        if "key-marker" in following:
            following["key-marker"] = decode(following["key-marker"])
    ends = [tuple(rows[place].itertext()) for place in (0, -1)] if rows else None
    return ListPage(items, following, hash((len(rows), *ends)) if ends else None)


def _has_plain_keys(rows: Sequence[ElementTree.Element]) -> bool:
    """Return whether keys show what encoding replaces: some servers only say that they encode."""
    keys = "\n".join([row.findtext("Key") or row.findtext("Prefix") or "" for row in rows])
    return _NEVER_ENCODED.search(keys) is not None


def read_objects(reply: Reply, markers: Sequence[str]) -> ListPage[StoredObject]:
    """Read a page of objects, each once.

    Raises
    ------
    Fault
        If one key has two sizes or ETags: the page is asked for again.
    """
    page = read_page(reply, "Contents", markers, read_listed)
    found: dict[str, StoredObject] = {item.key: item for item in page.items}
    if len(found) == len(page.items):
        return page
    for item in page.items:
        if not item.is_like(found[item.key]):
            words = f"{item.key} is listed twice, with different sizes or ETags"
            raise Fault(Kind.DAMAGED, words, reply.status)
    return ListPage(list(found.values()), page.next, page.identity)


def read_listed(fields: Mapping[str, str], decode: Decode) -> StoredObject:
    """Read an object of a list: of such there may be a million."""
    key = fields["Key"]
    if "%" in key or "+" in key:
        key = decode(key)
    etag, time = fields.get("ETag", ""), fields.get("LastModified", "")
    return StoredObject(key, int(fields["Size"]), quoted(etag), moment_of(time))


def moment_of(text: str) -> datetime | None:
    """Read a time; None where there is none that can be read."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def read_etag(reply: Reply) -> str:
    """Read the ETag that comes with a reply."""
    fields = reply.fields  # of each small file: most servers write it so, and nothing is decoded
    sent = fields.get(b"ETag") or fields.get(b"Etag") or fields.get(b"etag")
    etag = sent.decode("latin-1").strip() if sent else reply.headers.get("etag", "")
    if not etag:
        raise Fault(Kind.PASSING, "the reply makes no sense: it has no ETag")
    return quoted(etag)


def quoted(etag: str) -> str:
    """Write an ETag as HTTP does, in quotes: not every server does so everywhere."""
    return '"' + etag.strip('"') + '"' if etag else ""


def see_deleted(keys: Set[str], reply: Reply) -> None:
    """See whether everything was deleted.

    The server names each key: one that does not compare the body with its checksum may have read
    another list than was sent, and says 200 to that too.
    """
    page = read_xml(reply)
    for item in page.findall("Error"):
        code = text_of(item, "Code")
        if code != "NoSuchKey":
            raise Fault(judge(200, code), f"{code}: {text_of(item, 'Message')}", 200, code)
    told = {text_of(item, "Key") for item in (*page.findall("Deleted"), *page.findall("Error"))}
    if told != keys:
        raise Fault(Kind.DAMAGED, "the server deleted something else than was asked", 200)
