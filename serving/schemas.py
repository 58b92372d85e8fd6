"""The shapes of requests and answers, for the OpenAPI page; the hot path builds the same JSON without them."""

from __future__ import annotations

from types import GenericAlias
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, create_model

from tasks.spec import Online


class StateInfo(BaseModel):
    """The landed intervals behind an answer."""

    as_of: str | None = Field(description="Last landed event (UTC)")
    age_seconds: int | None = Field(description="How far the prediction's T lies beyond it; 0 inside what has landed")
    intervals: list[str]
    digest: str = Field(description="Digest of the state's files")


class Problem(BaseModel):
    """One thing to correct."""

    where: str
    what: str


class ErrorAnswer(BaseModel):
    """What is wrong and how to put it right."""

    error: str
    problems: list[Problem]


def _example_answer(model: str) -> dict[str, Any]:
    return {
        "prediction_id": f"{model}.online.2026-11-22.v2.5d3c08a10000000000000007",
        "model_version": 2,
        "model": "9f2b1c...",
        "as_of": "2026-11-05T18:00:00Z",
        "state": {
            "as_of": "2026-11-22T08:14:00Z",
            "age_seconds": 0,
            "intervals": ["2026-10", "2026-11"],
            "digest": "41e0...",
        },
        "degraded": False,
        "reasons": [],
    }


class Shapes:
    """What a model's requests and answers look like."""

    def __init__(self, model: str, online: Online) -> None:
        self._model, self._online = model, online
        self._request = online.request()
        many: dict[str, Any] = {online.many: (GenericAlias(list, (self._request,)), ...)}
        self._many = create_model(
            online.many.title(),
            __doc__=f"Many {online.many} at once.",
            **many,
        )
        self._answer = _answer(online)
        answers: dict[str, Any] = {"predictions": (GenericAlias(list, (self._answer,)), ...)}
        self._answers = create_model("Predictions", __doc__="Answers in the order of the request.", **answers)

    def predict_docs(self) -> dict[str, Any]:
        """OpenAPI's description of a request for predictions."""
        online = self._online

        def ref(model: type[BaseModel]) -> dict[str, str]:
            return {"$ref": self._reference.format(model=model.__name__)}

        def answer(description: str, schema: dict[str, Any], **more: object) -> dict[str, Any]:
            return {"description": description, "content": {"application/json": {"schema": schema, **more}}}

        several = {"type": "array", "items": ref(self._request)}
        return {
            "summary": online.form.question,
            "tags": [self._model],
            "operationId": f"predict_{self._model}",
            "requestBody": {
                "required": True,
                "content": {
                    "application/json": {
                        "schema": {"anyOf": [ref(self._request), ref(self._many), several]},
                        "examples": {
                            "one": {"value": online.examples[0]},
                            "many": {"value": {online.many: list(online.examples)}},
                        },
                    }
                },
            },
            "responses": {
                "200": answer(
                    "One prediction each, in the order of the request", ref(self._answers),
                    example={"predictions": [_example_answer(self._model) | {online.answer: 0.3127}]},
                ),
                "413": answer("The body is too large", ref(ErrorAnswer)),
                "422": answer("The request cannot be understood; `error` says what, where and how to fix it", ref(ErrorAnswer)),
                "503": answer("No model is live; Retry-After says when to ask again", ref(ErrorAnswer)),
            },
        }  # fmt: skip

    def components(self) -> dict[str, Any]:
        """OpenAPI's schemas of requests and answers, under names that begin with the model's."""
        found: dict[str, Any] = {}
        for model in (self._request, self._many, StateInfo, self._answer, self._answers, Problem, ErrorAnswer):
            schema = model.model_json_schema(ref_template=self._reference)
            found |= schema.pop("$defs", {})
            found[model.__name__] = schema
        return {f"{self._model}.{name}": schema for name, schema in found.items()}

    @property
    def _reference(self) -> str:
        return f"#/components/schemas/{self._model}.{{model}}"


def _answer(online: Online) -> type[BaseModel]:
    """One prediction, with its probability under the model's own key."""
    logged = Field(description="Where the log holds this prediction; `airloop lineage ...` reads it")
    fields: dict[str, Any] = {
        "prediction_id": (str, logged),
        online.answer: (float, Field(description=online.answer_description)),
        "model_version": (int, ...),
        "model": (str, Field(description="sha256 of the ONNX file")),
        "as_of": (str, Field(description="T: nothing that became known later was used (UTC)")),
        "state": (StateInfo, ...),
        "degraded": (bool, Field(description="True when something that is normally known was not; see reasons")),
        "reasons": (list[str], ...),
    }
    return create_model(
        "PredictionAnswer", __config__=ConfigDict(protected_namespaces=()), __doc__="One prediction.", **fields
    )
