"""`airloop backup`, `restore`, `gc` and `delete`: what a home keeps."""

from __future__ import annotations

from pathlib import Path

import click

from local.verbs import verb

_folder = click.argument("folder", type=click.Path(path_type=Path))


@verb.verb
@_folder
@verb.demo
def backup(folder: Path) -> None:
    """Copy ledger, store, registry and databases to the new FOLDER, while they are used.

    Examples:
        airloop backup /mnt/elsewhere/airloop
    """
    from local.backup import backup as copy

    copy(folder)


@verb.verb
@_folder
@verb.demo
def restore(folder: Path) -> None:
    """Put the backup in FOLDER into a home that is empty and not used.

    Examples:
        airloop restore /mnt/elsewhere/airloop
    """
    from local.restore import restore as put_back

    put_back(folder)


@verb.verb
@click.option("--delete", is_flag=True, help="Delete it.")
@click.option("--names", is_flag=True, help="Name each thing.")
@verb.demo
def gc(delete: bool, names: bool) -> None:
    """Say what nothing needs any more, and how many bytes it holds.

    How long things are kept by age is said by AIRLOOP_RETAIN_* (.env.example).

    Examples:
        airloop gc
        airloop gc --names                                        each thing by name
        airloop gc --delete                                       delete it
    """
    from local.gc import gc as collect

    collect(delete=delete, names=names)


@verb.verb
@click.option("--yes", is_flag=True, help="Delete without a question.")
@verb.place
@verb.demo
def delete(yes: bool, place: str) -> None:
    """Stop the services and delete their data, after a question.

    Examples:
        airloop delete
        airloop delete --demo --yes                               the demo's, without a question
        airloop delete --place compose                            containers and their volumes
    """
    from local import compose
    from local import delete as embedded

    if place == "compose":
        compose.delete(sure=yes, again=verb.typed("delete --place compose"))
    else:
        embedded.delete(sure=yes, again=verb.typed("delete"))
