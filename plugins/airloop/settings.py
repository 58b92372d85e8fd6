"""Every environment variable that Airflow's side reads: named, typed and checked here, and read nowhere else in plugins/.

Each function reads the environment when it is called and checks one group, so that a mistake in one group stops only what needs it.
An empty variable counts as unset. pydantic is loaded by Airflow already; pydantic-settings would add 60 ms to each process that
parses a DAG.
"""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from airloop.setting_types import (
    DnsName,
    Image,
    Label,
    LabelPairs,
    Minutes,
    Names,
    Namespace,
    Switch,
    WebLinks,
    has_password,
)
from tasks.core.errors import ConfigError

HERE = Path(__file__).resolve().parents[2]

FORWARDED = (
    "AIRLOOP_STORE", "AIRLOOP_LANDING", "AIRLOOP_DVC_REMOTE", "AIRLOOP_ONLINE_URL", "MLFLOW_TRACKING_URI",
    "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_DEFAULT_REGION", "AWS_REGION",
    "AWS_REQUEST_CHECKSUM_CALCULATION", "AWS_RESPONSE_CHECKSUM_VALIDATION", "AWS_RETRY_MODE", "AWS_MAX_ATTEMPTS",
    "AWS_CA_BUNDLE", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "MLFLOW_TRACKING_SERVER_CERT_PATH", "MLFLOW_TRACKING_INSECURE_TLS",
    "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "no_proxy",
)  # fmt: skip
"""What a stage's pod gets from the worker's environment: addresses, and how to reach them. Secrets never go this way."""

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
ADDRESSES = ("AIRLOOP_ONLINE_URL", "MLFLOW_TRACKING_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3")
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class _Group(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", str_strip_whitespace=True, use_attribute_docstrings=True)


class PlaceSettings(_Group):
    """Where tasks run, and in which image. Both can be set for one stage: AIRLOOP_PLACE_<STAGE>, AIRLOOP_IMAGE_<STAGE>."""

    place: str = Field("embedded", alias="AIRLOOP_PLACE")
    """Column of the table in airloop.places: embedded, containers or cluster."""
    image: Image | None = Field(None, alias="AIRLOOP_IMAGE")
    """Image of pods, with ``{role}`` for train, spark or airflow."""
    wait_minutes: Minutes = Field(15.0, alias="AIRLOOP_WAIT_MINUTES")
    """How long a run waits for an interval to land before it gives its place to others."""
    code: str | None = Field(None, alias="AIRLOOP_CODE")
    """Checkout that has tasks/ and dvc.yaml; by default the one that holds these plugins."""


class PodSettings(_Group):
    """What stage pods and Spark's executors look like in this cluster."""

    namespace: Namespace | None = Field(None, alias="AIRLOOP_NAMESPACE")
    """Where pods are started; by default the worker's own."""
    service_account: DnsName = Field("airloop-stage", alias="AIRLOOP_SERVICE_ACCOUNT")
    """Account of stage pods."""
    secret: DnsName | None = Field(None, alias="AIRLOOP_POD_SECRET")
    """Secret whose keys become variables of stage pods: keys of the object store, a proxy's password."""
    image_pull_secrets: Names = Field((), alias="AIRLOOP_IMAGE_PULL_SECRETS")
    """Secrets of private registries, separated by commas."""
    ca_config_map: DnsName | None = Field(None, alias="AIRLOOP_CA_CONFIG_MAP")
    """ConfigMap whose key ``ca.crt`` holds the certificates that stage pods trust, public ones included."""
    cost_owner: Label = Field("airloop", alias="AIRLOOP_COST_OWNER")
    """Label airloop.io/cost-owner of pods."""
    spot_priority_class: DnsName | None = Field(None, alias="AIRLOOP_SPOT_PRIORITY_CLASS")
    """Priority class of pods on spot machines."""
    gpu_runtime_class: DnsName | None = Field(None, alias="AIRLOOP_GPU_RUNTIME_CLASS")
    """Runtime class of pods with GPUs."""
    gpu_node_selector: LabelPairs = Field({}, alias="AIRLOOP_GPU_NODE_SELECTOR")
    """Labels of nodes for pods with GPUs: ``label=value,label=value``."""
    deferrable: Switch = Field(False, alias="AIRLOOP_DEFERRABLE")
    """Whether a task leaves its worker while its pod works."""


class LinkSettings(_Group):
    """Where the Airloop page links to."""

    links: WebLinks | None = Field(None, alias="AIRLOOP_LINKS")
    """Names and addresses as JSON, where a browser finds things elsewhere than this process does."""
    online: str = Field("", alias="AIRLOOP_ONLINE_URL")
    """The online service; several replicas are separated by commas."""
    mlflow: str = Field("", alias="MLFLOW_TRACKING_URI")
    """MLflow's server."""


class AccessSettings(_Group):
    """Secrets of Airflow's own processes."""

    metrics_token: str = Field("", alias="AIRLOOP_METRICS_TOKEN", repr=False)
    """Bearer token of /airloop/metrics/; without one the page answers 403."""
    apprise_url: str | None = Field(None, alias="AIRLOOP_APPRISE_URL", repr=False)
    """Where failures are reported to."""


class MachineSettings(_Group):
    """What Kubernetes sets in a worker's pod."""

    host: str | None = Field(None, alias="HOSTNAME")
    """Name of the worker's pod."""
    kubernetes: str | None = Field(None, alias="KUBERNETES_SERVICE_HOST")
    """Address of the cluster's API; None outside a cluster."""


Group = TypeVar("Group", bound=_Group)


def load(group: type[Group], environ: Mapping[str, str] | None = None) -> Group:
    """Settings of ``group`` from the environment; ConfigError that lists every mistake with setting, value and way out."""
    environ = os.environ if environ is None else environ
    names = [str(field.alias) for field in group.model_fields.values()]
    values = {name: value for name in names if (value := environ.get(name, "").strip())}
    try:
        return group.model_validate(values)
    except ValidationError as error:
        wrong = [f"{each['loc'][0]}={values[str(each['loc'][0])]!r} {_reason(each)}" for each in error.errors()]
        raise ConfigError(" ".join(wrong)) from None


def code() -> Path:
    """The checkout whose tasks/ and dvc.yaml are used: AIRLOOP_CODE, else the one that this file is part of."""
    return Path(load(PlaceSettings).code or HERE)


def of_stage(prefix: str, name: str, environ: Mapping[str, str] | None = None) -> str | None:
    """The setting of one stage or job, such as AIRLOOP_IMAGE_TRAIN; None when it is not set."""
    environ = os.environ if environ is None else environ
    return environ.get(variable(prefix, name), "").strip() or None


def variable(prefix: str, name: str) -> str:
    """``AIRLOOP_PLACE`` and ``train`` as AIRLOOP_PLACE_TRAIN."""
    return f"{prefix}_{re.sub(r'[^A-Z0-9]', '_', name.upper())}"


def forwarded(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """Variables of this process that a stage's pod gets as well; with a proxy, also the names that must not go through it.

    An address that holds a password is left out, since anybody who may read pods would see it: the pod has it from AIRLOOP_POD_SECRET.
    ConfigError when there is no such Secret.
    """
    environ = os.environ if environ is None else environ
    found = {name: environ[name] for name in FORWARDED if environ.get(name)}
    secret = sorted(name for name, value in found.items() if has_password(value))
    if secret and not load(PodSettings, environ).secret:
        raise ConfigError(
            f"{', '.join(secret)} would show a password in each pod's specification. Put the variable into a Secret, and its "
            "name into AIRLOOP_POD_SECRET."
        )
    direct = dict.fromkeys(("NO_PROXY", "no_proxy"), _direct(environ)) if any(map(environ.get, PROXIES)) else {}
    return {name: value for name, value in {**found, **direct}.items() if name not in secret}


def _direct(environ: Mapping[str, str]) -> str:
    """NO_PROXY with loopback and the services of the cluster's own: no company's proxy reaches those."""
    given = environ.get("NO_PROXY") or environ.get("no_proxy") or ""
    addresses = [part for name in ADDRESSES for part in environ.get(name, "").split(",")]
    hosts = [urlsplit(address.strip()).hostname or "" for address in addresses]
    inside = [host for host in hosts if host and ("." not in host or host.endswith((".svc", ".cluster.local")))]
    names = [*(part.strip() for part in given.split(",") if part.strip()), *LOOPBACK, *inside]
    return ",".join(dict.fromkeys(names))


def inherited(added: Mapping[str, str]) -> dict[str, str]:
    """The environment of a child process: this one's, and ``added``."""
    return {**os.environ, **added}


@contextlib.contextmanager
def temporarily(added: Mapping[str, str]) -> Iterator[None]:
    """Set variables of this process, which runs one task, and of what it starts meanwhile."""
    before = {name: os.environ.get(name) for name in added}
    os.environ.update(added)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _reason(error: Any) -> str:
    cause = (error.get("ctx") or {}).get("error")
    return str(cause or error["msg"])
