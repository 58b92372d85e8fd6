"""The network as ONNX: preparation, layers and calibration in one graph of operators that every runtime has.

Written out rather than traced: the same bytes whatever version of an exporter is there, and one operator for each line of
``Network.forward``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tasks.modelling.model import INPUT, OUTPUT, verify
from tasks.training.neural.network import Network

OPSET, IR = 17, 8


class _Graph:
    """Nodes and constants by the names that are given them."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: object, kind: type[np.generic] = np.float32) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype=kind), name))
        return name

    def node(self, operator: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(operator, inputs, [output], f"node{len(self.nodes)}", **attributes))
        return output


def to_onnx(network: Network, inverse_temperature: float, width: int) -> bytes:
    """``network`` as ONNX with equal bytes for equal weights; ``width`` is the number of encoded features."""
    graph = _Graph()
    hidden = _layers(graph, network, _inputs(graph, network))
    scaled = graph.node("Mul", [hidden, graph.constant("inverse_temperature", inverse_temperature)], "logit")
    positive = graph.node("Sigmoid", [scaled], "positive")
    negative = graph.node("Sub", [graph.constant("one", 1.0), positive], "negative")
    graph.node("Concat", [negative, positive], OUTPUT, axis=1)
    proto = helper.make_model(
        helper.make_graph(
            graph.nodes,
            "airloop",
            [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [None, width])],
            [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [None, 2])],
            graph.constants,
        ),
        producer_name="airloop",
        opset_imports=[helper.make_opsetid("", OPSET)],
        ir_version=IR,
    )
    content: bytes = proto.SerializeToString(deterministic=True)
    verify(content, features=width)
    return content


def _inputs(graph: _Graph, network: Network) -> str:
    prepared = network.prepared
    parts = []
    for number, ((column, values), embedding) in enumerate(zip(prepared.categories, network.embeddings, strict=True)):
        code = graph.node(
            "Gather", [INPUT, graph.constant(f"column{number}", column, np.int64)], f"code{number}", axis=1
        )
        unknown = graph.node("IsNaN", [code], f"unknown{number}")
        known = graph.node("Where", [unknown, graph.constant(f"other{number}", values), code], f"known{number}")
        index = graph.node("Cast", [known], f"index{number}", to=TensorProto.INT64)
        table = graph.constant(f"embedding{number}", embedding.weight.detach().cpu().numpy())
        parts.append(graph.node("Gather", [table, index], f"embedded{number}", axis=0))
    numbers = graph.node("Gather", [INPUT, graph.constant("numbers", prepared.numbers, np.int64)], "raw", axis=1)
    null = graph.node("IsNaN", [numbers], "null")
    mean = graph.constant("mean", prepared.mean)
    filled = graph.node("Where", [null, mean, numbers], "filled")
    raised = graph.node("Max", [filled, graph.constant("low", prepared.low)], "raised")
    clipped = graph.node("Min", [raised, graph.constant("high", prepared.high)], "clipped")
    centred = graph.node("Sub", [clipped, mean], "centred")
    parts.append(graph.node("Mul", [centred, graph.constant("scale", prepared.scale)], "standardised"))
    if prepared.missing:
        picked = graph.node("Cast", [null], "null_as_number", to=TensorProto.FLOAT)
        which = graph.constant("missing", prepared.missing, np.int64)
        parts.append(graph.node("Gather", [picked, which], "missing_flags", axis=1))
    return graph.node("Concat", parts, "inputs", axis=1)


def _layers(graph: _Graph, network: Network, inputs: str) -> str:
    linears = network.linears()
    for number, layer in enumerate(linears):
        weight = graph.constant(f"weight{number}", layer.weight.detach().cpu().numpy())
        bias = graph.constant(f"bias{number}", layer.bias.detach().cpu().numpy())
        inputs = graph.node("Gemm", [inputs, weight, bias], f"sum{number}", transB=1)
        if number < len(linears) - 1:
            inputs = graph.node("Relu", [inputs], f"units{number}")
    return inputs
