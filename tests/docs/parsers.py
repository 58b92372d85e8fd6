"""What the programs' own parsers say of words, without running anything."""

from __future__ import annotations

import argparse
import contextlib
import io
import runpy
import sys
from collections.abc import Iterator
from functools import cache

import click
import pytest

from local import cli
from local.paths import ROOT
from local.verbs.models import DVC_ARGUMENTS
from tasks.settings.settings_files import of_model
from tests.airflow_dags import DAG_IDS
from tests.kubernetes.kustomize import OVERLAYS, render


class _Parsed(BaseException):
    """The words were taken; not an Exception, so that no program handles it."""


@contextlib.contextmanager
def _refusals(words: list[str]) -> Iterator[None]:
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            yield
    except SystemExit as end:
        assert not end.code, f"{' '.join(words)}: {said.getvalue() or end.code}"


def airflow(words: list[str]) -> None:
    """Airflow's parser takes them, and the DAG is one of ours."""
    from airflow.cli.cli_parser import get_parser

    with _refusals(words):
        given = get_parser().parse_args(words)
        assert given.dag_id in DAG_IDS, given.dag_id


def dvc(words: list[str]) -> None:
    """DVC's parser takes them, and dvc.yaml has the stages."""
    from dvc.cli.parser import get_main_parser

    with _refusals(words):
        given = get_main_parser().parse_args(words)
        stages = (ROOT / "dvc.yaml").read_text()
        assert all(f"\n  {name}:" in stages for name in given.targets), given.targets


def airloop(words: list[str]) -> None:
    """Its parser takes them, the model is there, and what stands behind `--` is DVC's. A sentence may name a verb alone."""
    try:
        with click.Context(cli.airloop) as context:
            name, command, rest = cli.airloop.resolve_command(context, words)
            if not rest:
                return
            given = command.make_context(name, rest, parent=context)
    except click.exceptions.Exit:
        return  # --help
    except click.UsageError as error:
        raise AssertionError(error.format_message()) from None
    if model := given.params.get("model") or given.params.get("name"):
        assert (ROOT / of_model(model)).exists(), model
    if DVC_ARGUMENTS in given.meta:
        dvc(["repro", *given.meta[DVC_ARGUMENTS]])


def python(words: list[str]) -> None:
    """The script or module is there, and its parser takes the other words."""
    name, rest = (words[1], words[2:]) if words[0] == "-m" else (words[0], words[1:])
    file = ROOT / (f"{name.replace('.', '/')}.py" if words[0] == "-m" else name)
    file = file if file.is_file() else ROOT / name.replace(".", "/") / "__main__.py"
    assert file.is_file(), f"there is no {name}"
    if "parse_args" not in file.read_text() and "cli import main" not in file.read_text():
        assert not rest, f"{name} takes no words, and gets {rest}"
        return
    with pytest.MonkeyPatch.context() as patch, _refusals(words):
        patch.setattr(sys, "argv", [str(file), *rest])
        patch.setattr(argparse.ArgumentParser, "parse_args", _parse)
        try:
            runpy.run_path(str(file), run_name="__main__")
        except _Parsed:
            return
        raise AssertionError(f"{name} ran without reading its words")


def _parse(parser: argparse.ArgumentParser, args: list[str] | None = None, namespace: object = None) -> None:
    parsed, unknown = parser.parse_known_args(args, namespace)
    if unknown:
        parser.error(f"unrecognized arguments: {' '.join(unknown)}")
    raise _Parsed(parsed)


@cache
def kubernetes_names() -> frozenset[str]:
    """Names of all that kubernetes/ makes."""
    objects = [each for name in OVERLAYS for each in render(ROOT / "kubernetes/overlays" / name)]
    return frozenset(each["metadata"]["name"] for each in objects)
