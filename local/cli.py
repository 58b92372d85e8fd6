"""`airloop`: what people do from a terminal. The verbs are in local/verbs/, and load what they need when they are asked for."""

from __future__ import annotations

import os
import sys
from typing import Any

import click

from local.verbs import data, models, services

SECTIONS: dict[str, tuple[click.Command, ...]] = {
    "Services of this machine": (services.demo, services.up, services.down, services.status, services.logs, services.shell, services.env),
    "Data and stages, without Airflow": (models.land, models.render, models.repro),
    "Models and their predictions": (models.lineage, models.rebuild, models.rollback, models.heal),
    "What a home keeps": (data.backup, data.restore, data.gc, data.delete),
}  # fmt: skip

WHOLE = 1000
"""Letters of a verb's first sentence, which are shown all."""


class Airloop(click.Group):
    """The verbs by section; a verb that raises one of our errors ends with its sentence."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Names in the order of the sections."""
        return [str(command.name) for commands in SECTIONS.values() for command in commands]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        """Write a list for each section."""
        for title, commands in SECTIONS.items():
            with formatter.section(title):
                formatter.write_dl([(str(command.name), command.get_short_help_str(WHOLE)) for command in commands])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb; an error of the project, or a full disk, is a sentence and exit code 1."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            click.echo("Stopped.", err=True)
            raise click.exceptions.Exit(130) from None
        except (click.ClickException, click.exceptions.Exit):
            raise
        except Exception as error:
            if (sentence := _sentence(error)) is None:
                raise
            raise click.ClickException(sentence) from None


@click.group(
    cls=Airloop,
    invoke_without_command=True,
    subcommand_metavar="VERB [WORDS]...",
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120},
    epilog="`airloop VERB --help` has examples. Where things are is said by AIRLOOP_* variables or the file .env; .env.example lists them.",
)
@click.pass_context
def airloop(ctx: click.Context) -> None:
    """Work with this checkout: its services, its models (each is a folder of models/) and what they keep."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())


for _commands in SECTIONS.values():
    for _command in _commands:
        airloop.add_command(_command)


def main() -> None:
    """Be the program `airloop`."""
    _read_names_as_utf8()
    airloop(prog_name="airloop")


def _read_names_as_utf8() -> None:
    """Names, logs and records are UTF-8 in every locale: begin again where Python took another encoding from it."""
    os.environ["PYTHONUTF8"] = "1"  # of the processes that it starts
    if sys.getfilesystemencoding() != "utf-8":
        os.execv(sys.executable, [sys.executable, "-X", "utf8", "-m", "local.cli", *sys.argv[1:]])  # noqa: S606 - this program again, which needs no shell


def _sentence(error: Exception) -> str | None:
    """What an error says to a person; None for a bug, whose traceback is needed."""
    from local.errors import LocalError
    from tasks.core.errors import AirloopError
    from tasks.core.full_disk import no_space

    return str(error) if isinstance(error, (AirloopError, LocalError)) else no_space(error)


if __name__ == "__main__":
    main()
