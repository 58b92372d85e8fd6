"""A request's body, read within limits and checked; what is wrong with it becomes a sentence."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails
from starlette.requests import Request

from tasks.flights.request import EXAMPLE, FlightRequest

HOW = f'Send one flight, for example {orjson.dumps(EXAMPLE).decode()}, or many as {{"flights": [...]}}.'
MAX_PROBLEMS = 20


class Refused(Exception):  # noqa: N818 - it is an answer, not a fault
    """A request that is answered with a status and a sentence."""

    def __init__(self, status: int, sentence: str, problems: Sequence[Mapping[str, Any]] = ()) -> None:
        super().__init__(sentence)
        self.status = status
        self.content = {"error": sentence, "problems": list(problems)}


async def read(request: Request, limit: int) -> bytes:
    """The whole body; Refused when it is no JSON by its header, or larger than ``limit`` bytes."""
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
        raise Refused(413, f"The body has more than {limit:,} bytes; send fewer flights at a time.")
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def parse(body: bytes, max_flights: int) -> list[FlightRequest]:
    """The flights of a request; Refused lists what is wrong with each."""
    try:
        content = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise Refused(422, f"The body is not JSON: {error}. {HOW}") from None
    many = isinstance(content, list) or (isinstance(content, dict) and "flights" in content)
    if not many:
        return _check([content], "")
    if isinstance(content, dict):
        if unknown := [key for key in content if key != "flights"]:
            raise Refused(422, f"Beside flights stands {unknown[0][:80]!r}, which is unknown. {HOW}")
        content = content["flights"]
    if not isinstance(content, list):
        raise Refused(422, f"flights is no list. {HOW}")
    if not 1 <= len(content) <= max_flights:
        raise Refused(422, f"The list has {len(content):,} flights; send 1 to {max_flights:,} at a time.")
    return _check(content, "flights")


def _check(items: list[Any], where: str) -> list[FlightRequest]:
    found: list[FlightRequest] = []
    problems: list[dict[str, str]] = []
    for number, item in enumerate(items):
        try:
            found.append(FlightRequest.model_validate(item))
        except ValidationError as error:
            problems.extend(_problem(each, f"{where}[{number}]" if where else "") for each in error.errors())
            if len(problems) > MAX_PROBLEMS:
                break
    if problems:
        first = f"{problems[0]['where']}: {problems[0]['what']}" if problems[0]["where"] else problems[0]["what"]
        others = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise Refused(422, f"{first}{others}. {HOW}", problems[:MAX_PROBLEMS])
    return found


def _problem(error: ErrorDetails, where: str) -> dict[str, str]:
    name = ".".join(str(part)[:80] for part in error["loc"])
    if error["type"] == "value_error":
        what = str(error["ctx"]["error"])
    elif error["type"] == "model_type":
        what = "this is no flight object"
    elif error["type"] == "missing":
        what = "this field is missing"
    elif error["type"] == "extra_forbidden":
        what = f"this field is unknown; a flight has {', '.join(FlightRequest.model_fields)}"
    else:
        field = FlightRequest.model_fields[str(error["loc"][0])]
        what = f"{_short(error['input'])} is not valid: {error['msg'].lower()} ({field.description})"
    return {"where": ".".join(part for part in (where, name) if part), "what": what}


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
