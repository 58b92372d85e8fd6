"""`python -m local`: up, down, status, logs, env."""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys

from local.errors import LocalError


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
    down = commands.add_parser("down", help="stop every service and delete their data")
    down.add_argument("--keep", action="store_true", help="stop only; the next `up` goes on with the same data")
    _add_place(down)
    down.set_defaults(run=_down)
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
        _print_links(compose.password(), "make down PLACE=compose")
    else:
        _print_links(keys.load(stack.up().home)["admin_password"])


def _down(args: argparse.Namespace) -> None:
    from local import compose, stack

    (compose if args.place == "compose" else stack).down(keep=args.keep)


def _status(_args: argparse.Namespace) -> int:
    from local import keys, processes, stack
    from local.env import place
    from local.services import services

    where = place()
    programs = services(where)
    if not stack.running(where.home):
        print(
            "Nothing is running as processes of this machine. Start with `make up`; containers are shown by `docker compose ps`."
        )
        return 1
    unwell = stack.unwell(where, programs)
    for program in programs:
        print(f"  {program.name:<22}{'not well' if program.name in unwell else 'well'}")
    print(f"  memory                {processes.memory(processes.ours(where.home)) / 1024**2:,.0f} MB")
    _print_links(keys.load(where.home)["admin_password"])
    return 1 if unwell else 0


def _print_links(password: str, down: str = "make down") -> None:
    from local.env import place

    where = place()
    print(f"  Airflow         {where.airflow_url}  (user admin, password {password})")
    print(f"  MLflow          {where.mlflow_url}")
    print(f"  Online service  {where.online_url}/docs")
    print(f"  `{down}` stops them and deletes their data.")


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
    from local.env import environment

    for name, value in sorted(environment().items()):
        print(f"export {name}={shlex.quote(value)}")


if __name__ == "__main__":
    sys.exit(main())
