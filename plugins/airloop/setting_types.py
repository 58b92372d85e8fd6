"""Types of settings: what Kubernetes takes for a name, a label or an image, each with a sentence for what it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

LABEL = re.compile(r"(?=.{1,63}\Z)[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?")
DNS_LABEL = re.compile(r"(?=.{1,63}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?")
DNS_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
IMAGE = re.compile(
    r"(?P<host>(?:[A-Za-z0-9.-]+|\[[0-9A-Fa-f:]+\])(?::[0-9]+)?/)?[a-z0-9]+(?:[._/-]+[a-z0-9]+)*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@sha256:[0-9a-f]{64})?"
)
ON, OFF = frozenset({"1", "true", "yes", "on"}), frozenset({"0", "false", "no", "off"})


def matching(pattern: re.Pattern[str], reason: str) -> AfterValidator:
    """Refuse what ``pattern`` does not match whole, with ``reason``."""

    def check(value: str) -> str:
        if not pattern.fullmatch(value):
            raise ValueError(reason)
        return value

    return AfterValidator(check)


def label_pairs(text: str) -> dict[str, str]:
    """``a=b,c=d`` as a dictionary; ValueError when it is written otherwise, or Kubernetes would refuse it."""
    pairs = {}
    for part in filter(None, (part.strip() for part in text.split(","))):
        key, separator, value = part.partition("=")
        prefix, _, name = key.rpartition("/")
        named = LABEL.fullmatch(name) and (not prefix or DNS_NAME.fullmatch(prefix))
        if not (separator and named and (not value or LABEL.fullmatch(value))):
            raise ValueError("is not written as label=value,label=value with labels that Kubernetes takes.")
        pairs[key] = value
    return pairs


def image(text: str) -> str:
    """An image's name, in which ``{role}`` may stand for a role; ValueError when no registry has such names."""
    if not IMAGE.fullmatch(text.replace("{role}", "role")):
        raise ValueError(
            "is no image's name; write registry/name:tag in small letters, with {role} where images differ."
        )
    return text


def has_password(value: str) -> bool:
    """Whether ``value`` is a URL, or a list of URLs, with a password in it."""
    return any(_password(part.strip()) for part in value.split(","))


def _password(url: str) -> bool:
    try:
        return bool(urlsplit(url).password)
    except ValueError:
        return False


def _names(text: Any) -> tuple[str, ...]:
    names = tuple(part for part in re.split(r"[,\s]+", text) if part)
    if not all(DNS_NAME.fullmatch(name) for name in names):
        raise ValueError(f"has a part that is no name. {_DNS}")
    return names


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = -1.0
    if not 0 < minutes < 60 * 24 * 7:
        raise ValueError("is no number of minutes; write one above 0 and below a week, for example 15.")
    return minutes


def _switch(text: Any) -> bool:
    if text.lower() not in ON | OFF:
        raise ValueError("is no switch; write true or false.")
    return text.lower() in ON


def _links(text: Any) -> dict[str, str]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise ValueError('is not JSON of names and addresses; write {"MLflow": "https://mlflow.example"}.')
    return found


def _parsed(parse: Callable[[Any], Any]) -> BeforeValidator:
    return BeforeValidator(lambda value: parse(value) if isinstance(value, str) else value)


_DNS = "Kubernetes' names have small letters, digits, dots and hyphens, and begin and end with a letter or digit."
DnsName = Annotated[str, matching(DNS_NAME, f"is no name of an object. {_DNS}")]
"""Name of a Secret, account, class or ConfigMap."""
Namespace = Annotated[str, matching(DNS_LABEL, "is no namespace: small letters, digits and hyphens, 63 at most.")]
Label = Annotated[
    str,
    matching(LABEL, "is no label's value: letters, digits, dots, hyphens and underscores, 63 at most, no blank."),
]
Image = Annotated[str, AfterValidator(image)]
Names = Annotated[tuple[str, ...], _parsed(_names)]
LabelPairs = Annotated[dict[str, str], _parsed(label_pairs)]
Switch = Annotated[bool, _parsed(_switch)]
Minutes = Annotated[float, _parsed(_minutes)]
WebLinks = Annotated[dict[str, str], _parsed(_links)]
