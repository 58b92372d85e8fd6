"""Settings of Airflow's side: each is known, typed and checked where it is read, and what a pod gets of them."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from airloop.setting_types import image, label_pairs
from airloop.settings import (
    FORWARDED,
    AccessSettings,
    LinkSettings,
    MachineSettings,
    PlaceSettings,
    PodSettings,
    forwarded,
    load,
)
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.core.errors import ConfigError

ROOT = Path(__file__).parents[2]
GROUPS = (PlaceSettings, PodSettings, LinkSettings, AccessSettings, MachineSettings)


@pytest.mark.parametrize(
    ("name", "value", "way_out"),
    [
        ("AIRLOOP_NAMESPACE", "my.ns", "is no namespace: small letters, digits and hyphens"),
        ("AIRLOOP_SERVICE_ACCOUNT", "Airloop_Stage", "small letters, digits, dots and hyphens"),
        ("AIRLOOP_POD_SECRET", "store secret", "is no name of an object"),
        ("AIRLOOP_IMAGE_PULL_SECRETS", "registry, Two", "has a part that is no name"),
        ("AIRLOOP_CA_CONFIG_MAP", "/etc/ssl/ca.crt", "is no name of an object"),
        ("AIRLOOP_COST_OWNER", "Delays (2026)", "is no label's value"),
        ("AIRLOOP_COST_OWNER", "team ml", "is no label's value"),
        ("AIRLOOP_COST_OWNER", "x" * 64, "63 at most"),
        ("AIRLOOP_SPOT_PRIORITY_CLASS", "-spot", "is no name of an object"),
        ("AIRLOOP_GPU_RUNTIME_CLASS", "nvidia_cdi", "is no name of an object"),
        ("AIRLOOP_GPU_NODE_SELECTOR", "nvidia.com/gpu.product", "label=value,label=value"),
        ("AIRLOOP_GPU_NODE_SELECTOR", "a=b c", "label=value,label=value"),
        ("AIRLOOP_DEFERRABLE", "maybe", "write true or false"),
    ],
)
def test_a_setting_that_kubernetes_would_refuse_names_itself_and_the_way_out(
    name: str, value: str, way_out: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load(PodSettings, {name: value})
    assert f"{name}={value!r}" in str(caught.value)
    assert way_out in str(caught.value)


def test_all_mistakes_are_listed_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        load(PodSettings, {"AIRLOOP_NAMESPACE": "a_b", "AIRLOOP_COST_OWNER": "a b", "AIRLOOP_DEFERRABLE": "2"})
    assert [
        name in str(caught.value) for name in ("AIRLOOP_NAMESPACE", "AIRLOOP_COST_OWNER", "AIRLOOP_DEFERRABLE")
    ] == [True] * 3


def test_values_are_typed_and_an_empty_one_is_unset() -> None:
    found = load(
        PodSettings,
        {
            "AIRLOOP_NAMESPACE": "",
            "AIRLOOP_IMAGE_PULL_SECRETS": "registry, mirror.example",
            "AIRLOOP_GPU_NODE_SELECTOR": "nvidia.com/gpu.product=A100-SXM4, pool=",
            "AIRLOOP_DEFERRABLE": "Yes",
        },
    )
    assert found.namespace is None and found.service_account == "airloop-stage"
    assert found.image_pull_secrets == ("registry", "mirror.example")
    assert found.gpu_node_selector == {"nvidia.com/gpu.product": "A100-SXM4", "pool": ""}
    assert found.deferrable is True


@pytest.mark.parametrize("text", ['["a"]', "MLflow", '{"a": 1}'])
def test_links_that_are_no_json_of_names_and_addresses(text: str) -> None:
    with pytest.raises(ConfigError, match="AIRLOOP_LINKS"):
        load(LinkSettings, {"AIRLOOP_LINKS": text})


@pytest.mark.parametrize(
    "name",
    [
        "airloop-train:local",
        "registry.example:5000/team/airloop-{role}:0.1.0",
        "[fd00::1]:5000/airloop-train",
        f"registry.example/airloop-train@sha256:{'0' * 64}",
        "ghcr.io/acme/airloop/{role}:v1.2.3-rc.1",
    ],
)
def test_images_that_registries_have(name: str) -> None:
    assert image(name) == name


@pytest.mark.parametrize("name", ["Airloop:1", "airloop train", "https://registry/airloop", "airloop:", "a:b:c", ""])
def test_images_that_no_registry_has(name: str) -> None:
    with pytest.raises(ValueError, match="is no image's name"):
        image(name)


LABEL_VALUES = st.from_regex(r"\A[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?\Z")


@hypothesis_settings(deadline=None)
@given(st.dictionaries(LABEL_VALUES, LABEL_VALUES, max_size=4))
def test_pairs_are_read_as_they_were_written(pairs: dict[str, str]) -> None:
    assert label_pairs(",".join(f"{key}={value}" for key, value in pairs.items())) == pairs


def test_a_pod_gets_addresses_proxies_and_certificates_and_no_password() -> None:
    environ = {
        "AIRLOOP_STORE": "s3://airloop/store",
        "AWS_CA_BUNDLE": "/etc/ssl/company.pem",
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
        "AWS_ENDPOINT_URL_S3": "https://s3.example",
        "HTTPS_PROXY": "http://proxy.example:3128",
        "NO_PROXY": ".svc,.cluster.local",
        "http_proxy": "http://me:hunter2@proxy.example:3128",
        "AWS_SECRET_ACCESS_KEY": "hunter2",
        "AIRLOOP_POD_SECRET": "airloop-store",
    }
    left_out = {"http_proxy", "AWS_SECRET_ACCESS_KEY", "AIRLOOP_POD_SECRET", "NO_PROXY"}
    expected = {name: value for name, value in environ.items() if name not in left_out}
    got = forwarded(environ)
    assert got | expected == got
    assert set(got) == {*expected, "NO_PROXY", "no_proxy"}
    with pytest.raises(ConfigError, match="http_proxy would show a password") as caught:
        forwarded({name: value for name, value in environ.items() if name != "AIRLOOP_POD_SECRET"})
    assert "hunter2" not in str(caught.value)


def test_a_pod_s_own_services_never_go_through_a_proxy() -> None:
    got = forwarded(
        {
            "https_proxy": "http://proxy.example:3128",
            "no_proxy": "intranet.example, .corp",
            "AIRLOOP_ONLINE_URL": "http://online-1:8000, http://online-2:8000",
            "MLFLOW_TRACKING_URI": "http://airloop-mlflow.ml.svc.cluster.local:5000",
            "AWS_ENDPOINT_URL": "https://s3.example",
        }
    )
    direct = "intranet.example,.corp,localhost,127.0.0.1,::1,online-1,online-2,airloop-mlflow.ml.svc.cluster.local"
    assert got["NO_PROXY"] == got["no_proxy"] == direct
    assert "NO_PROXY" not in forwarded({"MLFLOW_TRACKING_URI": "http://airloop-mlflow:5000"})


@pytest.mark.parametrize("group", GROUPS)
def test_every_setting_has_a_sentence(group: Any) -> None:
    assert {name: field.description for name, field in group.model_fields.items() if not field.description} == {}


def _environment_reads(source: str) -> list[int]:
    """Lines that name the process's environment."""
    return [
        node.lineno
        for node in ast.walk(ast.parse(source))
        if (isinstance(node, ast.Attribute) and node.attr in {"environ", "getenv", "environb", "putenv"})
        or (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {a.name for a in node.names} & {"environ", "getenv"}
        )
    ]


def test_no_other_module_of_the_plugins_looks_at_the_environment() -> None:
    files = [*ROOT.glob("plugins/**/*.py"), *ROOT.glob("dags/**/*.py")]
    assert len(files) > 20
    readers = {path.name for path in files if _environment_reads(path.read_text())}
    assert readers == {"settings.py"}


@pytest.mark.parametrize("line", ["os.environ['A']", "import os as o\no.getenv('A')", "from os import environ"])
def test_a_look_at_the_environment_is_seen(line: str) -> None:
    assert _environment_reads(line)


def test_settings_of_plugins_are_in_the_example_of_an_environment() -> None:
    example = (ROOT / ".env.example").read_text()
    elsewhere = {
        "AIRLOOP_CODE",
        "HOSTNAME",
        "KUBERNETES_SERVICE_HOST",
        "AIRLOOP_METRICS_TOKEN",
    }  # set by what starts Airflow
    names = {str(field.alias) for group in GROUPS for field in group.model_fields.values()} | set(FORWARDED)
    missing = {name for name in names - elsewhere if name.startswith("AIRLOOP_") and name not in example}
    assert missing == set()


def test_reading_them_loads_neither_kubernetes_nor_pydantic_settings() -> None:
    code = (
        "import sys; import airloop.settings as s; s.load(s.PodSettings); "
        "print([m for m in ('kubernetes', 'pydantic_settings') if m in sys.modules])"
    )
    env = {"PYTHONPATH": str(ROOT / "plugins"), "PATH": ""}
    told = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "[]"
