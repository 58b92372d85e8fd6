"""The network: embeddings and standardised numbers into layers of rectified units. In a file it is safetensors with JSON beside it."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from safetensors.torch import load, save
from torch import nn

from tasks.modelling.model import Matrix
from tasks.training.neural.preparation import Preparation

CONFIG = "airloop"
"""The one key of the header's metadata; several would come in an order that changes."""
ARRAYS = ("low", "high", "mean", "scale")


@dataclass(frozen=True)
class Shape:
    """What the layers are, apart from the data."""

    hidden: tuple[int, ...]
    """Units of each layer."""
    embedding: int
    """Largest width of a category's embedding."""
    dropout: float
    """Share of units that are switched off while training."""


class Network(nn.Module):
    """Logits [n, 1] of encoded rows [n, features] (``Contract.encode``).

    Args:
        prepared: how rows become inputs.
        shape: of the layers.
        base: the rows' share of positives, from which learning begins.
    """

    def __init__(self, prepared: Preparation, shape: Shape, base: float = 0.5) -> None:
        super().__init__()
        self.prepared, self.shape = prepared, shape
        # Constants, and no part of what is learned; buffers, so that they are where the weights are.
        for name in ARRAYS:
            self.register_buffer(name, torch.from_numpy(getattr(prepared, name).copy()), persistent=False)
        self.register_buffer("numbers", torch.tensor(prepared.numbers, dtype=torch.int64), persistent=False)
        self.register_buffer("missing", torch.tensor(prepared.missing, dtype=torch.int64), persistent=False)
        self.embeddings = nn.ModuleList(
            nn.Embedding(values + 1, min(shape.embedding, values // 2 + 1)) for _, values in prepared.categories
        )
        width = sum(e.embedding_dim for e in self.embeddings) + len(prepared.numbers) + len(prepared.missing)
        layers: list[nn.Module] = []
        for units in shape.hidden:
            layers += [nn.Linear(width, units), nn.ReLU(), nn.Dropout(shape.dropout)]
            width = units
        last = nn.Linear(width, 1)
        nn.init.constant_(last.bias, math.log(base / (1.0 - base)))
        self.layers = nn.Sequential(*layers, last)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits [n, 1]: not [n], for a sharded network must not return a view."""
        parts = []
        for (column, values), embedding in zip(self.prepared.categories, self.embeddings, strict=True):
            code = x[:, column]
            parts.append(embedding(torch.where(code.isnan(), float(values), code).long()))
        numbers = x.index_select(1, self.numbers)
        null = numbers.isnan()
        clipped = torch.minimum(torch.maximum(torch.where(null, self.mean, numbers), self.low), self.high)
        parts.append((clipped - self.mean) * self.scale)
        if self.prepared.missing:
            parts.append(null.index_select(1, self.missing).to(x.dtype))
        logits: torch.Tensor = self.layers(torch.cat(parts, dim=1))
        return logits

    def linears(self) -> list[nn.Linear]:
        """The layers with weights, in order."""
        return [layer for layer in self.layers if isinstance(layer, nn.Linear)]


def to_native(network: Network, inverse_temperature: float) -> bytes:
    """The network and its calibration, with equal bytes for equal weights."""
    prepared = network.prepared
    config = {
        "hidden": network.shape.hidden,
        "embedding": network.shape.embedding,
        "dropout": network.shape.dropout,
        "categories": prepared.categories,
        "numbers": prepared.numbers,
        "missing": prepared.missing,
        "inverse_temperature": inverse_temperature,
    }
    arrays = {f"prepared.{name}": getattr(network, name) for name in ARRAYS}
    tensors = {name: value.detach().cpu().contiguous() for name, value in (network.state_dict() | arrays).items()}
    return pack(tensors, config)


def from_native(content: bytes) -> tuple[Network, float]:
    """The network, ready to score, and the inverse of its temperature."""
    tensors, config = unpack(content)
    prepared = Preparation(
        categories=tuple((int(column), int(values)) for column, values in config["categories"]),
        numbers=tuple(config["numbers"]),
        missing=tuple(config["missing"]),
        **{name: tensors.pop(f"prepared.{name}").numpy() for name in ARRAYS},
    )
    network = Network(prepared, Shape(tuple(config["hidden"]), config["embedding"], config["dropout"]))
    network.load_state_dict(tensors)
    return network.eval(), float(config["inverse_temperature"])


def pack(tensors: dict[str, torch.Tensor], config: Any) -> bytes:
    """Tensors and plain JSON as the bytes of one safetensors file."""
    content: bytes = save(tensors, metadata={CONFIG: json.dumps(config, sort_keys=True)})
    return content


def unpack(content: bytes) -> tuple[dict[str, torch.Tensor], Any]:
    """What ``pack`` was given."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    # Sorted: its own order differs from process to process, and in a sharded network each tensor is a collective operation.
    return dict(sorted(load(content).items())), json.loads(header["__metadata__"][CONFIG])


@torch.inference_mode()
def predict(network: Network, inverse_temperature: float, x: Matrix, rows: int = 16384) -> Matrix:
    """P(positive) float32 [n] of encoded rows [n, features], ``rows`` at a time."""
    parts: Sequence[Matrix] = [
        torch.sigmoid(network(torch.from_numpy(x[start : start + rows])) * inverse_temperature).squeeze(1).numpy()
        for start in range(0, len(x), rows)
    ]
    return np.concatenate([np.empty(0, np.float32), *parts])
