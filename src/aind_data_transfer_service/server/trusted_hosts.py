"""Which names this service answers to, and which pages are its own.

A page of another site has three ways to reach the service through the browser of somebody in the
lab, and this is what it can set on each:

- It sends a request across sites. The browser sets `Host`, `Origin` and (over https and on the
  same machine) `Sec-Fetch-Site`; no script can change them. A header such as `X-Forwarded-Host`
  needs the permission of the service (a CORS preflight), which is never given.
- It rebinds its own name to the service's address. To the browser the service is then the page's
  own site, so that it may set any header but those three; `Host` and `Origin` carry the page's
  name. Such a page can only have a public name: never an IP address, a name without a dot, or one
  in `localhost`.
- It does so with the address of a proxy that replaces `Host`. Only `Origin` carries the name then,
  and browsers send it with requests that change something.

So `Host` has to be a name of this service, whatever other headers say, and so has each name in
`X-Forwarded-Host` and `Forwarded`: they can have a request refused, and never make a name accepted.
A request that changes something is accepted from a page at SERVICE_URL or INTERNAL_URL, or at the
host that was asked for (`Host`, or what a proxy says of it), with the same port: other programs of
the same machine, such as a notebook server, have pages on other ports. Where a proxy replaced the
host, a name in ALLOWED_HOSTS is enough, on the default port.
"""

import re
import socket
from collections.abc import Callable, Collection, Iterator
from functools import cache

from starlette.datastructures import Headers

from aind_data_transfer_service.concurrency.daemon_thread import start_thread
from aind_data_transfer_service.configs.vocabulary import quoted
from aind_data_transfer_service.network.host_names import (
    Authority,
    matches,
    parse_authority,
    parse_origin,
)

_FORWARDED_HOST = re.compile(r'(?:^|[;,])\s*host\s*=\s*("[^"]*"|[^;,\s]*)', re.IGNORECASE)


@cache
def machine_names() -> Collection[str]:
    """Return this machine's names.

    The full name comes from DNS, which may take its time, so it is looked up in the background.
    """
    names = {socket.gethostname()}
    start_thread(lambda: names.add(socket.getfqdn()), "name of this machine")
    return names


class ServedHosts:
    """The names of this service.

    Parameters
    ----------
    named : Collection[str]
        Names and patterns that the administrator set, as `parse_pattern` returns them.
    addresses : Collection[Authority]
        Hosts and ports of the addresses that the administrator set.
    machine : Callable
        Returns the names of this machine.
    """

    def __init__(
        self,
        named: Collection[str],
        addresses: Collection[Authority] = (),
        machine: Callable[[], Collection[str]] = machine_names,
    ) -> None:
        self._named = frozenset(named)
        self._addresses = frozenset(addresses)
        self._machine = machine

    def problem(self, headers: Headers, http_version: str) -> str:
        """Return why a request is not answered under the name that it uses; empty if it is.

        Parameters
        ----------
        headers : Headers
            Of the request.
        http_version : str
            HTTP/1.0 needs no `Host`: load balancers probe so, and browsers never do.
        """
        hosts = headers.getlist("host")
        if len(hosts) != 1 and (hosts or http_version != "1.0"):
            return f"A request has exactly one Host header; this one has {len(hosts)}."
        asked = [("Host", host.strip(" \t")) for host in hosts]
        for name, text in [*asked, *_forwarded(headers)]:
            host = parse_authority(text)
            if host is None:
                return f"{name}: {quoted(text)} is not a host name or an IP address."
            if not self._serves(host):
                return (
                    f"{name}: this service does not answer to the name {quoted(host.host)}. If it "
                    "is a name of this service, its administrator has to add it to ALLOWED_HOSTS "
                    f"(ALLOWED_HOSTS={host.host}), or set SERVICE_URL to the address of its pages."
                )
        return ""

    def cross_site_problem(self, headers: Headers) -> str:
        """Return why a request may come from the page of another site; empty if it does not.

        A browser names the page's site in a request that changes something; other programs name
        none.
        """
        site = headers.get("sec-fetch-site")
        origins = headers.getlist("origin")
        if site is None and not origins or site in ("same-origin", "none"):
            return ""
        if site is None and len(origins) == 1:
            origin = parse_origin(origins[0])
            if origin and self._serves(origin) and self._is_ours(origin, headers):
                return ""
        refusal = "This request was sent by the page of another site, so it was not carried out"
        if not origins:
            return f"{refusal}."
        asked = ", ".join([headers.get("host", ""), *(text for _, text in _forwarded(headers))])
        return (
            f"{refusal}: the page is at {quoted(origins[0])}, and the request is for "
            f"{quoted(asked)}. If both are this service, its administrator has to set SERVICE_URL "
            "to the address of the page, or have the proxy pass on Host unchanged. Where the proxy "
            "replaces Host and has no port of its own, the name in ALLOWED_HOSTS is enough."
        )

    def _serves(self, host: Authority) -> bool:
        """Return whether a host is one that a rebinding page cannot have, or is known."""
        name = host.host
        is_local = "." not in name or name.endswith(".localhost")
        return host.is_address or is_local or self._is_named(name)

    def _is_ours(self, origin: Authority, headers: Headers) -> bool:
        """Return whether a page at an origin is a page of this service."""
        if origin in self._addresses:
            return True
        texts = [headers.get("host", "").strip(" \t"), *(text for _, text in _forwarded(headers))]
        hosts = [host for host in map(parse_authority, texts) if host]
        if ports := {host.port for host in hosts if host.host == origin.host}:
            # A proxy that passes on the host alone leaves out the port.
            return bool(ports & {None, origin.port})
        return origin.port is None and matches(origin.host, self._named)

    def _is_named(self, name: str) -> bool:
        """Return whether a name was set by the administrator, or is this machine's."""
        if matches(name, self._named) or any(one.host == name for one in self._addresses):
            return True
        machine = map(parse_authority, list(self._machine()))
        return any(own and own.host == name for own in machine)


def _forwarded(headers: Headers) -> Iterator[tuple[str, str]]:
    """Yield the hosts that proxies say they were asked for, each with its header."""
    for value in headers.getlist("x-forwarded-host"):
        for text in value.split(","):
            if text.strip():
                yield "X-Forwarded-Host", text.strip()
    for value in headers.getlist("forwarded"):
        for text in _FORWARDED_HOST.findall(value):
            yield "Forwarded", text.strip('"')
