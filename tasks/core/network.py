"""What a shell says of the network, made to hold for every client alike. Standard library only.

Loopback never goes through a proxy, since what answers there is on this machine. A private certificate authority that is named
to one program is named to all: httpx reads one variable, requests another, S3's client a third.
"""

from __future__ import annotations

from collections.abc import Mapping

HOSTS = ("127.0.0.1", "localhost", "::1")
PROXIES = ("http_proxy", "https_proxy", "all_proxy")
AUTHORITIES = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")
"""Variables that name a file of trusted certificates: the first that is set counts for those that are not."""


def settings(environ: Mapping[str, str]) -> dict[str, str]:
    """What to lay over ``environ`` so that each client goes by the same; empty where no proxy and no authority is named."""
    return {**past_proxies(environ), **certificates(environ)}


def past_proxies(environ: Mapping[str, str]) -> dict[str, str]:
    """NO_PROXY in both spellings, with loopback added to what either says; empty where no proxy is named.

    Where none is, a NO_PROXY alone would keep programs on macOS from the proxy of the system's settings.
    """
    if not any(environ.get(name) or environ.get(name.upper()) for name in PROXIES):
        return {}
    said = ",".join(environ.get(name, "") for name in ("no_proxy", "NO_PROXY"))
    hosts = [host for host in (part.strip() for part in said.split(",")) if host]
    value = ",".join(dict.fromkeys([*hosts, *HOSTS]))
    return {"NO_PROXY": value, "no_proxy": value}


def certificates(environ: Mapping[str, str]) -> dict[str, str]:
    """The file of trusted certificates for every variable that clients read and ``environ`` does not set."""
    if not (bundle := authority(environ)):
        return {}
    return {name: bundle for name in (*AUTHORITIES, "AWS_CA_BUNDLE") if not environ.get(name)}


def authority(environ: Mapping[str, str]) -> str:
    """The file of trusted certificates that ``environ`` names; empty where it names none."""
    return next((path for name in AUTHORITIES if (path := environ.get(name))), "")
