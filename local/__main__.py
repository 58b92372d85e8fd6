"""`python -m local`: up, down, delete, status, logs, env."""

from __future__ import annotations

import argparse
import os
import shlex
import subprocess
import sys
from pathlib import Path

from local.errors import LocalError
from local.place import Place


def main(argv: list[str] | None = None) -> int:
    """Runs one command; returns a process exit code."""
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args) or 0)
    except LocalError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Stopped.", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m local",
        description="Airloop's services on this machine: Airflow, MLflow and the online service, all on 127.0.0.1.",
        epilog="Where things are is said by AIRLOOP_* variables or the file .env; .env.example lists them.",
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    up = commands.add_parser("up", help="start every service and wait until each is well")
    _add_place(up)
    up.add_argument("--without", nargs="*", default=[], help="services of docker-compose.yaml to leave out")
    up.set_defaults(run=_up)
    down = commands.add_parser("down", help="stop every service; the next `up` goes on with the same data")
    _add_place(down)
    down.set_defaults(run=_down)
    backup = commands.add_parser("backup", help="copy ledger, store, registry and databases to a new folder")
    backup.add_argument("folder", type=Path)
    backup.set_defaults(run=_backup)
    restore = commands.add_parser("restore", help="put a backup into a home that is empty and not used")
    restore.add_argument("folder", type=Path)
    restore.set_defaults(run=_restore)
    delete = commands.add_parser("delete", help="stop every service and delete their data, after a question")
    delete.add_argument("--yes", action="store_true", help="delete without a question")
    _add_place(delete)
    delete.set_defaults(run=_delete)
    collect = commands.add_parser("gc", help="say what nothing needs any more, and how many bytes it holds")
    collect.add_argument("--delete", action="store_true", help="delete it")
    collect.add_argument("--names", action="store_true", help="name each thing")
    collect.set_defaults(run=_gc)
    status = commands.add_parser("status", help="say which services are well, with addresses and memory")
    status.set_defaults(run=_status)
    logs = commands.add_parser("logs", help="show a service's log")
    logs.add_argument("service", nargs="?", help="the service's name, as `status` prints it; without one, all names")
    logs.add_argument("-f", "--follow", action="store_true", help="go on showing new lines")
    logs.set_defaults(run=_logs)
    env = commands.add_parser("env", help="print the environment of all this as shell lines (it holds secrets)")
    env.set_defaults(run=_env)
    return parser


def _add_place(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--place", choices=["embedded", "compose"], default="embedded", help="processes, or containers")


def _up(args: argparse.Namespace) -> None:
    from local import compose, keys, stack

    if args.place == "compose":
        compose.up(args.without)
        _print_links(compose.place(), compose.password(), " PLACE=compose")
    else:
        where = stack.up()
        _print_links(where, keys.load(where.home)["admin_password"])


def _down(args: argparse.Namespace) -> None:
    from local import compose, stack
    from local.env import place

    if args.place == "compose":
        compose.down()
    else:
        stack.down()
        if place().home.exists():
            print(f"The data stay in {place().home}; `{_make('delete')}` deletes them.")
        _say_of_the_other()


def _delete(args: argparse.Namespace) -> None:
    from local import compose, delete

    if args.place == "compose":
        compose.delete(sure=args.yes, again=_make("delete", " PLACE=compose"))
    else:
        delete.delete(sure=args.yes, again=_make("delete"))


def _make(verb: str, more: str = "") -> str:
    """The command of make that does this, about the same home."""
    from local.env import said
    from local.paths import is_demo

    return f"make {verb}{more}{' DEMO=1' if is_demo(said()) else ''}"


def _say_of_the_other() -> None:
    """Whoever stops or looks at one of the two homes may have meant the other."""
    from local import stack
    from local.env import place, said
    from local.paths import DEMO, is_demo

    if not is_demo(said()) and stack.running(place().home / DEMO):
        print("The demo's services are up; `make down DEMO=1` stops them.")


def _backup(args: argparse.Namespace) -> None:
    from local.backup import backup

    backup(args.folder)


def _restore(args: argparse.Namespace) -> None:
    from local.restore import restore

    restore(args.folder)


def _gc(args: argparse.Namespace) -> None:
    from local.gc import gc

    gc(delete=args.delete, names=args.names)


def _status(_args: argparse.Namespace) -> int:
    from local import keys, processes, stack
    from local.env import place
    from local.services import services

    where = place()
    programs = services(where)
    if not stack.running(where.home):
        print(
            f"Nothing of {where.home} is running. Start with `{_make('up')}`; containers are shown by `docker compose ps`."
        )
        _say_of_the_other()
        return 1
    unwell = stack.unwell(where, programs)
    for program in programs:
        print(f"  {program.name:<22}{'not well' if program.name in unwell else 'well'}")
    print(f"  memory                {processes.memory(processes.ours(where.home)) / 1024**2:,.0f} MB")
    _print_links(where, keys.load(where.home)["admin_password"])
    return 1 if unwell else 0


def _print_links(where: Place, password: str, more: str = "") -> None:
    print(f"  Airflow         {where.airflow_url}  (user admin, password {password})")
    print(f"  MLflow          {where.mlflow_url}")
    print(f"  Online service  {where.online_url}/docs")
    print(f"  `{_make('down', more)}` stops them and keeps their data; `{_make('delete', more)}` deletes those.")


def _logs(args: argparse.Namespace) -> None:
    from local.env import place
    from local.services import services

    where = place()
    names = [program.name for program in services(where)]
    if args.service is None:
        print("\n".join(names))
        return
    file = where.home / "logs" / f"{args.service}.log"
    if args.service not in names or not file.exists():
        raise LocalError(f"There is no log of {args.service!r}; services are {', '.join(names)}.")
    subprocess.run(["tail", "-n", "200", *(["-F"] if args.follow else []), str(file)], check=False)


def _env(_args: argparse.Namespace) -> None:
    from local import leaks
    from local.env import environment

    ours = environment()
    for name in leaks.foreign(os.environ):
        if name not in ours:
            print(f"unset {name}")
    for name, value in sorted(ours.items()):
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    sys.exit(main())
