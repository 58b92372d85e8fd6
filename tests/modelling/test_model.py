"""A model is verified before it is loaded, and encodes rows and tables to the same bits."""

from __future__ import annotations

import math

import numpy as np
import onnx
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from tasks.core.errors import DataError
from tasks.modelling import model as models
from tasks.modelling.model import Contract, Feature
from tasks.storage.artefacts import sha256


def contract_of(content: bytes = b"") -> Contract:
    return Contract(
        features=(
            Feature(name="carrier", kind="category", categories=("AA", "B6")),
            Feature(name="temp", kind="number"),
        ),
        label="late",
        onnx_sha256=sha256(content),
    )


def stump(
    domain: str = "ai.onnx.ml", width: int = 2, columns: int | None = 2, rows: int | None = None
) -> onnx.ModelProto:
    """P = sigmoid(-1) where feature 0 is below 1, else sigmoid(+1)."""
    node = helper.make_node(
        "TreeEnsembleClassifier",
        [models.INPUT],
        ["label", models.OUTPUT],
        domain=domain,
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LT", "LEAF", "LEAF"],
        nodes_values=[1.0, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        nodes_missing_value_tracks_true=[0, 0, 0],
        class_treeids=[0, 0],
        class_nodeids=[1, 2],
        class_ids=[0, 0],
        class_weights=[-1.0, 1.0],
        classlabels_int64s=[0, 1],
        post_transform="LOGISTIC",
    )
    graph = helper.make_graph(
        [node],
        "stump",
        [helper.make_tensor_value_info(models.INPUT, TensorProto.FLOAT, [rows, width])],
        [helper.make_tensor_value_info(models.OUTPUT, TensorProto.FLOAT, [None, columns])],
    )
    opsets = [helper.make_opsetid("", 15), helper.make_opsetid(domain, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def load(proto: onnx.ModelProto) -> models.Model:
    content = proto.SerializeToString()
    return models.load(content, contract_of(content).to_bytes(), sha256(content))


def external_weights() -> onnx.ModelProto:
    proto = stump()
    tensor = onnx.TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    proto.graph.initializer.append(tensor)
    return proto


def hidden_external_weights() -> onnx.ModelProto:
    """The same, in a constant inside a branch."""
    proto = stump()
    inner = helper.make_graph(
        [helper.make_node("Constant", [], ["v"], value=external_weights().graph.initializer[0])],
        "inner",
        [],
        [helper.make_tensor_value_info("v", TensorProto.FLOAT, [1])],
    )
    proto.graph.node.append(helper.make_node("If", ["c"], ["u"], then_branch=inner, else_branch=inner))
    return proto


def with_function() -> onnx.ModelProto:
    proto = stump()
    proto.functions.add(name="f", domain="")
    return proto


def test_scores_a_table_a_batch_and_nothing() -> None:
    table = pa.table({"carrier": ["AA", "B6", None, "ZZ"], "temp": [1.0, 2.0, 3.0, None], "more": [1, 2, 3, 4]})
    up, down = 1 / (1 + math.exp(-1)), 1 / (1 + math.exp(1))
    model = load(stump())
    assert model.score(table).tolist() == pytest.approx([down, up, up, up])
    assert model.score(table.to_batches()[0]).tolist() == model.score(table).tolist()
    assert model.score(table.slice(0, 0)).shape == (0,)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["AA", "B6", "ZZ", "", None]),
            st.one_of(st.none(), st.floats(), st.integers(-(2**53), 2**53).map(float)),
        )
    )
)
def test_rows_encode_to_the_bits_of_tables(rows) -> None:
    contract = contract_of()
    table = pa.table(
        {"carrier": pa.array([r[0] for r in rows], pa.string()), "temp": pa.array([r[1] for r in rows], pa.float64())}
    )
    assert contract.encode_rows(table.to_pylist()).tobytes() == contract.encode(table).tobytes()


def test_encodes_dictionaries_integers_and_chunks() -> None:
    one = pa.table(
        {"carrier": pa.array(["B6", None, "ZZ"]).dictionary_encode(), "temp": pa.array([7, None, -1], pa.int32())}
    )
    x = contract_of().encode(pa.concat_tables([one, one.slice(0, 1)]))
    assert x.dtype == np.float32
    np.testing.assert_array_equal(x, [[1, 7], [np.nan, np.nan], [np.nan, -1], [1, 7]])


def test_says_which_feature_is_absent_or_of_the_wrong_kind() -> None:
    with pytest.raises(DataError, match="temp"):
        contract_of().encode(pa.table({"carrier": ["AA"]}))
    with pytest.raises(DataError, match="'temp' is no number"):
        contract_of().encode(pa.table({"carrier": ["AA"], "temp": ["warm"]}))
    with pytest.raises(DataError, match="temp"):
        contract_of().encode_rows([{"carrier": "AA"}])


@pytest.mark.parametrize(
    ("proto", "sentence"),
    [
        (stump(domain="com.example"), "com.example"),
        (external_weights(), "weights in other files"),
        (hidden_external_weights(), "weights in other files"),
        (with_function(), "functions"),
        (stump(width=3), "Airloop needs one float input"),
        (stump(columns=3), "Airloop needs one float input"),
        (stump(rows=1), "Airloop needs one float input"),
    ],
)
def test_refuses_before_onnx_runtime_sees_it(proto, sentence: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(models.ort, "InferenceSession", lambda *_, **__: pytest.fail("it reached ONNX Runtime"))
    with pytest.raises(DataError, match=sentence):
        load(proto)


@pytest.mark.parametrize("damage", [lambda b: b[:-9], lambda b: b"", lambda b: b[:40] + b"\xff" + b[41:]])
def test_refuses_damaged_bytes_even_under_their_own_digest(damage) -> None:
    content = damage(stump().SerializeToString())
    with pytest.raises(DataError):
        models.load(content, contract_of(content).to_bytes(), sha256(content))


def test_refuses_other_bytes_other_contracts_and_giants(monkeypatch: pytest.MonkeyPatch) -> None:
    content = stump().SerializeToString()
    contract = contract_of(content).to_bytes()
    with pytest.raises(DataError, match="changed or damaged"):
        models.load(content + b" ", contract, sha256(content))
    with pytest.raises(DataError, match="keep the two files"):
        models.load(content, contract_of(b"another").to_bytes(), sha256(content))
    for text in (b"{}", b"", b"[", contract.replace(b'"number"', b'"category"')):
        with pytest.raises(DataError, match="not a feature contract"):
            models.load(content, text, sha256(content))
    monkeypatch.setattr(models, "MAX_BYTES", len(content) - 1)
    with pytest.raises(DataError, match="more than"):
        models.load(content, contract, sha256(content))


def test_refuses_rows_of_another_width() -> None:
    with pytest.raises(DataError, match="2 features"):
        load(stump()).predict(np.zeros((1, 3), dtype=np.float32))


def test_contract_survives_its_bytes() -> None:
    contract = contract_of()
    assert Contract.parse(contract.to_bytes()) == contract
