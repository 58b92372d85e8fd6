"""The shapes of requests and answers, for the OpenAPI page; the hot path builds the same JSON without them."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from tasks.flights.request import EXAMPLE, FlightRequest


class Flights(BaseModel):
    """Many flights at once."""

    flights: list[FlightRequest]


class StateInfo(BaseModel):
    """The landed months behind an answer."""

    as_of: str | None = Field(description="Last landed event (UTC)")
    age_seconds: int | None = Field(description="How far the prediction's T lies beyond it; 0 inside what has landed")
    months: list[str]
    digest: str = Field(description="Digest of the state's files")


class PredictionAnswer(BaseModel):
    """One flight's prediction."""

    model_config = ConfigDict(protected_namespaces=())

    prediction_id: str = Field(
        description="Where the log holds this prediction; `make lineage PREDICTION=...` reads it"
    )
    probability_late: float = Field(description="P(arrival 15 minutes late or more)")
    model_version: int
    model: str = Field(description="sha256 of the ONNX file")
    as_of: str = Field(description="T: nothing that became known later was used (UTC)")
    state: StateInfo
    degraded: bool = Field(description="True when something that is normally known was not; see reasons")
    reasons: list[str]


class Predictions(BaseModel):
    """Answers in the order of the request."""

    predictions: list[PredictionAnswer]


class Problem(BaseModel):
    """One thing to correct."""

    where: str
    what: str


class ErrorAnswer(BaseModel):
    """What is wrong and how to put it right."""

    error: str
    problems: list[Problem]


ONE_ANSWER: dict[str, Any] = {
    "prediction_id": "online.2026-11-22.v2.5d3c08a10000000000000007",
    "probability_late": 0.3127,
    "model_version": 2,
    "model": "9f2b1c...",
    "as_of": "2013-04-05T18:00:00Z",
    "state": {"as_of": "2013-05-01T08:14:00Z", "age_seconds": 0, "months": ["2013-03", "2013-04"], "digest": "41e0..."},
    "degraded": False,
    "reasons": [],
}
TWO_FLIGHTS = [EXAMPLE, EXAMPLE | {"carrier": "UA", "flight": 1545, "origin": "EWR", "destination": "IAH"}]


def predict_docs(reference: str = "#/components/schemas/{model}") -> dict[str, Any]:
    """OpenAPI's description of POST /predict."""

    def ref(model: type[BaseModel]) -> dict[str, str]:
        return {"$ref": reference.format(model=model.__name__)}

    def answer(description: str, schema: dict[str, Any], **more: object) -> dict[str, Any]:
        return {"description": description, "content": {"application/json": {"schema": schema, **more}}}

    flights = {"type": "array", "items": ref(FlightRequest)}
    return {
        "summary": "Will these flights be late?",
        "operationId": "predict",
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {"anyOf": [ref(FlightRequest), ref(Flights), flights]},
                    "examples": {
                        "one flight": {"value": EXAMPLE},
                        "many flights": {"value": {"flights": TWO_FLIGHTS}},
                    },
                }
            },
        },
        "responses": {
            "200": answer(
                "One prediction a flight, in the order of the request", ref(Predictions),
                example={"predictions": [ONE_ANSWER]},
            ),
            "413": answer("The body is too large", ref(ErrorAnswer)),
            "422": answer("The request cannot be understood; `error` says what, where and how to fix it", ref(ErrorAnswer)),
            "503": answer("No model is live; Retry-After says when to ask again", ref(ErrorAnswer)),
        },
    }  # fmt: skip


MODELS: tuple[type[BaseModel], ...] = (
    FlightRequest,
    Flights,
    StateInfo,
    PredictionAnswer,
    Predictions,
    Problem,
    ErrorAnswer,
)


def components() -> dict[str, Any]:
    """OpenAPI's component schemas of all models here."""
    found: dict[str, Any] = {}
    for model in MODELS:
        schema = model.model_json_schema(ref_template="#/components/schemas/{model}")
        found |= schema.pop("$defs", {})
        found[model.__name__] = schema
    return found
