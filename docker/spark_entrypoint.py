"""Entry point of the image `spark`: understands `driver` and `executor` as Spark on Kubernetes says them, and runs all else.

No init runs before it: a JVM as first process ends on SIGTERM and waits for its own children.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping, Sequence


def command(arguments: Sequence[str], environ: Mapping[str, str]) -> list[str]:
    """The command line for what Spark, or anyone, asks this container to run; KeyError names a variable that is missing."""
    match list(arguments):
        case ["driver", *rest]:
            address = environ["SPARK_DRIVER_BIND_ADDRESS"]
            settings = {"spark.driver.bindAddress": address, "spark.executorEnv.SPARK_DRIVER_POD_IP": address}
            options = [word for name, value in settings.items() for word in ("--conf", f"{name}={value}")]
            return [f"{environ['SPARK_HOME']}/bin/spark-submit", *options, "--deploy-mode", "client", *rest]
        case ["executor", *_]:
            return _executor(environ)
        case other:
            return other


def _executor(environ: Mapping[str, str]) -> list[str]:
    memory = environ["SPARK_EXECUTOR_MEMORY"]
    return [
        f"{environ['JAVA_HOME']}/bin/java", *_java_options(environ), f"-Xms{memory}", f"-Xmx{memory}",
        "-cp", _classpath(environ), "org.apache.spark.scheduler.cluster.k8s.KubernetesExecutorBackend",
        "--driver-url", environ["SPARK_DRIVER_URL"],
        "--executor-id", environ["SPARK_EXECUTOR_ID"],
        "--cores", environ["SPARK_EXECUTOR_CORES"],
        "--app-id", environ["SPARK_APPLICATION_ID"],
        "--hostname", environ["SPARK_EXECUTOR_POD_IP"],
        "--resourceProfileId", environ["SPARK_RESOURCE_PROFILE_ID"],
        "--podName", environ["SPARK_EXECUTOR_POD_NAME"],
    ]  # fmt: skip


def _java_options(environ: Mapping[str, str]) -> list[str]:
    """SPARK_JAVA_OPT_0, _1, ... in the order of their numbers."""
    numbered = {
        int(found[1]): value
        for name, value in environ.items()
        if (found := re.fullmatch(r"SPARK_JAVA_OPT_(\d+)", name))
    }
    return [numbered[number] for number in sorted(numbered)]


def _classpath(environ: Mapping[str, str]) -> str:
    parts = [environ.get(name, "") for name in ("SPARK_CONF_DIR", "SPARK_CLASSPATH")]
    return ":".join(
        [*filter(None, parts), f"{environ['SPARK_HOME']}/jars/*", *filter(None, [environ.get("SPARK_DIST_CLASSPATH")])]
    )


def main() -> None:
    """Become that command."""
    if not sys.argv[1:]:
        sys.exit("Say what to run: driver, executor, or a command.")
    try:
        words = command(sys.argv[1:], os.environ)
    except KeyError as missing:
        sys.exit(f"{missing} is not set; Spark sets it in the pods that it starts.")
    os.execvp(words[0], words)  # noqa: S606 - an argument list; no shell is wanted


if __name__ == "__main__":
    main()
