"""What pods leave in the store under their run: the result that alone counts as success, and what they used."""

from __future__ import annotations

from typing import Any

from tasks.settings.pod_params import Prices
from tasks.storage.artefacts import Store, sha256, to_json


def record(run: str, pod: str, result: dict[str, Any], store: Store) -> str:
    """Keep ``result`` as what ``pod`` achieved; returns its digest. Written last, when all it names is in the remote."""
    return store.write(_name(run, pod), to_json(result))


def recorded(run: str, pod: str, store: Store) -> dict[str, Any]:
    """What ``pod`` recorded, with the ``digest`` of the record; empty when it recorded nothing."""
    try:
        data = store.read(_name(run, pod))
    except FileNotFoundError:
        return {}
    result: dict[str, Any] = store.read_json(_name(run, pod))
    return {**result, "digest": sha256(data)}


def keep_usage(run: str, used: dict[str, Any], store: Store) -> None:
    """Keep what a pod used, whatever came of it: pod, stage, seconds, cpu (cores), memory_gib, gpus, spot, outcome."""
    store.write_json(f"runs/{run}/usage/{used['pod']}.json", used)


def usage(run: str, store: Store) -> list[dict[str, Any]]:
    """What each pod of ``run`` used, lost ones too."""
    return [store.read_json(name) for name in store.names(f"runs/{run}/usage")]


def cost(used: list[dict[str, Any]], prices: Prices) -> dict[str, float]:
    """Core, GiB and GPU seconds of these pods, and what they cost together in ``prices.currency``."""
    total = {"cpu_seconds": 0.0, "memory_gib_seconds": 0.0, "gpu_seconds": 0.0, "cost": 0.0}
    for use in used:
        held = {"cpu": use["cpu"], "memory_gib": use["memory_gib"], "gpu": use["gpus"]}
        for name, amount in held.items():
            total[f"{name}_seconds"] += amount * use["seconds"]
        hourly = sum(amount * getattr(prices, f"{name}_hour") for name, amount in held.items())
        total["cost"] += hourly * use["seconds"] / 3600 * (prices.spot_factor if use["spot"] else 1)
    return {name: round(value, 4) for name, value in total.items()}


def _name(run: str, pod: str) -> str:
    return f"runs/{run}/pods/{pod}.json"
