"""One configuration for both installers: pip brings uv, uv brings the rest. Standard library only.

Where packages come from and how to get there is the user's to say - to pip or to uv, by a variable or a file - and both go by it.
What else those files and variables say (targets, constraints, other Pythons) is about other work: neither sees it.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from local import leaks
from tasks.core.urls import path_of

BOTH = {
    "index-url": ("PIP_INDEX_URL", "UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("PIP_EXTRA_INDEX_URL", "UV_INDEX", " "),
    "find-links": ("PIP_FIND_LINKS", "UV_FIND_LINKS", ","),
    "trusted-host": ("PIP_TRUSTED_HOST", "UV_INSECURE_HOST", " "),
    "timeout": ("PIP_DEFAULT_TIMEOUT", "UV_HTTP_TIMEOUT", " "),
    "cert": ("PIP_CERT", "SSL_CERT_FILE", " "),
    "client-cert": ("PIP_CLIENT_CERT", "SSL_CLIENT_CERT", " "),
}
"""Setting to pip's and uv's variable, and what separates several values in uv's; pip takes spaces."""
SPELLED = {
    "UV_INDEX_URL": "index-url", "UV_EXTRA_INDEX_URL": "extra-index-url", "UV_DEFAULT_INDEX": "index-url", "UV_INDEX": "extra-index-url",
    "UV_FIND_LINKS": "find-links", "UV_INSECURE_HOST": "trusted-host", "UV_HTTP_TIMEOUT": "timeout", "CURL_CA_BUNDLE": "cert",
    "REQUESTS_CA_BUNDLE": "cert", "SSL_CERT_FILE": "cert", "SSL_CLIENT_CERT": "client-cert",
}  # fmt: skip
"""Variables of uv and of other programs that say the same, the stronger later."""
PLACES = {"index-url", "extra-index-url", "find-links"}
PROXY = ("HTTP_PROXY", "HTTPS_PROXY")


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """The environment of an installer: ``environ`` without what is about other work, and each source in both spellings."""
    said = {**_of_uv_files(environ), **_of_pip(environ), **_of_variables(environ)}
    made = leaks.without(environ)
    for name in ("UV_INDEX_URL", "UV_EXTRA_INDEX_URL", "UV_CONFIG_FILE"):
        made.pop(name, None)
    for setting, (pip, uv, between) in BOTH.items():
        given = dict.fromkeys(said.get(setting, "").split())
        if values := [value for value in given if setting not in PLACES or _is_there(value)]:
            made |= {pip: " ".join(map(_bare, values)), uv: between.join(values)}
    if proxy := said.get("proxy"):
        made = {**dict.fromkeys(PROXY, proxy), **made}
    return {
        **made,
        **(
            {"UV_INDEX_STRATEGY": "unsafe-best-match"} if "UV_INDEX" in made else {}
        ),  # as pip does; hashes say which file it is
        "PIP_CONFIG_FILE": os.devnull,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "UV_NO_CONFIG": "1",
    }


def _of_variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        setting: environ[name].replace(",", " ") if setting == "find-links" else environ[name]
        for name, setting in SPELLED.items()
        if environ.get(name)
    }


def _of_pip(environ: Mapping[str, str]) -> dict[str, str]:
    """Pip's settings by its own word, files and variables; only its variables where there is no pip to ask."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    # Of its own options --user, --site and --global, which a setting of that name would turn on, it needs none.
    env = {**leaks.without(environ), "PIP_USER": "0", "PIP_SITE": "0", "PIP_GLOBAL": "0"}
    listed = subprocess.run(command, env=env, capture_output=True, text=True, encoding="utf-8", check=False).stdout
    by_section: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        section, _, rest = line.partition(".")
        name, _, value = rest.partition("=")
        if section in by_section:
            by_section[section][name] = " ".join(str(ast.literal_eval(value)).split())
    found = {name: value for said in by_section.values() for name, value in said.items()}
    if "default-timeout" in found:
        found["timeout"] = found["default-timeout"]
    variables = {setting: environ[pip] for setting, (pip, _, _) in BOTH.items() if environ.get(pip)}
    folders = [values["find-links"] for values in by_section.values() if "find-links" in values]
    return {**found, **variables, **({"find-links": " ".join(folders)} if folders else {})}


def _of_uv_files(environ: Mapping[str, str]) -> dict[str, str]:
    """What uv's own files say of sources; a project's file is none of the user's."""
    found: dict[str, str] = {}
    for file in _uv_files(environ):
        try:
            text = tomllib.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        for table in (text.get("pip", {}), text):
            found |= {
                name: _joined(table[name]) for name in ("index-url", "extra-index-url", "find-links") if name in table
            }
        if "allow-insecure-host" in text:
            found["trusted-host"] = _joined(text["allow-insecure-host"])
        for default, setting in ((True, "index-url"), (False, "extra-index-url")):
            urls = [str(i["url"]) for i in text.get("index", []) if "url" in i and bool(i.get("default")) is default]
            found |= {setting: " ".join(urls)} if urls else {}
    return found


def _uv_files(environ: Mapping[str, str]) -> Iterator[Path]:
    if environ.get("UV_NO_CONFIG"):
        return
    if named := environ.get("UV_CONFIG_FILE"):
        yield Path(named)
        return
    yield Path("/etc/uv/uv.toml")
    home = environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")  # noqa: PTH111 - Path.home() raises where there is none
    yield Path(home, "uv", "uv.toml")


def _joined(value: Any) -> str:
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)


def _bare(value: str) -> str:
    """An index without the name that uv can give it (``mine=https://...``)."""
    name, equals, url = value.partition("=")
    return url if equals and name.isidentifier() and "://" in url else value


def _is_there(value: str) -> bool:
    """Pip passes over a folder that is not there, and uv stops at it."""
    url = _bare(value)
    if url.startswith("file:"):
        return (path_of(url) or Path()).exists()
    return Path(url).exists() if url.startswith(("/", "~")) else True
