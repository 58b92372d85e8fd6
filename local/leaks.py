"""What a shell has set for other work and must not reach what runs here: another Spark, Java's options, pip's targets...

What is ours is set by us. What is the user's own - proxies, certificates, package indexes, credentials - stays. A variable of
this list that is meant for this checkout belongs in its `.env`. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping

PREFIXES = ("SPARK_", "PYSPARK_", "HADOOP_", "HIVE_", "YARN_", "PYTHON", "PIP_", "UV_", "MLFLOW_", "DVC_")
NAMES = {
    "CLASSPATH", "JAVA_TOOL_OPTIONS", "_JAVA_OPTIONS", "JDK_JAVA_OPTIONS", "JAVA_OPTS",
    # As `git rev-parse --local-env-vars` lists them: a hook sets them, and every git below it means the hook's repository.
    "GIT_ALTERNATE_OBJECT_DIRECTORIES", "GIT_COMMON_DIR", "GIT_CONFIG", "GIT_CONFIG_COUNT", "GIT_CONFIG_PARAMETERS", "GIT_DIR",
    "GIT_GRAFT_FILE", "GIT_IMPLICIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_NO_REPLACE_OBJECTS", "GIT_OBJECT_DIRECTORY", "GIT_PREFIX",
    "GIT_REPLACE_REF_BASE", "GIT_SHALLOW_FILE", "GIT_WORK_TREE",
}  # fmt: skip
SOURCES = {
    *(f"PIP_{name}" for name in (
        "INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "TRUSTED_HOST", "CERT", "CLIENT_CERT", "PROXY", "TIMEOUT",
        "DEFAULT_TIMEOUT", "RETRIES", "CACHE_DIR", "NO_CACHE_DIR", "KEYRING_PROVIDER", "CONFIG_FILE", "DISABLE_PIP_VERSION_CHECK",
    )),
    *(f"UV_{name}" for name in (
        "INDEX", "DEFAULT_INDEX", "INDEX_URL", "EXTRA_INDEX_URL", "FIND_LINKS", "NO_INDEX", "INDEX_STRATEGY", "INSECURE_HOST",
        "NATIVE_TLS", "SYSTEM_CERTS", "HTTP_TIMEOUT", "HTTP_RETRIES", "CACHE_DIR", "NO_CACHE", "OFFLINE", "KEYRING_PROVIDER",
        "CONFIG_FILE", "NO_CONFIG", "LINK_MODE", "CONCURRENT_DOWNLOADS", "CONCURRENT_BUILDS", "CONCURRENT_INSTALLS",
    )),
}  # fmt: skip
"""Where packages come from, and how to get there: the user's to say, to both installers."""
KEPT = {
    *SOURCES,
    "PYTHONDONTWRITEBYTECODE", "PYTHONFAULTHANDLER", "PYTHONHASHSEED", "PYTHONPYCACHEPREFIX", "PYTHONUNBUFFERED", "PYTHONUTF8",
    # Which server somebody means is said to a command (`airloop heal --mlflow URL`), and its login by the shell.
    "MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD", "MLFLOW_TRACKING_TOKEN", "MLFLOW_TRACKING_INSECURE_TLS",
    "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_CLIENT_CERT_PATH", "MLFLOW_HTTP_REQUEST_MAX_RETRIES",
    "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_S3_ENDPOINT_URL",
}  # fmt: skip


def is_foreign(name: str) -> bool:
    """Whether a variable of this name is another work's."""
    return name in NAMES or (name.startswith(PREFIXES) and name not in KEPT and not name.startswith("UV_INDEX_"))


def foreign(environ: Mapping[str, str]) -> list[str]:
    """The variables of ``environ`` that are another work's, by name."""
    return sorted(filter(is_foreign, environ))


def without(environ: Mapping[str, str]) -> dict[str, str]:
    """``environ`` without them."""
    return {name: value for name, value in environ.items() if not is_foreign(name)}
