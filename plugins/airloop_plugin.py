"""What Airflow itself loads: the Airloop page in its web UI, and the pipeline's metrics. DAGs import the package `airloop` beside this file."""

from __future__ import annotations

from typing import Any, ClassVar

from airflow.plugins_manager import AirflowPlugin


class AirloopPlugin(AirflowPlugin):
    """The page is built only where it is served: schedulers and workers load this class too."""

    name = "airloop"
    external_views: ClassVar[list[dict[str, Any]]] = [
        {"name": "Airloop", "href": "/airloop/", "destination": "nav", "url_route": "airloop", "nav_top_level": True}
    ]

    @property
    def fastapi_apps(self) -> list[dict[str, Any]]:  # type: ignore[override]  # read from an instance, by the api-server
        """The web applications behind the page, and for Prometheus."""
        from airloop import metrics, pages

        return [
            # The first whose prefix fits answers.
            {"name": "Airloop metrics", "app": metrics.app, "url_prefix": "/airloop/metrics"},
            {"name": "Airloop", "app": pages.app, "url_prefix": "/airloop"},
        ]
