"""`airloop demo`, `up`, `down`, `status`, `logs`, `shell` and `env`: what runs on this machine."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import click

from local.verbs import verb
from local.verbs.verb import typed

if TYPE_CHECKING:
    from local.place import Place

COMPOSE = " --place compose"


@verb.verb
@click.option("--through", metavar="INTERVAL", help="Last interval to land; by default the sixth of the feed.")
@verb.place
@verb.without
@verb.model
def demo(through: str | None, place: str, without: tuple[str, ...]) -> None:
    """Watch half a year of data go round the loop.

    It plays in a home of its own, which it empties first, on ports of its own. Its services stay up at the end.

    Examples:
        airloop demo
        airloop demo --through 2013-12                            the whole year
        airloop demo --place compose --without grafana            in containers, without one of them
    """
    from local.demo import demo as play

    raise click.exceptions.Exit(play(through, containers=place == "compose", without=without))


@verb.verb
@verb.place
@verb.without
@verb.demo
def up(place: str, without: tuple[str, ...]) -> None:
    """Start Airflow, MLflow and the online service on 127.0.0.1, and wait until each is well.

    Examples:
        airloop up
        airloop up --place compose --without grafana              in containers, without one of them
    """
    from local import compose, keys, stack

    if place == "compose":
        compose.up(without)
        _print_links(compose.place(), compose.password(), COMPOSE)
    elif without:
        raise click.UsageError("--without leaves out a container: add --place compose.")
    else:
        where = stack.up()
        _print_links(where, keys.load(where.home)["admin_password"])


@verb.verb
@verb.place
@verb.demo
def down(place: str) -> None:
    """Stop what `airloop up` or the demo started; the data stay.

    Examples:
        airloop down
        airloop down --demo                                       the demo's services
        airloop down --place compose                              the containers
    """
    from local import compose, stack
    from local.env import place as here

    if place == "compose":
        compose.down()
        return
    stack.down()
    if here().home.exists():
        click.echo(f"The data stay in {here().home}; `{typed('delete')}` deletes them.")
    _say_of_the_other()


@verb.verb
@verb.demo
def status() -> None:
    """Say which services are well, with their addresses and memory; exits with 1 when one is not.

    Examples:
        airloop status
        airloop status --demo                                     the demo's services
    """
    from local import keys, processes, stack
    from local.env import place
    from local.services import services

    where = place()
    programs = services(where)
    if not stack.running(where.home):
        click.echo(
            f"Nothing of {where.home} is running. Start with `{typed('up')}`; containers are shown by `docker compose ps`."
        )
        _say_of_the_other()
        raise click.exceptions.Exit(1)
    unwell = stack.unwell(where, programs)
    for program in programs:
        click.echo(f"  {program.name:<22}{'not well' if program.name in unwell else 'well'}")
    click.echo(f"  memory                {processes.memory(processes.ours(where.home)) / 1024**2:,.0f} MB")
    _print_links(where, keys.load(where.home)["admin_password"])
    if unwell:
        raise click.exceptions.Exit(1)


@verb.verb
@click.argument("service", required=False)
@click.option("-f", "--follow", is_flag=True, help="Go on showing new lines.")
@verb.demo
def logs(service: str | None, follow: bool) -> None:
    """Show the last lines of a service's log; without SERVICE, the names of all.

    Examples:
        airloop logs
        airloop logs mlflow --follow
    """
    from local.env import place
    from local.errors import LocalError
    from local.services import services

    where = place()
    names = [program.name for program in services(where)]
    if service is None:
        click.echo("\n".join(names))
        return
    file = where.home / "logs" / f"{service}.log"
    if service not in names or not file.exists():
        raise LocalError(f"There is no log of {service!r}; services are {', '.join(names)}.")
    subprocess.run(["tail", "-n", "200", *(["-F"] if follow else []), str(file)], check=False)


@verb.verb
@verb.demo
@verb.model
def shell() -> None:
    """Open a shell in which `airflow`, `dvc` and `mlflow` mean this checkout's.

    Examples:
        airloop shell
        airloop shell --demo                                      with the demo's store and services
    """
    from local import env

    environ = env.whole()
    # Unless somebody set it: in that shell run.yaml says which model `dvc` works on.
    if not os.environ.get("AIRLOOP_MODEL"):
        environ.pop("AIRLOOP_MODEL", None)
    program = os.environ.get("SHELL") or "sh"
    click.echo("Airloop's environment; leave it with exit.")
    try:
        os.execvpe(program, [program, "-i"], environ)  # noqa: S606 - the program is the shell that was asked for
    except OSError as error:
        raise click.ClickException(
            f"The shell {program} does not start ({error.strerror}); set SHELL to another."
        ) from None


@verb.verb
@verb.demo
def env() -> None:
    """Print that environment as lines for a shell. They hold secrets.

    Examples:
        airloop env
        eval "$(airloop env)"                                     in a script
    """
    from local import leaks
    from local.env import environment

    ours = environment()
    for name in leaks.foreign(os.environ):
        if name not in ours:
            click.echo(f"unset {name}")
    for name, value in sorted(ours.items()):
        click.echo(f"export {name}={shlex.quote(value)}")


def _print_links(where: Place, password: str, more: str = "") -> None:
    click.echo(f"  Airflow         {where.airflow_url}  (user admin, password {password})")
    click.echo(f"  MLflow          {where.mlflow_url}")
    click.echo(f"  Online service  {where.online_url}/docs")
    click.echo(f"  `{typed('down' + more)}` stops them and keeps their data; `{typed('delete' + more)}` deletes those.")


def _say_of_the_other() -> None:
    """Whoever stops or looks at one of the two homes may have meant the other."""
    from local import stack
    from local.env import place, said
    from local.paths import DEMO, is_demo

    if not is_demo(said()) and stack.running(place().home / DEMO):
        click.echo("The demo's services are up; `airloop down --demo` stops them.")
