"""A model as it travels: an ONNX file and its feature contract, verified before ONNX Runtime sees a byte.

The only loader of models: the evaluation, batch scoring and the online service all come here. No pickle anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime as ort
import pyarrow as pa
import pyarrow.compute as pc
from google.protobuf.message import DecodeError
from pydantic import Field, ValidationError, model_validator

from tasks.core.errors import DataError
from tasks.core.frozen import Frozen
from tasks.storage.artefacts import sha256, to_json

Matrix = npt.NDArray[np.float32]

INPUT, OUTPUT = "features", "probabilities"
DOMAINS = frozenset({"", "ai.onnx.ml"})
MAX_BYTES = 64 * 2**20
"""Larger files are refused before they are parsed; the example's models have a few hundred kB."""


class Feature(Frozen):
    """One model input."""

    name: str
    kind: Literal["number", "category"]
    categories: tuple[str, ...] | None = None
    """Values of a category, sorted; a value's code is its index. Null for a number."""

    @model_validator(mode="after")
    def _categories_fit_kind(self) -> Feature:
        if (self.kind == "category") != (self.categories is not None):
            raise ValueError(f"feature {self.name!r}: a category, and only a category, lists its categories")
        if self.categories is not None and len(set(self.categories)) != len(self.categories):
            raise ValueError(f"feature {self.name!r}: a category is listed twice")
        return self


class Contract(Frozen):
    """What a model's inputs are, in order, and which ONNX file they belong to."""

    features: tuple[Feature, ...] = Field(min_length=1)
    label: str
    onnx_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")

    @classmethod
    def parse(cls, data: bytes) -> Contract:
        """The contract in ``data`` (contract.json); DataError when it is none."""
        try:
            return cls.model_validate_json(data)
        except ValidationError as error:
            raise DataError(f"contract.json is not a feature contract: {error}. Train the model again.") from None

    def to_bytes(self) -> bytes:
        """Canonical JSON, the content of contract.json."""
        return to_json(self.model_dump(mode="json"))

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Feature names in input order."""
        return tuple(feature.name for feature in self.features)

    @cached_property
    def _codes(self) -> tuple[dict[str, float] | None, ...]:
        return tuple(
            None if f.categories is None else {value: float(i) for i, value in enumerate(f.categories)}
            for f in self.features
        )

    def encode(self, table: pa.Table | pa.RecordBatch) -> Matrix:
        """Model input [rows, features] of ``table``, which has the features as columns (others are ignored).

        A category becomes its index in the contract; null and unknown become NaN. DataError names absent columns.
        """
        present = set(table.schema.names)
        if absent := [name for name in self.names if name not in present]:
            raise DataError(f"The table lacks the model's feature(s) {', '.join(absent)}; build its features again.")
        x = np.empty((table.num_rows, len(self.features)), dtype=np.float32)
        for column, feature in enumerate(self.features):
            x[:, column] = _to_float32(_encode_column(table.column(feature.name), feature))
        return x

    def encode_rows(self, rows: Sequence[Mapping[str, Any]]) -> Matrix:
        """The bits of ``encode`` for a few rows as mappings, without building a table; None is null.

        DataError for a row without one of the features: not knowing is None, forgetting is a bug.
        """
        try:
            values = [
                [_encode_value(row[name], codes) for name, codes in zip(self.names, self._codes, strict=True)]
                for row in rows
            ]
        except KeyError as error:
            raise DataError(f"A row lacks the model's feature {error.args[0]!r}; give null when unknown.") from None
        return _to_float32(np.array(values, dtype=np.float64).reshape(len(rows), len(self.features)))


def _to_float32(values: npt.NDArray[np.float64]) -> Matrix:
    # The one rounding on both paths, hence the same bits; what float32 cannot hold becomes infinite, which trees take.
    with np.errstate(over="ignore"):
        return values.astype(np.float32)


def _encode_column(column: pa.ChunkedArray | pa.Array, feature: Feature) -> npt.NDArray[np.float64]:
    try:
        if feature.categories is None:
            numbers = pc.cast(column, pa.float64(), safe=False)
        else:
            values = pa.array(feature.categories, pa.string())
            numbers = pc.cast(pc.index_in(pc.cast(column, pa.string()), value_set=values), pa.float64())
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as error:
        raise DataError(f"Feature {feature.name!r} is no {feature.kind}: {error}.") from None
    return np.asarray(numbers.to_numpy(zero_copy_only=False), dtype=np.float64)


def _encode_value(value: Any, codes: dict[str, float] | None) -> float:
    if value is None:
        return math.nan
    return float(value) if codes is None else codes.get(value, math.nan)


class Model:
    """A verified model, ready to score; safe to share between threads."""

    def __init__(self, session: ort.InferenceSession, contract: Contract) -> None:
        self._session = session
        self.contract = contract

    @property
    def sha256(self) -> str:
        """Digest of the ONNX file, which is the model's identity in the store."""
        return self.contract.onnx_sha256

    def predict(self, x: Matrix) -> Matrix:
        """P(positive) float32 [n] of encoded rows [n, features]; DataError when the width is not the contract's."""
        if x.ndim != 2 or x.shape[1] != len(self.contract.features):
            raise DataError(f"The model takes {len(self.contract.features)} features a row, not an array {x.shape}.")
        if not len(x):
            return np.empty(0, dtype=np.float32)
        (probabilities,) = self._session.run([OUTPUT], {INPUT: np.ascontiguousarray(x, dtype=np.float32)})
        return np.asarray(probabilities[:, 1], dtype=np.float32)

    def score(self, table: pa.Table | pa.RecordBatch) -> Matrix:
        """P(positive) float32 [rows] of a features table."""
        return self.predict(self.contract.encode(table))


def load(onnx_bytes: bytes, contract_bytes: bytes, onnx_sha256: str, *, threads: int = 1) -> Model:
    """Verify a model and make it ready; DataError says what is wrong with it.

    One thread is the default because a row's bits must not depend on the batch it is scored in: with several, ONNX
    Runtime sums a single row's trees in another order.
    """
    if len(onnx_bytes) > MAX_BYTES:
        raise DataError(f"The ONNX file has {len(onnx_bytes)} bytes, more than {MAX_BYTES}; such a model is refused.")
    if sha256(onnx_bytes) != onnx_sha256:
        raise DataError(
            f"The ONNX file has sha256 {sha256(onnx_bytes)[:12]}..., not {onnx_sha256[:12]}... as asked for; "
            "it was changed or damaged. Restore it from the store or the DVC remote."
        )
    contract = Contract.parse(contract_bytes)
    if contract.onnx_sha256 != onnx_sha256:
        raise DataError(
            f"contract.json belongs to the model {contract.onnx_sha256[:12]}..., not to {onnx_sha256[:12]}...; "
            "keep the two files of one training together."
        )
    verify(onnx_bytes, features=len(contract.features))
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        session = ort.InferenceSession(onnx_bytes, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # noqa: BLE001 - ONNX Runtime's exceptions share no base class of their own
        raise DataError(f"ONNX Runtime cannot load the model: {error}") from None
    return Model(session, contract)


def verify(onnx_bytes: bytes, features: int) -> None:
    """Refuse (DataError) an ONNX file that is damaged, reaches outside itself, or has not our inputs and outputs."""
    try:
        proto = onnx.ModelProto.FromString(onnx_bytes)
    except DecodeError:
        raise DataError("The model is not an ONNX file; train it again.") from None
    _refuse_foreign_parts(proto)
    inputs = {i.name: _shape(i) for i in proto.graph.input}
    outputs = {o.name: _shape(o) for o in proto.graph.output}
    if inputs != {INPUT: ("float", None, features)} or outputs != {OUTPUT: ("float", None, 2)}:
        raise DataError(
            f"The model maps {inputs} to {outputs}; Airloop needs one float input {INPUT} [n, {features}] "
            f"and one float output {OUTPUT} [n, 2]. Export it with tasks/train.py."
        )
    try:
        onnx.checker.check_model(proto)
    except onnx.checker.ValidationError as error:
        raise DataError(f"The ONNX file is invalid: {error}") from None


def _refuse_foreign_parts(proto: onnx.ModelProto) -> None:
    nodes = list(_nodes(proto.graph))
    domains = {o.domain for o in proto.opset_import} | {node.domain for node in nodes}
    if unknown := domains - DOMAINS:
        raise DataError(f"The model uses operators of {sorted(unknown)}; only {sorted(DOMAINS)} are allowed.")
    if proto.functions or proto.training_info:
        raise DataError("The model defines functions or training graphs of its own; such a model is refused.")
    if any(t.external_data or t.data_location == onnx.TensorProto.EXTERNAL for t in _tensors(proto.graph)):
        raise DataError("The model keeps weights in other files; save them in the ONNX file itself.")


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    """``graph`` and every graph inside its nodes' attributes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in (*attribute.graphs, *([attribute.g] if attribute.HasField("g") else [])):
                yield from _graphs(inner)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for each in _graphs(graph):
        yield from each.node


def _tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    for each in _graphs(graph):
        yield from each.initializer
        for sparse in each.sparse_initializer:
            yield from (sparse.values, sparse.indices)
    for node in _nodes(graph):
        for attribute in node.attribute:
            yield from attribute.tensors
            sparse_tensors = [*attribute.sparse_tensors]
            if attribute.HasField("t"):
                yield attribute.t
            if attribute.HasField("sparse_tensor"):
                sparse_tensors.append(attribute.sparse_tensor)
            for sparse in sparse_tensors:
                yield from (sparse.values, sparse.indices)


def _shape(value: onnx.ValueInfoProto) -> tuple[str, int | None, int | None]:
    """(element type, rows, columns) of a 2-d tensor, None for an open size; ("other", None, None) for anything else."""
    tensor = value.type.tensor_type
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    if not value.type.HasField("tensor_type") or len(dims) != 2:
        return ("other", None, None)
    return ("float" if tensor.elem_type == onnx.TensorProto.FLOAT else "other", dims[0], dims[1])
