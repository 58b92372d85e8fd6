"""What the verbs share: their options, the variables that these set, and commands of the engine."""

from __future__ import annotations

import inspect
import os
import subprocess
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

import click

demo = click.option("--demo", is_flag=True, help="Mean the demo's home and services, not those of `airloop up`.")
model = click.option("--model", metavar="NAME", help="The model: a folder of models/. By default that of AIRLOOP_MODEL, else default_model of params.yaml.")  # fmt: skip
place = click.option(
    "--place", type=click.Choice(["embedded", "compose"]), default="embedded", help="As processes of this machine (the default), or as containers."
)  # fmt: skip
without = click.option("--without", metavar="SERVICE", multiple=True, help="Leave out this service of docker-compose.yaml; may be repeated.")  # fmt: skip
mlflow = click.option("--mlflow", metavar="URL", help="MLflow's server, where it is not this checkout's own.")


EXAMPLES = "\n\nExamples:\n"


class Verb(click.Command):
    """A command whose options `--demo` and `--model` set variables of the environment, and whose help ends with examples."""

    examples: tuple[str, ...] = ()
    """Lines that a person may type, each with a remark."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write the examples unchanged."""
        formatter.write("\n".join(["", "Examples:", *(f"  {line}" for line in self.examples), ""]))

    def invoke(self, ctx: click.Context) -> Any:
        """Set these variables, then run the function with the other options."""
        if ctx.params.pop("demo", False):
            os.environ["AIRLOOP_DEMO"] = "1"
        if name := ctx.params.pop("model", None):
            os.environ["AIRLOOP_MODEL"] = known(name)
        return super().invoke(ctx)


def verb(function: Callable[..., Any]) -> Verb:
    """Make a verb of ``function``, with its name and docstring, of which the section Examples ends the help."""
    return verb_of(Verb)(function)


def verb_of(kind: type[Verb]) -> Callable[[Callable[..., Any]], Verb]:
    """As ``verb``, of a class of its own."""

    def make(function: Callable[..., Any]) -> Verb:
        text, _, examples = inspect.cleandoc(function.__doc__ or "").partition(EXAMPLES)
        made = click.command(function.__name__, cls=kind, help=text)(function)
        made.examples = tuple(inspect.cleandoc(examples).splitlines())
        return made

    return make


def known(name: str) -> str:
    """Return the name of a model of this checkout.

    Raises:
        LocalError: there is no such model; it names the nearest, or all.
    """
    from local.env import place
    from local.errors import LocalError

    names = sorted(path.parent.name for path in (place().code / "models").glob("*/model.py"))
    if name in names:
        return name
    near = get_close_matches(name, names, 1)
    way_out = f"did you mean {near[0]}?" if near else f"choose from {', '.join(names) or 'none'}."
    raise LocalError(f"There is no model {name!r} in models/; {way_out}")


def typed(words: str) -> str:
    """The command `airloop` with these words, about the home that this process is about."""
    from local.env import said
    from local.paths import is_demo

    return f"airloop {words}{' --demo' if is_demo(said()) else ''}"


def engine(*words: str, environ: Mapping[str, str] | None = None) -> None:
    """Run a module of the engine, for this checkout's store and services; end with 1 where it fails, for it has said why.

    Args:
        words: the module's name and its arguments.
        environ: variables over those of the checkout.
    """
    from local import env

    command = [sys.executable, "-m", *words]
    done = subprocess.run(command, cwd=env.place().code, env={**env.whole(), **(environ or {})}, check=False)
    if done.returncode:
        raise click.exceptions.Exit(1)
