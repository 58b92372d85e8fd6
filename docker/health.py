"""Exits 0 where a service is well: every HEALTHCHECK's command. Standard library only, since it runs every few seconds.

    python -IS health.py http://127.0.0.1:8000/healthz                           it answers with a 2xx
    python -IS health.py http://api-server:8080/api/v2/monitor/health triggerer  and says that this part is healthy

`airflow jobs check` says the same of one part, for 4 to 6 seconds of CPU each time.
"""

from __future__ import annotations

import json
import sys
import urllib.request

TIMEOUT_SECONDS = 8.0


def problem(url: str, part: str | None = None) -> str | None:
    """What is wrong with the service at `url`, or with Airflow's `part` by what it says; None if nothing is."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy has no way to a container's name
    try:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as answer:
            status = json.load(answer)[part]["status"] if part else "healthy"
    except (OSError, ValueError, KeyError, TypeError) as error:
        return f"{url}: {type(error).__name__}: {error}"
    return None if status == "healthy" else f"{part}: {status}, says {url}"


if __name__ == "__main__":
    found = problem(*sys.argv[1:3])
    sys.exit(found or 0)
