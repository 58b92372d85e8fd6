"""The files that hold the settings of a run.

params.yaml                 sections that all models share, and the default model
models/<model>/params.yaml  sections of the model
models/<model>/spec.json    the model's declaration, which goes with the settings into every record
run.yaml                    which model and which intervals dvc.yaml works on: rendered, untracked

People edit the first two; `airloop render` writes the others. A run's workspace has its own copy of all.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from tasks.core import fast_yaml
from tasks.core.errors import ConfigError
from tasks.core.model_names import check
from tasks.intervals import cadence
from tasks.settings.environment import default_model, environment
from tasks.storage.artefacts import write_atomic

SHARED = "params.yaml"
RUN = "run.yaml"
DEFAULT_MODEL = "default_model"
SHARED_SECTIONS = (DEFAULT_MODEL, "evaluate", "pods")
RUN_SECTIONS = ("model", "intervals")
MODEL_SECTIONS = (
    "span", "validate", "features", "holdout", "golden", "train", "export", "gate", "monitor",
)  # fmt: skip
ARGUMENTS = "arguments"
"""What a person asked `airloop render` for, null where nothing was said; a run's workspace has no such section."""
HEADER = "# Written by `airloop render` and `airloop repro`: the model and the intervals that dvc.yaml works on. Do not edit it.\n"


def of_model(model: str) -> str:
    """Path of the model's settings in a checkout or a workspace."""
    return f"models/{model}/params.yaml"


def spec_of(model: str) -> str:
    """Path of the model's rendered declaration."""
    return f"models/{model}/spec.json"


def calendar_of(root: Path, model: str) -> cadence.Calendar:
    """The calendar of the model's feed, by its rendered declaration in a checkout or a workspace."""
    return cadence.read(root / spec_of(model))


def file_of(section: str, model: str) -> str:
    """Path of the file that ``section`` belongs in."""
    if section in SHARED_SECTIONS:
        return SHARED
    return RUN if section in (*RUN_SECTIONS, ARGUMENTS) else of_model(model)


def names(model: str) -> tuple[str, ...]:
    """Paths of the files of settings."""
    return SHARED, of_model(model), RUN


def recorded(model: str) -> tuple[str, ...]:
    """Paths of the files and of the model's declaration, which are their names in the record of a run or of a version too."""
    return SHARED, of_model(model), spec_of(model), RUN


def present(root: Path) -> list[str]:
    """Those of the recorded files that a workspace has: params.yaml alone in one of an older version."""
    own = sorted(path for name in ("params.yaml", "spec.json") for path in root.glob(f"models/*/{name}"))
    return [SHARED, *(path.relative_to(root).as_posix() for path in own), *([RUN] if (root / RUN).exists() else [])]


def read(root: Path, model: str) -> dict[str, Any]:
    """Read the sections of the checkout or workspace at ``root``, those of run.yaml aside.

    Raises:
        ConfigError: a file is missing or no YAML; a section is missing, in the wrong file, or in both; a date has no quotes.
    """
    check(model)
    if not (root / of_model(model)).exists():
        there = sorted(path.parent.name for path in (root / "models").glob("*/params.yaml"))
        raise ConfigError(
            f"{of_model(model)} is missing in {root.resolve()}; name a model that has one ({', '.join(there) or 'none'}), "
            "or add it: models/__init__.py says what it holds."
        )
    shared, own = _load(root / SHARED), _load(root / of_model(model))
    _require_places(shared, own, model)
    _require_text({SHARED: shared, of_model(model): own})
    return {**shared, **own}


def read_run(root: Path) -> dict[str, Any]:
    """Read the sections of run.yaml.

    Raises:
        ConfigError: there is no such file, it is older than the settings that it was rendered from, or AIRLOOP_MODEL
            names another model.
    """
    if not (root / RUN).exists():
        raise ConfigError(f"{(root / RUN).resolve()} is missing; `airloop render` writes it for the default model.")
    found = _load(root / RUN)
    if not set(RUN_SECTIONS) <= set(found):
        raise ConfigError(f"{root / RUN} lacks {' or '.join(RUN_SECTIONS)}; write it again with `airloop render`.")
    arguments = found.pop(ARGUMENTS, None)
    if arguments is not None and rendered(root, **arguments) != found:
        given = " ".join(_words(**arguments))
        raise ConfigError(
            f"{root / RUN} is older than {DEFAULT_MODEL} in {SHARED} or `span` in {of_model(found['model'])}; write it "
            f"again with `airloop render{' ' + given if given else ''}`."
        )
    if root.resolve() == Path.cwd() and found["model"] != environment().model:
        raise ConfigError(
            f"AIRLOOP_MODEL={environment().model}, but {RUN} is about {found['model']}; unset the variable, or write the "
            f"file again with `airloop render {environment().model}`."
        )
    return found


def rendered(root: Path, model: str | None = None, first: str | None = None, last: str | None = None) -> dict[str, Any]:
    """Make the sections of run.yaml for a checkout.

    Args:
        root: the checkout.
        model: a folder of models/; by default the default model of params.yaml.
        first: first interval; by default that of the model's span.
        last: last interval, likewise.

    Raises:
        ConfigError: there is no such model, or the intervals are none of its feed.
    """
    model = model or default_model(root)
    if not model:
        raise ConfigError(
            f"{root / SHARED} has no {DEFAULT_MODEL}; write a folder of models/ there, or name the model."
        )
    sections = read(root, model)
    span, calendar = sections["span"], calendar_of(root, model)
    first, last = first or str(span["first"]), last or str(span["last"])
    intervals = calendar.cadence.span(first, last)
    if not intervals:
        raise ConfigError(f"last={last} is before first={first}; exchange them.")
    if first < calendar.first:
        raise ConfigError(
            f"first={first} is before {calendar.first}, the first interval in {spec_of(model)}; begin there, or later."
        )
    return {"model": model, "intervals": calendar.cadence.window(intervals)}


def render(root: Path, model: str | None = None, first: str | None = None, last: str | None = None) -> dict[str, Any]:
    """Write run.yaml at ``root``; returns its sections. The arguments are those of ``rendered``."""
    made = rendered(root, model, first, last)
    arguments = {"model": model, "first": first, "last": last}
    text = HEADER + yaml.safe_dump({**made, ARGUMENTS: arguments}, sort_keys=False)
    write_atomic(root / RUN, text.encode())
    return made


def write(root: Path, raw: Mapping[str, Any]) -> None:
    """Write all sections of a run to the files that they belong in, below ``root``."""
    parts: dict[str, dict[str, Any]] = {name: {} for name in names(raw["model"])}
    for section, content in raw.items():
        parts[file_of(section, raw["model"])][section] = content
    for name, sections in parts.items():
        write_atomic(root / name, yaml.safe_dump(sections, sort_keys=False).encode())


def as_they_are(root: Path) -> dict[str, Any]:
    """Read the settings of a workspace unchecked: of an older version too, whose params.yaml held everything."""
    found = _load(root / SHARED)
    if (root / RUN).exists():
        found |= _load(root / RUN)
        found |= _load(root / of_model(found["model"]))
    return found


def path_of(section: str, root: Path) -> Path:
    """The file in a workspace, perhaps of an older version, that holds ``section``."""
    found = _load(root / RUN) if (root / RUN).exists() else {}
    return root / (file_of(section, found["model"]) if found else SHARED)


def put(path: Path, values: Mapping[str, Any]) -> list[str]:
    """Set each dotted setting of the file at ``path``; every other byte stays.

    Returns:
        Those that changed, as ``name: old -> new``.

    Raises:
        ConfigError: the file has no such setting.
    """
    text = path.read_text(encoding="utf-8")
    changes, cuts = [], []
    for name, value in values.items():
        node = _find(yaml.compose(text), name.split("."))
        if not isinstance(node, yaml.ScalarNode):
            raise ConfigError(f"{path} has no setting {name}; write it there, with any value.")
        old, new = text[node.start_mark.index : node.end_mark.index], scalar(value)
        if old != new:
            changes.append(f"{name}: {old} -> {new}")
            cuts.append((node.start_mark.index, node.end_mark.index, new))
    for start, end, new in sorted(cuts, reverse=True):
        text = text[:start] + new + text[end:]
    if cuts:
        write_atomic(path, text.encode())
    return changes


def scalar(value: Any) -> str:
    """``value`` as YAML writes it."""
    return str(yaml.safe_dump(value, default_flow_style=True, width=2**16)).removesuffix("...\n").strip()


def _require_places(shared: Mapping[str, Any], own: Mapping[str, Any], model: str) -> None:
    for section in [*shared, *own, *SHARED_SECTIONS, *MODEL_SECTIONS]:
        right = SHARED if section in SHARED_SECTIONS else of_model(model)
        wrong = of_model(model) if right == SHARED else SHARED
        here, there = (shared, own) if right == SHARED else (own, shared)
        if section in here and section in there:
            raise ConfigError(f"Section {section!r} is in {SHARED} and in {of_model(model)}; delete it from {wrong}.")
        if section in there:
            raise ConfigError(f"Section {section!r} is in {wrong}; move it to {right}.")
        if section not in here:
            raise ConfigError(f"Section {section!r} is missing in {right}; add it, as tasks/settings/ explains it.")


def _require_text(files: Mapping[str, Any]) -> None:
    """ConfigError that names each date, by its file: DVC, which reads these files itself, cannot keep one."""
    found = [f"{file}: {name}={value}" for file, content in files.items() for name, value in _dates(content)]
    if found:
        raise ConfigError(
            f"{'; '.join(found)}: YAML takes this for a date, which DVC cannot keep; write it in quotes, as '2013-04-05'."
        )


def _dates(content: Any, name: str = "") -> Iterator[tuple[str, dt.date]]:
    """Dotted name and value of each date in ``content``."""
    if isinstance(content, dt.date):
        yield name, content
    elif isinstance(content, dict | list):
        parts = content.items() if isinstance(content, dict) else enumerate(content)
        for part, value in parts:
            yield from _dates(value, f"{name}.{part}" if name else str(part))


def _load(path: Path) -> dict[str, Any]:
    try:
        found = fast_yaml.load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(f"{path.resolve()} is missing; work in the repository or in a run's workspace.") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is not YAML: {error}") from None
    if not isinstance(found, dict):
        raise ConfigError(f"{path} holds no settings; restore it with `git checkout {path}`.")
    return dict(found)


def _words(model: str | None, first: str | None, last: str | None) -> list[str]:
    options = {"--first": first, "--last": last}
    return [*([model] if model else []), *(f"{name} {value}" for name, value in options.items() if value)]


def _find(node: Any, path: list[str]) -> Any:
    for part in path:
        if not isinstance(node, yaml.MappingNode):
            return None
        node = next((value for key, value in node.value if key.value == part), None)
    return node
