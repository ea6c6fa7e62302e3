"""Where a request comes from: a page of another site, another computer."""

import ipaddress
import re
from collections.abc import Iterable

from flask import request

from flask_chatstop.errors import ConfigurationError

# What a proxy or a tunnel adds: the request may have begun anywhere.
_PROXIED = ("Forwarded", "X-Forwarded-", "X-Real-Ip", "Via")
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^\sA-Z/?#@*]+")


def origins_of(origins: Iterable[str]) -> frozenset[str]:
    """Return origins as browsers send them.

    :raises ConfigurationError: one of them is not a scheme and a host.
    """
    if isinstance(origins, str):
        raise ConfigurationError(f"origins is {origins!r}; give it a list of strings.")
    checked = frozenset(origins)
    for origin in checked:
        if not isinstance(origin, str) or not _ORIGIN.fullmatch(origin):
            raise ConfigurationError(
                f"origins has {origin!r}; write each like 'https://chat.example',"
                " in lower case and without a path."
            )
    return checked


def is_cross_site(origins: frozenset[str]) -> bool:
    """Tell whether a browser sent the current request for a page of another origin.

    Another subdomain or port is another origin: it may be in other hands. A request
    that carries neither header is let through: no browser has sent it, or it is a GET
    over plain HTTP, which no browser says more of.

    :param origins: other origins whose pages may send requests.
    """
    origin = request.headers.get("Origin")
    if origin in origins:
        return False
    # Before the host, which a proxy may have changed. No page can set this header,
    # but see _sends_metadata().
    site = request.headers.get("Sec-Fetch-Site")
    if site not in (None, "same-origin", "none"):
        return True
    if origin is None or (site is not None and _sends_metadata(origin)):
        return False
    return not _is_own_host(origin)


def _sends_metadata(origin: str) -> bool:
    """Tell whether a browser sends ``Sec-Fetch-Site`` to this origin.

    It does over HTTPS and to localhost, see https://www.w3.org/TR/fetch-metadata/.
    Elsewhere a script can send ``Sec_Fetch_Site`` if CORS permits it. uWSGI and ASGI
    servers take it for the same header.
    """
    scheme, _, host = origin.partition("://")
    return scheme != "http" or _names_loopback(host)


def _is_own_host(origin: str) -> bool:
    # Not request.host, which is empty for a name that Werkzeug does not take. Without
    # the scheme: where a proxy ends TLS, the app sees plain HTTP.
    scheme, _, page = origin.partition("://")
    host = request.headers.get("Host", "").lower()
    default_port = {"http": ":80", "https": ":443"}.get(scheme, "")
    return page != "" and page == host.removesuffix(default_port)


def is_local() -> bool:
    """Tell whether the current request was sent on this computer, and to it.

    The host is looked at because of DNS rebinding: a page whose name is made to lead
    to 127.0.0.1 is of the same origin as the app, and gives itself away by its name.
    """
    return (
        _is_loopback(request.remote_addr or "")
        and _names_loopback(request.host.lower())
        and not any(name.startswith(_PROXIED) for name, _ in request.headers)
    )


def _names_loopback(host: str) -> bool:
    host = re.sub(r":\d+$", "", host).strip("[]")
    return host == "localhost" or host.endswith(".localhost") or _is_loopback(host)


def _is_loopback(address: str) -> bool:
    try:
        ip = ipaddress.ip_address(address)
    except ValueError:
        return False
    # A server that listens on both families names an IPv4 client like this.
    mapped = getattr(ip, "ipv4_mapped", None)
    return (mapped or ip).is_loopback
