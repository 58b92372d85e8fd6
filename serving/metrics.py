"""What Prometheus sees of the service."""

from __future__ import annotations

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from serving.live import Live

SECONDS = (0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5)


class Families:
    """The metrics of all models, in one registry an app, so that several apps in one process (tests) do not add up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        gauge, counter = self._gauge, self._counter
        self.requests = counter("requests", "Requests for predictions by HTTP status.", "status")
        self.seconds = Histogram(
            "airloop_online_request_seconds",
            "Time to answer a request for predictions.",
            ["model"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self.in_flight = gauge("in_flight", "Requests for predictions being answered.")
        self.predictions = counter("predictions", "Rows predicted.", "degraded")
        self.errors = counter("load_errors", "Times a model, state or the store was refused or unreadable.", "what")
        self.swaps = counter("swaps", "Times another model or state was put live.", "what")
        self.live = gauge("model_info", "1 for the live model.", "version", "sha256")
        self.ready = gauge("ready", "1 when predictions can be made.")
        self.intervals = gauge("state_intervals", "Landed intervals in the state.")
        self.last_event = gauge("state_last_event_timestamp_seconds", "Time of the last landed event (data time).")
        self.waiting = gauge("log_waiting", "Predictions that are not in the log yet.")
        self.lost = gauge("log_lost", "Predictions whose log lines were given up.")
        self.log_errors = counter("log_errors", "Failed writes of the prediction log.")

    def _gauge(self, name: str, about: str, *labels: str) -> Gauge:
        return Gauge(f"airloop_online_{name}", about, ["model", *labels], registry=self.registry)

    def _counter(self, name: str, about: str, *labels: str) -> Counter:
        return Counter(f"airloop_online_{name}", about, ["model", *labels], registry=self.registry)


class Metrics:
    """The metrics of one model.

    Args:
        families: of the process.
        model: name of the model.
        waiting: gives the predictions that are not in the log yet,
        lost: and those whose lines were given up.
    """

    def __init__(self, families: Families, model: str, waiting: Callable[[], int], lost: Callable[[], int]) -> None:
        self._families, self._model = families, model
        self.seconds = families.seconds.labels(model)
        self.in_flight = families.in_flight.labels(model)
        self.log_errors = families.log_errors.labels(model)
        self.plain, self.degraded = (families.predictions.labels(model, degraded) for degraded in ("false", "true"))
        self._ready, self._intervals = families.ready.labels(model), families.intervals.labels(model)
        self._last_event = families.last_event.labels(model)
        families.waiting.labels(model).set_function(waiting)
        families.lost.labels(model).set_function(lost)
        for what in ("model", "state", "store"):
            families.errors.labels(model, what)
        self._by_status: dict[int, Counter] = {}

    def answered(self, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        if status not in self._by_status:
            self._by_status[status] = self._families.requests.labels(self._model, str(status))
        self._by_status[status].inc()
        self.seconds.observe(seconds)

    def show(self, old: Live, new: Live) -> None:
        """Bring the gauges in line with what is live now, and count what changed and what was refused."""
        families, name = self._families, self._model
        for what in new.problems:
            families.errors.labels(name, what).inc()
        if new.model is not old.model:
            families.swaps.labels(name, "model").inc()
            if old.model:
                families.live.remove(name, str(old.model.version), old.model.model.sha256)
            if new.model:
                families.live.labels(name, str(new.model.version), new.model.model.sha256).set(1)
        if new.state is not old.state and new.state:
            families.swaps.labels(name, "state").inc()
            self._intervals.set(len(new.state.state.intervals))
            self._last_event.set(new.state.state.as_of or 0)
        self._ready.set(new.ready)
