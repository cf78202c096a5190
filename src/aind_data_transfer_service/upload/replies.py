"""What a server that speaks S3 answers, read: lists, identifiers, ETags, and errors in disguise."""

import re
from collections.abc import Mapping, Set
from datetime import datetime
from email.utils import parsedate_to_datetime
from urllib.parse import unquote_plus
from xml.etree import ElementTree

from aind_data_transfer_service.upload.retry import Fault, Kind, judge
from aind_data_transfer_service.upload.store import StoredObject
from aind_data_transfer_service.upload.wire import Reply

_REDIRECTING = frozenset((301, 302, 307, 400, 403))
"""The statuses of refusals with which S3 names the bucket's region."""
_REGION = re.compile(rb"<Region>([a-z0-9-]+)</Region>")
_WORDS = 200
"""Bytes of a refusal in other words than S3's that are told."""


def read_xml(reply: Reply) -> ElementTree.Element:
    """Read a reply that has to be XML; one that tells of an error is a fault in spite of its 200.

    Such come for requests that take long: "Complete multipart upload" in the API reference.
    """
    try:
        found = _without_namespaces(ElementTree.fromstring(reply.body))
    except ElementTree.ParseError as error:
        raise Fault(Kind.PASSING, "the reply makes no sense") from error
    if found.tag == "Error":
        code = text_of(found, "Code")
        raise Fault(judge(500, code), f"{code}: {text_of(found, 'Message')}", 500, code)
    return found


def read_error(reply: Reply) -> tuple[str, str]:
    """Read what a refusal says: S3's code and a message; both empty where it says nothing."""
    try:
        found = _without_namespaces(ElementTree.fromstring(reply.body)) if reply.body else None
    except ElementTree.ParseError:
        found = None
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
    found = reply.body[:_WORDS].decode("utf-8", "replace").strip()
    is_plain = found.isprintable() and "<" not in found
    return f": {found}" if found and is_plain else ""


def _without_namespaces(element: ElementTree.Element) -> ElementTree.Element:
    """Leave names as they are without the space that they come from: not every server has one."""
    if "}" not in element.tag:
        return element
    for item in element.iter():
        if "}" in item.tag:
            item.tag = item.tag.rpartition("}")[2]
    return element


def text_of(element: ElementTree.Element, name: str, needed: bool = False) -> str:
    """Read the text of a child; empty where there is none."""
    found = element.findtext(name) or ""
    if needed and not found:
        raise Fault(Kind.PASSING, f"the reply makes no sense: it has no {name}")
    return found


def read_listed(fields: Mapping[str, str]) -> StoredObject:
    """Read an object of a list: of such there may be a million."""
    try:
        key, size = fields["Key"], int(fields["Size"])
    except (KeyError, ValueError) as error:
        words = f"the reply makes no sense: an object has no {error.args[0]}"
        raise Fault(Kind.PASSING, words) from error
    if "%" in key or "+" in key:
        key = unquote_plus(key)
    etag, time = fields.get("ETag", ""), fields.get("LastModified", "")
    return StoredObject(key, size, quoted(etag), _moment(time))


def time_of(element: ElementTree.Element, name: str) -> datetime | None:
    """Read a time; None where there is none that can be read."""
    return _moment(text_of(element, name))


def _moment(text: str) -> datetime | None:
    """Read a time; None where there is none that can be read."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return None
    return moment if moment.tzinfo else None


def read_etag(reply: Reply) -> str:
    """Read the ETag that comes with a reply."""
    etag = reply.headers.get("etag", "")
    if not etag:
        raise Fault(Kind.PASSING, "the reply makes no sense: it has no ETag")
    return quoted(etag)


def quoted(etag: str) -> str:
    """Write an ETag as HTTP does, in quotes: not every server does so everywhere."""
    return f'"{etag.strip(chr(34))}"' if etag else ""


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
