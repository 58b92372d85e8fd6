"""`airloop land`, `render`, `repro`, `lineage`, `rebuild`, `rollback` and `heal`: what is about models."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click

from local.verbs import verb

DVC_ARGUMENTS = "airloop.dvc_arguments"


class WithRest(verb.Verb):
    """A verb whose words behind `--` are another program's, whether or not NAME stands before."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Keep these words for the function, and parse the others."""
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta[DVC_ARGUMENTS] = args[cut + 1 :]
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        """Show that there may be such words."""
        return [*super().collect_usage_pieces(ctx), "[-- DVC ARGUMENTS]"]


_name = click.argument("name", required=False)
_version = click.argument("version", type=click.IntRange(min=1))
_first = click.option("--first", metavar="INTERVAL", help="First interval; by default that of the model's span.")
_last = click.option("--last", metavar="INTERVAL", help="Last interval; by default that of the model's span.")


@verb.verb
@click.argument("interval", required=False)
@click.option("--from", "first", metavar="INTERVAL", help="First of several intervals.")
@click.option("--through", "last", metavar="INTERVAL", help="Last of them.")
@verb.model
@verb.demo
def land(interval: str | None, first: str | None, last: str | None) -> None:
    """Land intervals of the model's example feed, as if its data had come.

    Where this home's services are up, one run of the model's ingest DAG takes in all that was landed, and is started here; else
    `airloop repro` does.

    Examples:
        airloop land 2013-04
        airloop land --from 2013-01 --through 2013-04
    """
    from local.land import land as landed

    if interval and not (first or last):
        first = last = interval
    if interval not in {None, first} or not (first and last):
        raise click.UsageError("Say which: one INTERVAL, or --from INTERVAL --through INTERVAL.")
    landed(first, last)


@verb.verb
@_name
@_first
@_last
def render(name: str | None, first: str | None, last: str | None) -> None:
    """Write the model's spec.json from its model.py, and run.yaml: the model and the intervals that dvc.yaml works on.

    NAME is a folder of models/; by default the default_model of params.yaml.

    Examples:
        airloop render                                            the default model and its own span
        airloop render NAME --last 2013-06
    """
    _render(_checkout(), name, first, last)


@verb.verb_of(WithRest)
@_name
@_first
@_last
@click.pass_context
def repro(ctx: click.Context, name: str | None, first: str | None, last: str | None) -> None:
    """Write spec.json and run.yaml, then run `dvc repro`: every stage whose code, settings or data changed.

    NAME is a folder of models/; by default the default_model of params.yaml. What stands behind -- goes to `dvc repro`.

    Examples:
        airloop repro                                             the default model and its own span
        airloop repro NAME --first 2013-01 --last 2013-03
        airloop repro NAME -- train                               only that stage, and what it needs
        airloop repro -- --force gate                             the default model's gate again, though nothing changed
    """
    from local import env

    root = _checkout()
    model = _render(root, name, first, last)
    command = [sys.executable, "-m", "dvc", "repro", *ctx.meta[DVC_ARGUMENTS]]
    environ = {**env.whole(), "AIRLOOP_MODEL": model}
    raise click.exceptions.Exit(subprocess.run(command, cwd=root, env=environ, check=False).returncode)


@verb.verb
@click.argument("prediction")
@click.option("--json", "as_json", is_flag=True, help="For machines.")
@verb.demo
def lineage(prediction: str, as_json: bool) -> None:
    """Say where a prediction comes from: which model, data and code, and who let that model through.

    PREDICTION is an id: from the column prediction_id of a batch, or from an answer of the online service. It begins with the model's NAME.

    Examples:
        airloop lineage NAME.2013-04.v1.0123456789abcdef       a batch prediction
        airloop lineage --json NAME.online.2013-04-05.v1.0123456789abcdef
    """
    verb.engine("tasks.lineage", *(["--json"] if as_json else []), "--", prediction)


@verb.verb
@_version
@verb.model
@verb.demo
def rebuild(version: int) -> None:
    """Make a registered model again in a clean clone, from its record alone, and compare.

    Examples:
        airloop rebuild 2
        airloop rebuild 2 --model NAME
    """
    verb.engine("tasks.rebuild", str(version))


@verb.verb
@_version
@click.option("--reason", metavar="TEXT", help="Why; the ledger keeps it.")
@verb.model
@verb.mlflow
@verb.demo
def rollback(version: int, reason: str | None, mlflow: str | None) -> None:
    """Put an earlier model version live, and make service and MLflow agree.

    Examples:
        airloop rollback 1
        airloop rollback 1 --reason "wrong about April"
    """
    why = [f"--why={reason}"] if reason else []
    verb.engine("tasks.deploy", "--rollback", str(version), *why, environ=_registry(mlflow))


@verb.verb
@verb.model
@verb.mlflow
@verb.demo
def heal(mlflow: str | None) -> None:
    """Make the online service and MLflow agree with the ledger again.

    Examples:
        airloop heal
        airloop heal --model NAME
    """
    verb.engine("tasks.deploy", "--reconcile", environ=_registry(mlflow))


def _registry(url: str | None) -> dict[str, str]:
    return {"MLFLOW_TRACKING_URI": url} if url else {}


def _checkout() -> Path:
    from local.env import place

    return place().code


def _render(root: Path, name: str | None, first: str | None, last: str | None) -> str:
    """Write run.yaml at ``root`` and the model's spec.json, and say so; returns the model."""
    from tasks.settings import settings_files

    made = settings_files.render(root, name, first, last)
    command = [sys.executable, "-m", "tasks.spec_file", str(made["model"])]
    if subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=False).returncode:
        raise click.exceptions.Exit(1)  # it has said why
    intervals = sorted(made["intervals"])
    click.echo(f"{settings_files.RUN}: {made['model']}, {intervals[0]} to {intervals[-1]}")
    return str(made["model"])
