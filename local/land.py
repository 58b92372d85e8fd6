"""`airloop land`: intervals of the model's example feed in this home's landing zone, as if they had come, and a run that takes them in."""

from __future__ import annotations

import json

from local import env, stack
from local.airflow_api import Airflow
from local.errors import LocalError
from tasks import spec
from tasks.core.errors import ConfigError
from tasks.settings.environment import landing
from tasks.spec import ModelSpec


def land(first: str, last: str) -> None:
    """Land the intervals from ``first`` to ``last``, both included, in the order of time; say each, and what takes them in.

    Where the home's services are up, that is one run of the model's ingest DAG, which is started here.

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
    print(take_in(model.name, first, last), flush=True)


def take_in(model: str, first: str, last: str) -> str:
    """Start the run that takes landed intervals in, where Airflow is up; returns a sentence on what does.

    Args:
        model: whose they are.
        first: the first of them.
        last: the last of them.
    """
    conf, span = {"interval": first}, first
    if last != first:
        conf, span = {**conf, "through": last}, f"{first} to {last}"
    dag = f"{model}.ingest"
    by_hand = f"`airflow dags trigger {dag} -c '{json.dumps(conf)}'`"
    if not stack.running(env.place().home):
        repro = f"`airloop repro {model} --last {last}`"
        return f"No services of this home are up. {repro} takes {span} in; or `airloop up`, and then {by_hand}."
    airflow = Airflow()
    if not airflow.knows(dag):
        return f"Airflow has not read the DAG {dag} yet. When it has, {by_hand} takes {span} in."
    return f"One run takes {span} in: {airflow.url}/dags/{dag}/runs/{airflow.trigger(dag, conf)}"


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
