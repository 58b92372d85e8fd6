"""How Spark's JVM is started for jobs of seconds, where starting is most of the work.

The flags go into SPARK_SUBMIT_OPTS, which every way of starting Spark's driver reads. The largest share of a short job
is loading and linking some 15,000 classes; a class-data archive, made once (``python -m tasks.engines.jvm``), has them
ready to map into memory. A JVM to which the archive does not apply ignores it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import MutableMapping
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from tasks.core.errors import AirloopError, run_main

VARIABLE = "SPARK_SUBMIT_OPTS"

FLAGS = (
    "-XX:TieredStopAtLevel=1",  # the optimising compiler never earns back what it costs a job of seconds
    "-XX:+UseSerialGC",  # no collector threads beside two cores of work
    "-XX:-UsePerfData",  # every JVM leaves its counters in the system's temporary folder
)

FOREIGN = (
    "SPARK_HOME", "SPARK_CONF_DIR", "SPARK_REMOTE", "SPARK_CLASSPATH", "SPARK_DIST_CLASSPATH", "PYSPARK_SUBMIT_ARGS", "HADOOP_CONF_DIR",
    "YARN_CONF_DIR", "CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS",
)  # fmt: skip
"""What a shell says of another Spark, or of every Java."""


def options(java_home: str = "") -> str:
    """JVM flags for SPARK_SUBMIT_OPTS; with the archive when it has been made for this Java and this Spark."""
    made = archive(java_home)
    return " ".join((*FLAGS, *((flag(f"-XX:SharedArchiveFile={made}"),) if made.is_file() else ())))


def flag(text: str) -> str:
    """One flag with a path in it, quoted as Spark's launcher reads SPARK_SUBMIT_OPTS."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def configure(environ: MutableMapping[str, str]) -> None:
    """Add ``options`` to what ``environ`` says of Spark's JVM, unless our flags are there already.

    What it says of another Spark, or of every Java, goes where PySpark has its own Spark; an image's may lie elsewhere.
    """
    pyspark = find_spec("pyspark")
    if pyspark and pyspark.origin and Path(pyspark.origin).with_name("jars").is_dir():
        for name in FOREIGN:
            environ.pop(name, None)
        environ["SPARK_HOME"] = str(Path(pyspark.origin).parent)  # Spark's own search fails in a folder with a space
    given = environ.get(VARIABLE, "")
    if FLAGS[0] not in given:
        environ[VARIABLE] = f"{given} {options()}".strip()


def archive(java_home: str = "") -> Path:
    """Where the class-data archive for this Java, this PySpark and these flags lies, whether it exists or not.

    The Java is that of ``java_home``, else of JAVA_HOME, else the one on the PATH.

    It is part of the Python environment: as old as its PySpark, and gone with it.
    """
    home = java_home or os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else shutil.which("java") or ""
    pyspark = find_spec("pyspark")
    parts = (Path(java).resolve(), version("pyspark"), pyspark.origin if pyspark else "", *FLAGS)
    digest = hashlib.sha256(os.fsencode("|".join(map(str, parts)))).hexdigest()
    return Path(sys.prefix, "share", "airloop") / f"{digest[:16]}.jsa"


def prepare() -> Path:
    """Make the archive unless it is there; AirloopError when the JVM cannot write one."""
    made = archive()
    if made.is_file():
        return made
    made.parent.mkdir(parents=True, exist_ok=True)
    partial = made.with_suffix(f".{os.getpid()}.partial")
    flags = [*FLAGS, flag(f"-XX:ArchiveClassesAtExit={partial}"), "-Xlog:cds=off", "-Xlog:cds+dynamic=off"]
    command = [sys.executable, "-m", "tasks.engines.spark"]
    try:
        done = subprocess.run(
            command, env=os.environ | {VARIABLE: " ".join(flags)}, capture_output=True, text=True, check=False
        )
        if done.returncode or not partial.is_file():
            raise AirloopError(
                f"No class-data archive could be made at {made}: {(done.stderr or done.stdout).strip()[-300:]} "
                "Spark works without it, some seconds slower a job."
            )
        partial.replace(made)
    finally:
        partial.unlink(missing_ok=True)
    return made


def main() -> None:
    """Make the archive."""
    argparse.ArgumentParser(description=__doc__).parse_args()
    made = prepare()
    print(f"Spark's classes are archived in {made} ({made.stat().st_size / 2**20:.0f} MiB)")


if __name__ == "__main__":
    run_main(main)
