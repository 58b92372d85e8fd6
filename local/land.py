"""`airloop land`: intervals of the model's example feed in this home's landing zone, as if they had come."""

from __future__ import annotations

from local import env
from local.errors import LocalError
from tasks import spec
from tasks.core.errors import ConfigError
from tasks.settings.environment import landing
from tasks.spec import ModelSpec


def land(first: str, last: str) -> None:
    """Land the intervals from ``first`` to ``last``, both included, in the order of time; say each.

    Raises:
        LocalError: the model has no example feed; it says how its own feed lands one.
        ConfigError: these are no intervals of the example.
    """
    env.take_on()
    model = spec.current()
    if model.example is None:
        raise LocalError(
            f"The model {model.name} has no example feed; its own lands an interval by "
            f"`{model.land_command.format(interval=first)}`."
        )
    wanted, example = _wanted(model, first, last), model.example
    feed, zone = example.read(example.source(), wanted), landing()
    for interval in wanted:
        counts = example.land(interval, feed, zone)
        rows = ", ".join(f"{number:,} {table}" for table, number in counts.items())
        print(f"{interval}: {rows} landed in {zone.uri(interval)}", flush=True)


def _wanted(model: ModelSpec, first: str, last: str) -> list[str]:
    assert model.example
    wanted = model.cadence.span(first, last)
    if not wanted:
        raise ConfigError(f"--through {last} is before --from {first}; swap them.")
    if not {*wanted} <= {*model.cadence.span(model.first, model.example.last)}:
        span = first if first == last else f"{first} to {last}"
        raise ConfigError(
            f"The example of {model.name} does not have {span}; it has {model.first} to {model.example.last}."
        )
    return wanted
