"""What Prometheus sees of the service."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from serving.live import Live


class Metrics:
    """One registry an app, so that several apps in one process (tests) do not add up."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self.requests = Counter(
            "airloop_online_requests", "Requests of /predict by HTTP status.", ["status"], registry=self.registry
        )
        self.seconds = Histogram(
            "airloop_online_request_seconds", "Time to answer a request of /predict.",
            buckets=(0.0005, 0.001, 0.002, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5), registry=self.registry,
        )  # fmt: skip
        self.in_flight = Gauge(
            "airloop_online_in_flight", "Requests of /predict being answered.", registry=self.registry
        )
        self.predictions = Counter(
            "airloop_online_predictions", "Flights predicted.", ["degraded"], registry=self.registry
        )
        self.errors = Counter(
            "airloop_online_load_errors",
            "Times a model, state or the store was refused or unreadable.",
            ["what"],
            registry=self.registry,
        )
        self.swaps = Counter(
            "airloop_online_swaps", "Times another model or state was put live.", ["what"], registry=self.registry
        )
        self.model = Gauge(
            "airloop_online_model_info", "1 for the live model.", ["version", "sha256"], registry=self.registry
        )
        self.ready = Gauge("airloop_online_ready", "1 when predictions can be made.", registry=self.registry)
        self.months = Gauge("airloop_online_state_months", "Landed months in the state.", registry=self.registry)
        self.last_event = Gauge(
            "airloop_online_state_last_event_timestamp_seconds",
            "Time of the last landed event (data time).",
            registry=self.registry,
        )
        self.waiting = Gauge(
            "airloop_online_log_waiting", "Predictions that are not in the log yet.", registry=self.registry
        )
        self.lost = Gauge(
            "airloop_online_log_lost", "Predictions whose log lines were given up.", registry=self.registry
        )
        self.log_errors = Counter(
            "airloop_online_log_errors", "Failed writes of the prediction log.", registry=self.registry
        )
        for what in ("model", "state", "store"):
            self.errors.labels(what)
        self.plain, self.degraded = (self.predictions.labels(d) for d in ("false", "true"))

    def show(self, old: Live, new: Live) -> None:
        """Bring the gauges in line with what is live now, and count what changed and what was refused."""
        for what in new.problems:
            self.errors.labels(what).inc()
        if new.model is not old.model:
            self.swaps.labels("model").inc()
            self.model.clear()
            if new.model:
                self.model.labels(str(new.model.version), new.model.model.sha256).set(1)
        if new.state is not old.state and new.state:
            self.swaps.labels("state").inc()
            self.months.set(len(new.state.state.months))
            self.last_event.set(new.state.state.as_of or 0)
        self.ready.set(new.ready)
