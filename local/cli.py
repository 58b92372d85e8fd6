"""`airloop`: what people do with models from a terminal. Each verb is a function; what it needs is imported when it is asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

DVC_ARGUMENTS = "airloop.dvc_arguments"


class _WithRest(click.Command):
    """A command whose words behind `--` are another program's, whether or not NAME stands before."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        cut = args.index("--") if "--" in args else len(args)
        ctx.meta[DVC_ARGUMENTS] = args[cut + 1 :]
        return super().parse_args(ctx, args[:cut])

    def collect_usage_pieces(self, ctx: click.Context) -> list[str]:
        return [*super().collect_usage_pieces(ctx), "[-- DVC ARGUMENTS]"]


_name = click.argument("name", required=False)
_first = click.option("--first", metavar="INTERVAL", help="First interval; by default that of the model's span.")
_last = click.option("--last", metavar="INTERVAL", help="Last interval; by default that of the model's span.")


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
def main() -> None:
    """Work with the models of this checkout: each is a folder of models/."""


@main.command()
@_name
@_first
@_last
def render(name: str | None, first: str | None, last: str | None) -> None:
    r"""Write the model's spec.json from its model.py, and run.yaml: the model and the intervals that dvc.yaml works on.

    NAME is a folder of models/; by default the default_model of params.yaml.

    \b
    airloop render                    the default model and its own span
    airloop render NAME --last 2013-06
    """
    with _errors():
        _render(_checkout(), name, first, last)


@main.command(cls=_WithRest)
@_name
@_first
@_last
@click.pass_context
def repro(ctx: click.Context, name: str | None, first: str | None, last: str | None) -> None:
    r"""Write spec.json and run.yaml, then run `dvc repro`: every stage whose code, settings or data changed.

    NAME is a folder of models/; by default the default_model of params.yaml. What stands behind -- goes to `dvc repro`.

    \b
    airloop repro                     the default model and its own span
    airloop repro NAME --first 2013-01 --last 2013-03
    airloop repro NAME -- train       only that stage, and what it needs
    airloop repro -- --force gate     the default model's gate again, though nothing changed
    """
    with _errors():
        from local import env

        root = _checkout()
        model = _render(root, name, first, last)
        command = [sys.executable, "-m", "dvc", "repro", *ctx.meta[DVC_ARGUMENTS]]
        environ = {**env.whole(), "AIRLOOP_MODEL": model}
        ctx.exit(subprocess.run(command, cwd=root, env=environ, check=False).returncode)


def _checkout() -> Path:
    from local.env import place

    return place().code


def _render(root: Path, name: str | None, first: str | None, last: str | None) -> str:
    """Write run.yaml at ``root`` and the model's spec.json, and say so; returns the model."""
    from tasks.common import settings_files

    made = settings_files.render(root, name, first, last)
    command = [sys.executable, "-m", "tasks.spec_file", str(made["model"])]
    if code := subprocess.run(command, cwd=root, env=os.environ | {"PYTHONPATH": str(root)}, check=False).returncode:
        sys.exit(code)  # it has said why
    intervals = sorted(made["intervals"])
    click.echo(f"{settings_files.RUN}: {made['model']}, {intervals[0]} to {intervals[-1]}")
    return str(made["model"])


@contextmanager
def _errors() -> Iterator[None]:
    """End the process with an error's sentence."""
    from local.errors import LocalError
    from tasks.common.errors import AirloopError

    try:
        yield
    except (AirloopError, LocalError) as error:
        raise click.ClickException(str(error)) from None


if __name__ == "__main__":
    main(prog_name="airloop")
