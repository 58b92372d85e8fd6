"""The three files of settings: each section has one place, and a run.yaml that is out of date is found."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml

from tasks.core.errors import ConfigError
from tasks.settings import settings_files
from tasks.settings.environment import CODE, environment

OWN = "models/flights/params.yaml"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A checkout's settings."""
    for name in ("params.yaml", OWN, settings_files.spec_of("flights")):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(CODE / name, tmp_path / name)
    return tmp_path


def change(path: Path, **sections: object) -> None:
    """Put sections into a file; None takes one out."""
    raw = yaml.safe_load(path.read_text()) | sections
    path.write_text(yaml.safe_dump({name: content for name, content in raw.items() if content is not None}))


@pytest.mark.parametrize(
    ("file", "sections", "said"),
    [
        ("params.yaml", {"pods": None}, r"'pods' is missing in params.yaml; add it, as tasks/settings/ explains it"),
        (OWN, {"gate": None}, r"'gate' is missing in models/flights/params.yaml; add it"),
        (OWN, {"pods": {}}, r"'pods' is in params.yaml and in models/flights/params.yaml; delete it from models/flights/"),
        ("params.yaml", {"gate": {}}, r"'gate' is in params.yaml and in models/flights/.*; delete it from params.yaml"),
        ("params.yaml", {"speed": {}}, r"'speed' is in params.yaml; move it to models/flights/params.yaml"),
    ],
)  # fmt: skip
def test_a_section_that_is_not_where_it_belongs_is_one_sentence(
    root: Path, file: str, sections: dict, said: str
) -> None:
    change(root / file, **sections)
    with pytest.raises(ConfigError, match=said):
        settings_files.read(root, "flights")


@pytest.mark.parametrize("section", ["gate", "span"])
def test_a_model_s_section_in_the_shared_file_is_to_be_moved(root: Path, section: str) -> None:
    content = yaml.safe_load((root / OWN).read_text())[section]
    change(root / OWN, **{section: None})
    change(root / "params.yaml", **{section: content})
    with pytest.raises(ConfigError, match=rf"Section '{section}' is in params.yaml; move it to {OWN}."):
        settings_files.read(root, "flights")


def test_a_shared_section_in_the_model_s_file_is_to_be_moved(root: Path) -> None:
    change(root / "params.yaml", evaluate=None)
    change(root / OWN, evaluate={})
    with pytest.raises(ConfigError, match=rf"Section 'evaluate' is in {OWN}; move it to params.yaml."):
        settings_files.read(root, "flights")


def test_dates_without_quotes_are_refused_by_name(root: Path) -> None:
    """A daily model's keys look like dates, and DVC fails on one with no word of which."""
    own = (
        (root / OWN).read_text().replace("'2013-01-01'", "2013-01-01").replace("[2013-01, ", "['2013-01', 2013-01-01, ")
    )
    (root / OWN).write_text(own)
    with pytest.raises(ConfigError) as refused:
        settings_files.read(root, "flights")
    assert str(refused.value) == (
        f"{OWN}: features.day_zero=2013-01-01; {OWN}: golden.intervals.1=2013-01-01: YAML takes this for a date, which DVC "
        "cannot keep; write it in quotes, as '2013-04-05'."
    )


def test_a_model_without_settings_is_refused_with_those_that_have_them(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"models/fligths/params.yaml is missing .* \(flights\), or add it"):
        settings_files.read(root, "fligths")


def test_what_is_rendered_is_the_model_s_span_or_what_was_asked_for(root: Path) -> None:
    own = yaml.safe_load((root / OWN).read_text())["span"]
    by_default = settings_files.render(root)
    assert by_default["model"] == "flights"
    assert (min(by_default["intervals"]), max(by_default["intervals"])) == (own["first"], own["last"])
    assert settings_files.read_run(root) == by_default
    asked = settings_files.render(root, "flights", "2013-02", "2013-03")
    assert asked["intervals"] == {
        "2013-02": {"previous": "2013-02", "sees": "data/manifests/2013-02.json"},
        "2013-03": {"previous": "2013-02", "sees": "data/lists/lookback/2013-02.json"},
    }
    assert settings_files.read_run(root) == asked


@pytest.mark.parametrize(
    ("first", "last", "said"),
    [
        ("2012-12", None, "before 2013-01, the first interval"),
        ("2013-03", "2013-02", "exchange them"),
        ("2013-1", None, "write it as 2013-04"),
    ],
)
def test_intervals_that_cannot_be_are_refused(root: Path, first: str, last: str | None, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        settings_files.render(root, None, first, last)
    assert not (root / "run.yaml").exists()


def test_without_run_yaml_its_command_is_named(root: Path) -> None:
    with pytest.raises(ConfigError, match=r"run.yaml is missing; `airloop render` writes it"):
        settings_files.read_run(root)


def test_a_span_that_changed_since_run_yaml_was_written_is_found(root: Path) -> None:
    settings_files.render(root, "flights")
    change(root / OWN, span={"first": "2013-01", "last": "2013-06"})
    with pytest.raises(ConfigError, match=r"older than .* `airloop render flights`"):
        settings_files.read_run(root)
    settings_files.render(root, None, None, "2013-03")
    change(root / OWN, span={"first": "2013-02", "last": "2013-06"})
    with pytest.raises(ConfigError, match=r"`airloop render --last 2013-03`"):
        settings_files.read_run(root)


def test_intervals_that_were_asked_for_stay_when_the_span_changes(root: Path) -> None:
    asked = settings_files.render(root, "flights", "2013-02", "2013-03")
    change(root / OWN, span={"first": "2013-01", "last": "2013-06"})
    assert settings_files.read_run(root) == asked


def test_another_default_model_since_run_yaml_was_written_is_found(root: Path) -> None:
    settings_files.render(root)
    shutil.copytree(root / "models/flights", root / "models/second")
    change(root / "params.yaml", default_model="second")
    with pytest.raises(ConfigError, match="older than default_model"):
        settings_files.read_run(root)


def test_a_run_yaml_of_another_model_than_the_environment_s_is_refused(root: Path, monkeypatch) -> None:
    """Its stages would read the files of the one and declare the other."""
    settings_files.render(root)
    monkeypatch.chdir(root)
    monkeypatch.setenv("AIRLOOP_MODEL", "second")
    environment.cache_clear()
    with pytest.raises(ConfigError, match=r"AIRLOOP_MODEL=second, but run.yaml is about flights"):
        settings_files.read_run(Path())
    environment.cache_clear()


def test_a_process_works_for_the_model_of_the_run_yaml_at_hand(root: Path, monkeypatch) -> None:
    monkeypatch.setenv("AIRLOOP_CODE", str(root))
    monkeypatch.delenv("AIRLOOP_MODEL", raising=False)
    monkeypatch.chdir(root)
    change(root / "params.yaml", default_model="second")
    environment.cache_clear()
    assert environment().model == "second"
    (root / "workspace").mkdir()
    (root / "workspace/run.yaml").write_text("model: third\nmonths: {}\n")
    monkeypatch.chdir(root / "workspace")
    environment.cache_clear()
    assert environment().model == "third"
    environment.cache_clear()


def test_what_is_written_is_what_is_read(root: Path, tmp_path: Path) -> None:
    raw = settings_files.read(root, "flights") | settings_files.rendered(root)
    settings_files.write(tmp_path / "run", raw)
    assert settings_files.read(tmp_path / "run", "flights") | settings_files.read_run(tmp_path / "run") == raw
    assert settings_files.as_they_are(tmp_path / "run") == raw
    assert settings_files.present(tmp_path / "run") == list(settings_files.names("flights"))


def test_settings_of_an_older_version_are_one_file(tmp_path: Path) -> None:
    (tmp_path / "params.yaml").write_text("model: flights\nmonths: {}\ngate: {floors: {}}\n")
    assert settings_files.as_they_are(tmp_path)["gate"] == {"floors": {}}
    assert settings_files.present(tmp_path) == ["params.yaml"]
    assert settings_files.path_of("gate", tmp_path) == tmp_path / "params.yaml"
