"""A file a model family: what `train.family` calls it is what it is called here."""

from __future__ import annotations

from tasks.training.family import Family


def named(name: str) -> Family:
    """The family that `train.family` calls ``name``; imported now, because each brings its own heavy library."""
    match name:
        case "xgboost":
            from tasks.training.families import xgboost

            return xgboost
        case "mlp":
            from tasks.training.families import mlp

            return mlp
        case _:
            raise AssertionError(f"params.py lets through the family {name!r}, which is no file of families/")
