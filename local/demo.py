"""`airloop demo`: half a year of real data arrives interval by interval at a real Airflow. Drives the DAGs, decides nothing.

python -m local.demo INTERVAL FILE     inside a container of the stack: play through the interval, leave the report in the file
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from local import compose, demo_report, keys
from local.airflow_api import Airflow
from local.env import place, said, take_on
from local.errors import LocalError
from local.paths import ROOT
from local.progress import waiting
from local.trickle import Trickle
from tasks.core.errors import AirloopError
from tasks.settings import params
from tasks.settings.environment import default_model, landing, store
from tasks.settings.environment import environment as tasks_environment
from tasks.spec import example
from tasks.storage.artefacts import to_json, write_atomic

DAGS = ("ingest", "score", "monitor", "train", "deploy")
INTERVALS = 6
"""Intervals that are landed by default."""
PARSE_SECONDS = 90
RUN_SECONDS = 3600


class Demo:
    """One play of the loop; every line it prints is read from Airflow or the store."""

    def __init__(self, console: Console, airflow: Airflow, online_url: str) -> None:
        self.console = console
        self.airflow = airflow
        self.store = store()
        self.params = params.of_model(tasks_environment().code, tasks_environment().model)
        self.trickle = Trickle(online_url, self.store)
        self.example = example()
        self.feed = self.example.read(self.example.source(), ())
        self.begun = time.monotonic()

    def _dag(self, name: str) -> str:
        return f"{tasks_environment().model}.{name}"

    def play(self, through: str) -> None:
        """Land each interval and wait until the loop has come to rest; LocalError when a task fails for good."""
        self._wait_for_dags()
        calendar = params.calendar(tasks_environment().model)
        for interval in calendar.cadence.span(calendar.first, through):
            with self._doing(f"{interval}: landing"):
                self._land(interval)
            self._follow(
                self._dag("ingest"), self.airflow.trigger(self._dag("ingest"), {"interval": interval}), interval
            )
            self._say(demo_report.landed_line(self.store, interval))
            if interval >= self.params.monitor.warmup_through:
                self._settle(interval)

    def _settle(self, interval: str) -> None:
        """Follow what the landing set off: score, monitor and, where the labels ask for it, train and deploy."""
        self._follow(self._dag("score"), self._started(self._dag("score"), interval), interval)
        run = self._started(self._dag("monitor"), interval)
        self._follow(self._dag("monitor"), run, interval)
        self._say(demo_report.monitor_line(self.store, interval))
        if self.airflow.tasks(self._dag("monitor"), run)["request_retrain"]["state"] != "success":
            return
        run = self._started(self._dag("train"), interval)
        self._follow(self._dag("train"), run, interval)
        self._say(demo_report.gate_line(self.store, interval))
        if self.airflow.tasks(self._dag("train"), run)["register"]["state"] != "success":
            return
        self._follow(self._dag("deploy"), self._started(self._dag("deploy"), interval), interval)
        self._say(demo_report.live_line(self.store))
        if not self.trickle.running:
            self.trickle.start()

    def _land(self, interval: str) -> None:
        self.example.land(interval, self.feed, landing())

    def _started(self, dag: str, interval: str, seconds: float = 120) -> str:
        """Id of the run of ``dag`` for ``interval`` that an asset event starts; LocalError when none comes."""
        with self._doing(f"{interval}: waiting for {dag}"):
            for _ in self._waiting(lambda: f"{dag} of {interval} to begin", seconds):
                found = [r for r in self.airflow.runs(dag) if r.get("partition_key") == interval]
                if found:
                    return str(found[-1]["dag_run_id"])
        raise LocalError(
            f"No run of {dag} was started for {interval}; see {self.airflow.url}/dags/{dag} and the scheduler's log."
        )

    def _follow(self, dag: str, run_id: str, interval: str) -> None:
        """Wait for a run, showing the task at work; LocalError with the failed task's last words, or when it takes too long."""
        working: list[str] = []
        with self._doing(f"{interval}: {dag}") as show:
            for _ in self._waiting(lambda: " ".join([dag, "of", interval, *working]), RUN_SECONDS):
                run = self.airflow.run(dag, run_id)
                if run["state"] == "success":
                    return
                tasks = self.airflow.tasks(dag, run_id)
                if run["state"] == "failed":
                    raise LocalError(self._last_words(dag, run_id, tasks))
                working[:] = [name for name, task in tasks.items() if task["state"] == "running"]
                show(f"{interval}: {dag} {' '.join(working)}")
        raise LocalError(f"{dag} of {interval} has not ended after {RUN_SECONDS} s; see {self.airflow.url}/dags/{dag}.")

    def _last_words(self, dag: str, run_id: str, tasks: dict[str, dict[str, object]]) -> str:
        failed = [(name, task) for name, task in tasks.items() if task["state"] == "failed"]
        if not failed:
            return f"{dag} failed; see {self.airflow.url}/dags/{dag}."
        name, task = failed[0]
        log = self.airflow.log(dag, run_id, name, int(str(task["try_number"]))).splitlines()
        return f"{dag}.{name} failed. Its log ends with:\n" + "\n".join(f"  {line}" for line in log[-12:])

    def _wait_for_dags(self) -> None:
        missing = list(map(self._dag, DAGS))
        with self._doing("Airflow reads the DAGs"):
            for _ in self._waiting(lambda: f"Airflow to read {' '.join(missing)}", PARSE_SECONDS):
                missing[:] = [dag for dag in missing if not self.airflow.knows(dag)]
                if not missing:
                    return
        errors = (
            "\n".join(self.airflow.import_errors())
            or "no import error is reported; its log says more: `airloop logs airflow-dag-processor --demo`"
        )
        raise LocalError(f"Airflow does not know {', '.join(missing)}: {errors}")

    def _waiting(self, what: Callable[[], str], seconds: float) -> Iterator[None]:
        return waiting(what, seconds, 0.5, said=not self.console.is_terminal)

    def _say(self, line: str) -> None:
        elapsed = time.monotonic() - self.begun
        self.console.print(f"[dim]{elapsed:5.0f} s[/]  {line}", highlight=False, soft_wrap=True)

    @contextmanager
    def _doing(self, what: str) -> Iterator[Callable[[str], None]]:
        """A spinner on a terminal; nothing where output goes to a file."""
        if not self.console.is_terminal:
            yield lambda _: None
            return
        with self.console.status(what) as status:
            yield status.update


def _check(through: str) -> None:
    """LocalError unless ``through`` is an interval that the example has, and one with a model to see."""
    first, last = example().first_model, example().last
    if through not in params.calendar(tasks_environment().model).cadence.span(first, last):
        raise LocalError(
            f"--through {through} is no interval from {first} to {last}: the example's first model comes when {first} has "
            f"landed, and {last} is its last interval."
        )


def _play(through: str, console: Console, airflow: Airflow, online_url: str) -> dict[str, Any]:
    """Play; returns what demo_report collects of it."""
    demo = Demo(console, airflow, online_url)
    try:
        demo.play(through)
    finally:
        online = demo.trickle.stop()
    return demo_report.collect(demo.store, online)


def _embedded(through: str, console: Console) -> tuple[dict[str, Any], str]:
    """Start services in the demo's own home, emptied before, and play on them; returns the report and the login."""
    from local import delete, stack  # what starts services is not in the images

    home = place().home
    console.print(
        f"The demo has a home of its own, {home}, which each `airloop demo` empties, and ports of its own; "
        f"what `airloop up` keeps in {home.parent} is not touched.",
        highlight=False,
        soft_wrap=True,
    )
    stack.down()
    token = keys.admin_token(keys.load(home))
    delete.empty(home)
    if (
        os.environ.get("AIRLOOP_ADMIN_TOKEN") == token
    ):  # of the secrets that have gone: the next commands take the new ones'
        del os.environ["AIRLOOP_ADMIN_TOKEN"]
    where = stack.up()
    return _play(through, console, Airflow(), where.online_url), keys.load(where.home)["admin_password"]


def _compose(through: str, without: Sequence[str]) -> tuple[dict[str, Any], str]:
    """Start docker-compose.yaml afresh, as the demo's own project, and play inside; returns the report and the login."""
    source = example().source()  # with this machine's own way to the package index
    compose.delete(sure=True)
    compose.up(without)
    report = compose.play(through, source)
    if stopped := report.get("stopped"):
        raise LocalError(stopped)
    return report, compose.password()


def _within(through: str, console: Console, result: Path) -> int:
    """Play in a container of the stack, and leave the report, or why it stopped, in the file ``result``."""
    airflow = Airflow(
        os.environ["AIRLOOP_AIRFLOW_URL"], os.environ["AIRLOOP_ADMIN_PASSWORD"], os.environ["AIRFLOW__API__BASE_URL"]
    )
    try:
        report = _play(through, console, airflow, os.environ["AIRLOOP_DEMO_ONLINE_URL"])
    except (LocalError, AirloopError) as error:
        report = {"stopped": str(error)}
    write_atomic(result, to_json(report))
    return 0


def _project() -> None:
    """From here on docker compose means the demo's own project and ports, and what is fetched goes to its home."""
    model = said().get("AIRLOOP_MODEL") or default_model(ROOT)
    own = {"AIRLOOP_HOME": str(place().home), "AIRLOOP_DEMO": "", "AIRLOOP_MODEL": model}
    os.environ.update({**compose.settings(), **own})


def _lineage(containers: bool) -> str:
    """The command that says where a prediction of the demo comes from."""
    if containers:
        return f"docker compose -p {compose.project()} run --rm airflow-cli python -m tasks.lineage {{}}"
    return "airloop lineage --demo {}"


def demo(through: str | None, *, containers: bool, without: Sequence[str]) -> int:
    """Start clean, play, report; leave the services up. Returns the exit code.

    Args:
        through: last interval to land; by default the sixth of the feed.
        containers: play in docker-compose.yaml's services, not in processes of this machine.
        without: services of that file to leave out.
    """
    console = _console()
    begun = time.monotonic()
    suffix = " --place compose" if containers else ""
    what_is_up = f"What is up stays up: `airloop down{suffix} --demo` stops it, `airloop demo{suffix}` starts afresh."
    try:
        os.environ["AIRLOOP_DEMO"] = "1"
        _project() if containers else take_on()  # before anything of tasks reads it
        through = through or _usual()
        _check(through)
        played, password = _compose(through, without) if containers else _embedded(through, console)
        where = compose.place() if containers else place()
        report = demo_report.write(played, demo_report.links(where, password), time.monotonic() - begun)
        demo_report.show(report, console, _lineage(containers), suffix)
    except (LocalError, AirloopError) as error:
        console.print(f"[bold red]Stopped:[/] {escape(str(error))}", highlight=False)
        console.print(what_is_up, highlight=False)
        return 1
    except KeyboardInterrupt:
        console.print(f"\nInterrupted. {what_is_up}", highlight=False)
        return 130
    return 0


def _console() -> Console:
    return Console() if sys.stdout.isatty() else Console(width=120)  # a file has no width of its own


def _usual() -> str:
    """The sixth interval of the example, which for months is half a year, or the one that brings its first model, if that is later."""
    calendar, shown = params.calendar(tasks_environment().model), example()
    return max(calendar.cadence.span(calendar.first, shown.last)[:INTERVALS][-1], shown.first_model)


if __name__ == "__main__":
    sys.exit(_within(sys.argv[1], _console(), Path(sys.argv[2])))
