"""A request's body, read within limits and checked; what is wrong with it becomes a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from tasks.spec import Online
from tasks.spec import Request as Asked

MAX_PROBLEMS = 20


def how(online: Online) -> str:
    """How to ask, in a sentence."""
    example = orjson.dumps(online.examples[0]).decode()
    return f'Send one request, for example {example}, or many as {{"{online.many}": [...]}}.'


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, sentence: str, problems: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.content = {"error": sentence, "problems": list(problems)}


async def read(request: Request, limit: int) -> bytes:
    """The whole body; Refused when it is compressed or no JSON by its headers, or larger than ``limit`` bytes."""
    coding = request.headers.get("content-encoding", "identity").strip().lower()
    if coding not in ("", "identity"):
        raise Refused(415, f"The body is compressed ({coding[:80]!r}); send it as it is, without content-encoding.")
    kind = request.headers.get("content-type", "application/json").partition(";")[0].strip().lower()
    if kind != "application/json" and not kind.endswith("+json"):
        raise Refused(
            422, f"The content type is {kind[:80]!r}; send JSON, with the header content-type: application/json."
        )
    length = request.headers.get("content-length", "")
    chunks, size = [], int(length) if length.isdecimal() and len(length) < 19 else 0
    if size <= limit:
        size = 0
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit:
                break
            chunks.append(chunk)
    if size > limit:
        raise Refused(413, f"The body has more than {limit:,} bytes; send fewer requests at a time.")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse(body: bytes, max_rows: int, online: Online) -> list[Asked]:
    """The requests in a body; Refused lists what is wrong with each."""
    many = online.many
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(422, f"The body is not JSON: {error}. {how(online)}") from None
    if not isinstance(content, list) and not (isinstance(content, dict) and many in content):
        return _check([content], "", online)
    if isinstance(content, dict):
        if unknown := [key for key in content if key != many]:
            raise Refused(422, f"Beside {many} is {unknown[0][:80]!r}, which is unknown. {how(online)}")
        content = content[many]
    if not isinstance(content, list):
        raise Refused(422, f"{many} is no list. {how(online)}")
    if not 1 <= len(content) <= max_rows:
        raise Refused(422, f"The list has {len(content):,} {many}; send 1 to {max_rows:,} at a time.")
    return _check(content, many, online)


def _check(items: list[Any], where: str, online: Online) -> list[Asked]:
    kind = online.request()
    found: list[Asked] = []
    problems: list[dict[str, str]] = []
    for number, item in enumerate(items):
        try:
            found.append(kind.model_validate(item))
        except ValidationError as error:
            problems.extend(_problem(each, f"{where}[{number}]" if where else "", kind) for each in error.errors())
            if len(problems) > MAX_PROBLEMS:
                break
    if problems:
        first = f"{problems[0]['where']}: {problems[0]['what']}" if problems[0]["where"] else problems[0]["what"]
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise Refused(422, f"{first}{others}. {how(online)}", problems[:MAX_PROBLEMS])
    return found


def _problem(error: ErrorDetails, where: str, kind: type[Asked]) -> dict[str, str]:
    name = ".".join(str(part)[:80] for part in error["loc"])
    if error["type"] == "value_error":
        what = str(error["ctx"]["error"])
    elif error["type"] == "model_type":
        what = "this is no request object"
    elif error["type"] == "missing":
        what = "this field is missing"
    elif error["type"] == "extra_forbidden":
        what = f"this field is unknown; a request has {', '.join(kind.model_fields)}"
    else:
        field = kind.model_fields[str(error["loc"][0])]
        what = f"{_short(error['input'])} is not valid: {error['msg'].lower()} ({field.description})"
    return {"where": ".".join(part for part in (where, name) if part), "what": what}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
