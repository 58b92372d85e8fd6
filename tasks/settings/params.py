"""A run's settings as one frozen, validated object: what is computed. Each setting has a sentence.

tasks/settings/settings_files.py says which section is in which file.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, ValidationError, ValidationInfo, create_model, model_validator

from tasks.core.errors import ConfigError
from tasks.core.frozen import Frozen
from tasks.core.model_names import LENGTH, NAME
from tasks.intervals.cadence import KEY, Calendar
from tasks.settings import settings_files
from tasks.settings.environment import CODE, archived

CADENCE = "cadence"
"""In the context of a validation, the cadence that keys of intervals must be of."""


def _key(value: Any, info: ValidationInfo) -> Any:
    if info.context and CADENCE in info.context:
        try:
            info.context[CADENCE].check(value)
        except ConfigError as error:
            raise ValueError(str(error)) from None
    return value


IntervalKey = Annotated[str, BeforeValidator(_key), Field(pattern=f"^{KEY}$")]
"""Key of an interval; in settings, one of the model's cadence."""
Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[int, Field(gt=0)]
ModelName = Annotated[str, Field(pattern=f"^{NAME.pattern}$", max_length=LENGTH)]


class Lookback(Frozen):
    """One interval of the window."""

    previous: IntervalKey
    """Interval before this one; the interval itself where there is none."""
    sees: str
    """List of the tails that its features look back on (tasks/intervals/lookback.py); its own manifest where there is none."""


class DayRule(Frozen):
    """A set of days: those whose day number (days since the model's day zero) modulo ``every`` is ``remainder``."""

    every: Positive
    """Period in days."""
    remainder: Annotated[int, Field(ge=0)]
    """Which day of each period."""

    @model_validator(mode="after")
    def _in_period(self) -> DayRule:
        if self.remainder >= self.every:
            raise ValueError(f"remainder={self.remainder} never occurs modulo every={self.every}")
        return self


class SpanParams(Frozen):
    """Intervals that `airloop repro` works through unless it is given others."""

    first: IntervalKey
    """First interval; its features look back on nothing."""
    last: IntervalKey
    """Last interval."""

    @model_validator(mode="after")
    def _in_order(self) -> SpanParams:
        if self.last < self.first:
            raise ValueError(f"last={self.last} is before first={self.first}")
        return self


class ValidateParams(Frozen):
    """The ``validate`` stage."""

    max_bad_share: Share
    """Largest share of landed rows that may be quarantined before the interval is refused."""


class GoldenParams(Frozen):
    """The ``golden`` stage."""

    intervals: Annotated[tuple[IntervalKey, ...], Field(min_length=1)]
    """Intervals the golden rows come from; the warm-up."""
    rows: Positive
    """Number of golden rows."""
    min_rows_per_value: Annotated[int, Field(ge=0)]
    """Each value of the model's represented column with at least so many eligible rows has at least so many golden rows."""
    digest: str | None
    """Pinned sha256 of the golden set; null refuses every candidate and says which digest to pin."""


class CheckpointParams(Frozen):
    """When a training keeps what it has learned so far. Shapes no result: a resumed training gives the bytes of an uninterrupted one."""

    steps: Positive
    """Steps (rounds of XGBoost) after which a checkpoint is written,"""
    seconds: Annotated[float, Field(ge=0)]
    """or seconds, whichever comes first; and on SIGTERM."""
    keep: Positive
    """Checkpoints of a training that are kept while it runs."""


class XGBoostParams(Frozen):
    """The family ``xgboost``."""

    rounds: Positive
    """Largest number of boosting rounds."""
    early_stopping_rounds: Positive
    """Rounds without improvement of the validation days' log loss before training stops."""
    segment_rounds: Positive
    """Rounds between two points from which a training can be resumed; part of the result's identity."""
    max_depth: Positive
    """Depth of a tree."""
    eta: Annotated[float, Field(gt=0, le=1)]
    """Learning rate."""
    min_child_weight: Annotated[float, Field(ge=0)]
    """Smallest sum of hessians in a leaf."""
    reg_lambda: Annotated[float, Field(ge=0)]
    """L2 regularisation of leaf weights."""
    subsample: Annotated[float, Field(gt=0, le=1)]
    """Share of the rows that a tree sees."""
    colsample_bytree: Annotated[float, Field(gt=0, le=1)]
    """Share of the features that a tree sees."""


class MlpParams(Frozen):
    """The family ``mlp``. A step learns from device_batch x processes (of all machines) x accumulation rows."""

    epochs: Positive
    """Most passes over the training rows."""
    early_stopping_epochs: Positive
    """Epochs without improvement of the validation days' log loss before training stops."""
    device_batch: Positive
    """Rows that a process takes through the network at once."""
    accumulation: Positive
    """Such batches of each process before the weights move."""
    processes: Positive
    """Processes on each machine, one for each of its GPUs; several machines: docs/training.md."""
    parallel: Literal["ddp", "fsdp"]
    """With several processes: a copy of the weights in each, or a shard, for networks larger than a GPU."""
    precision: Literal["fp32", "bf16", "fp16"]
    """In which the forward pass multiplies (autocast); fp16 scales its loss. Weights are fp32."""
    compile: bool
    """Whether torch.compile makes the forward pass; needs a C++ compiler, and repays itself in long trainings."""
    window: Positive
    """Rows in memory among which the order is random, less or more by a row group of the files."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Highest learning rate of AdamW: a line up to it, then half a cosine down to 0."""
    warmup_steps: Positive
    """Steps on the way up."""
    weight_decay: Annotated[float, Field(ge=0)]
    """AdamW's."""
    clip_norm: Annotated[float, Field(gt=0)]
    """Norm to which the gradient of a step is cut."""
    hidden: tuple[Positive, ...]
    """Units of each hidden layer."""
    dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of hidden units that are switched off at random while training."""
    embedding: Positive
    """Largest width of a category's embedding."""
    leave_out: tuple[str, ...]
    """Numeric features that it does not see: those whose range is the season's, which a network extrapolates on."""
    spread: Annotated[float, Field(gt=0)]
    """Numbers are clipped to the training range, and to so many standard deviations around their mean."""


class Range(Frozen):
    """Values of a setting from ``low`` to ``high``, both included; whole numbers where both are."""

    low: int | float
    """Smallest,"""
    high: int | float
    """and largest that is tried."""
    log: bool = False
    """Whether equal factors are equally likely, rather than equal differences."""

    @model_validator(mode="after")
    def _is_one(self) -> Range:
        if not self.low < self.high:
            raise ValueError(f"low={self.low} is not below high={self.high}")
        if self.log and self.low <= 0:
            raise ValueError(f"low={self.low} has no logarithm; set log: false")
        return self


class Choices(Frozen):
    """Values of a setting that have no order."""

    choices: Annotated[tuple[bool | int | float | str, ...], Field(min_length=2)]
    """Each of them is tried."""


Space = dict[str, Range | Choices]
"""Setting of a family's section to the values that a search tries."""


class FoldParams(Frozen):
    """How a search judges settings: train on earlier days, ask about later ones."""

    count: Positive
    """Blocks of later days, each right after the other, the last at the window's end."""
    days: Positive
    """Whole days of a block, held-out days among them; those are taken out of it."""


class PruningParams(Frozen):
    """When a search gives a trial up: its newest fold's validation loss is worse than the median of the trials before."""

    after_trials: Annotated[int, Field(ge=0)]
    """Trials that are seen to their end before any is given up."""
    after_share: Share
    """Share of a training's largest number of steps that each trial gets."""


class SearchParams(Frozen):
    """The search for settings before a training; off where it has no budget."""

    trials: Annotated[int, Field(ge=0)]
    """Budget in trials, those of earlier searches of the same study counted; 0 is no such limit."""
    minutes: Annotated[float, Field(ge=0)]
    """Budget in minutes of trials, counted likewise; 0 is no such limit. A budget in minutes is not repeatable."""
    folds: FoldParams
    """On which days settings are judged."""
    pruning: PruningParams
    """When a trial is not worth its end."""
    space: dict[str, Space]
    """Family to the settings that are searched; all others stay as they are."""

    @property
    def on(self) -> bool:
        """Whether it has a budget."""
        return bool(self.trials or self.minutes)


class TrainParams(Frozen):
    """The ``train`` stage."""

    family: Literal["xgboost", "mlp", "best"]
    """Model family; best trains each, and sends the one with the lowest log loss on the validation days to the gate."""
    device: Literal["cpu", "cuda"]
    """Where it trains; cuda needs the GPU build of xgboost."""
    seed: int
    """Seed of everything random."""
    threads: Positive
    """Threads of a process; part of the result's identity, since sums are made in their order."""
    validation: DayRule
    """Days to stop on; held-out days are taken out first."""
    checkpoint: CheckpointParams
    """When what is learned so far is kept."""
    search: SearchParams
    """The search for better settings."""
    xgboost: XGBoostParams
    """Settings of that family."""
    mlp: MlpParams
    """Settings of that family."""

    @model_validator(mode="after")
    def _searches_what_there_is(self) -> TrainParams:
        for family, space in self.search.space.items():
            section = getattr(self, family, None)
            if not isinstance(section, Frozen):
                raise ValueError(f"search.space names the family {family!r}, which has no section beside it")  # noqa: TRY004 - what pydantic collects
            if unknown := sorted(set(space) - set(type(section).model_fields)):
                raise ValueError(f"search.space.{family} names {', '.join(unknown)}, which train.{family} has not")
        return self


class ExportParams(Frozen):
    """The exported model, at the end of the stage ``train``: docs/quantised-export.md."""

    quantize: Literal["none", "dynamic", "int8"]
    """dynamic measures an INT8 candidate, which ships if it is worth it; int8 ships it unmeasured, as a rebuild does."""
    batch_sizes: Annotated[tuple[Positive, ...], Field(min_length=1)]
    """Rows at a time that the model will be asked: 1 online, the largest in batch scoring."""
    pairs: Annotated[int, Field(ge=10)]
    """Timings of each size, both models one right after the other."""
    min_saving: Share
    """Least share of time, at one size at least, or of bytes that the candidate saves; it may be slower at none."""
    max_log_loss_rise: Annotated[float, Field(ge=0)]
    """Upper end of the interval of its log loss less the plain model's on the validation days."""
    max_auc_fall: Annotated[float, Field(ge=0)]
    """Likewise of the AUC that it loses."""
    max_gap: Annotated[float, Field(ge=0)]
    """Largest absolute difference of a score from the plain model's; the gate asks again, on golden rows."""
    max_batch_gap: Annotated[float, Field(ge=0)]
    """Largest change of a score by the rows beside it; the gate asks again, and a deployed service may differ by so much."""


class EvaluateParams(Frozen):
    """The ``evaluate`` stage."""

    calibration_bins: Positive
    """Equal-width probability bins of the expected calibration error."""
    latency_rows: Positive
    """Rows of the batch latency measurement."""
    smoke_rows: Positive
    """Golden rows that a deployed service must answer as evaluated."""


class Floors(Frozen):
    """Absolute limits on the golden set."""

    auc: Share
    """Lowest ROC-AUC."""
    ece: Share
    """Highest expected calibration error."""


class SliceFloor(Frozen):
    """Lowest AUC of each value of one column."""

    min_rows: Positive
    """Values with fewer golden rows are not judged."""
    min_auc: Share
    """Lowest ROC-AUC of a judged value."""


class Behaviour(Frozen):
    """A change to the inputs with a known direction: the mean score must follow it."""

    set: dict[str, float] = Field(default_factory=dict)
    """Features to overwrite, in their own units, on every golden row."""
    add: dict[str, float] = Field(default_factory=dict)
    """Features to shift."""
    min_shift: float | None = None
    """Lowest mean change of the score."""
    max_shift: float | None = None
    """Highest mean change of the score."""
    min_share_up: Share | None = None
    """Lowest share of rows whose score does not fall."""


class Optimism(Frozen):
    """By how much decision days flattered a challenger, as measured on past intervals (docs/decision-days.md)."""

    d_log_loss: float
    """Mean of (its log-loss difference to the champion on decision days) less (that of the next interval)."""
    d_auc: float
    """Mean of (its AUC difference to the champion on decision days) less (that of the next interval)."""


class PromotionParams(Frozen):
    """Challenger against champion, on decision days."""

    min_days: Annotated[int, Field(ge=2)]
    """Fewest decision days a comparison may rest on; one says nothing of the noise between days."""
    max_days: Positive
    """Most decision days a comparison looks at, newest first: older ones say less about what comes next."""
    resamples: Annotated[int, Field(ge=100)]
    """Day-bootstrap draws behind the intervals."""
    seed: int
    """Seed of the draws."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)]
    """Two-sided level of the day-bootstrap intervals."""
    max_auc_loss: Share
    """Largest AUC loss tolerated in a challenger whose log loss is better; its interval's lower end must be above it."""
    optimism: Optimism
    """Reported beside every comparison, never subtracted."""

    @model_validator(mode="after")
    def _days_in_order(self) -> PromotionParams:
        if self.max_days < self.min_days:
            raise ValueError(f"max_days={self.max_days} is below min_days={self.min_days}")
        return self


class GateParams(Frozen):
    """The ``gate`` stage."""

    floors: Floors
    slices: dict[str, SliceFloor]
    """Column to its floor."""
    behaviour: dict[str, Behaviour]
    """Name of a check to the change and its limits."""
    max_parity_gap: Annotated[float, Field(gt=0)]
    """Largest absolute difference of ONNX and native probabilities."""
    promotion: PromotionParams


class MonitorParams(Frozen):
    """The monitor: when labels of a landed interval call for a retrain."""

    warmup_through: IntervalKey
    """Last interval before there is a golden set; its landing asks for the first training."""
    window_intervals: Positive
    """Newest intervals whose labels are judged together, as far as the same version scored them; they must hold several days."""
    min_days: Annotated[int, Field(ge=2)]
    """Fewest days with labels on which a model is measured: days are the unit of noise."""
    max_ece: Share
    """Retrain when the interval's expected calibration error is above this."""
    min_auc: Share
    """Retrain when the interval's ROC-AUC is below this."""
    cooldown_intervals: Annotated[int, Field(ge=0)]
    """Landed intervals to wait after a retrain request before the next."""
    max_psi: Annotated[float, Field(gt=0)]
    """Population stability index of a planned feature from which a data-quality alarm is raised."""
    max_blind_share: Share
    """Share of rows without any of the features that an outage of the feed takes away, from which it is reported."""
    report_rows: Positive
    """Rows sampled for Evidently's report."""


class Prices(Frozen):
    """What a pod's resources cost; the sums of a training run are kept with its model."""

    currency: str
    """Of the prices, for people."""
    cpu_hour: Annotated[float, Field(ge=0)]
    """One core for one hour."""
    memory_gib_hour: Annotated[float, Field(ge=0)]
    """One GiB of memory for one hour."""
    gpu_hour: Annotated[float, Field(ge=0)]
    """One GPU for one hour."""
    spot_factor: Share
    """Share of these prices that a spot machine costs."""


class PodParams(Frozen):
    """Stages as Kubernetes pods; plugins/airloop/pod.py acts on it."""

    evictions: Annotated[int, Field(ge=0)]
    """Pods that a task may lose to evictions, preemptions, lost nodes and failed image pulls before it fails."""
    on_demand_after: Annotated[int, Field(ge=0)]
    """Losses after which a spot stage goes to machines that are not taken away."""
    errors: Annotated[int, Field(ge=0)]
    """Crashes of a stage's code after which it is tried again; never when it crashes the same way twice."""
    prices: Prices
    """What their resources cost."""


class Params(Frozen):
    """All settings of a run."""

    default_model: ModelName
    """Folder of models/ that a command works on unless it is given another."""
    evaluate: EvaluateParams
    pods: PodParams
    span: SpanParams
    validate_: Annotated[ValidateParams, Field(alias="validate")]
    features: Any
    """Of the features, and of the online service's lookups: typed by the model (tasks.spec.sections)."""
    holdout: DayRule
    golden: GoldenParams
    train: TrainParams
    export: ExportParams
    gate: GateParams
    monitor: MonitorParams
    model: ModelName
    """Folder of models/ that the run is about."""
    intervals: Annotated[dict[IntervalKey, Lookback], Field(min_length=1)]
    """The run's intervals."""


@cache
def calendar(model: str) -> Calendar:
    """The calendar of the model's feed."""
    return settings_files.calendar_of(CODE, model)


@cache
def _with_the_model_s(name: str) -> type[Params]:
    """Params with the sections that are the model's own, as it types them."""
    from tasks import spec  # a record's types are read where no model is

    own: dict[str, Any] = {section: (kind, ...) for section, kind in spec.sections(name).items()}
    return create_model("Params", __base__=Params, **own)


def parse(raw: dict[str, Any], where: str = "") -> Params:
    """Validate all sections of a run.

    Args:
        raw: the sections of all three files.
        where: what the error's first line ends with: which checkout, or whose overrides.

    Raises:
        ConfigError: it lists every wrong setting with its file and value.
    """
    model = str(raw["model"])
    try:
        context = None if archived() else {CADENCE: calendar(model).cadence}
        return _with_the_model_s(model).model_validate(raw, context=context)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            setting = ".".join(str(part) for part in problem["loc"])
            file = settings_files.file_of(str(problem["loc"][0]), model)
            got = "" if problem["type"] == "missing" else f" (got {problem['input']!r})"
            lines.append(f"  {file}: {setting}: {problem['msg']}{got}")
        raise ConfigError(
            f"{len(lines)} setting(s) to correct{where}:\n"
            + "\n".join(lines)
            + "\nEach setting is explained in tasks/settings/params.py, those of the model in its own folder."
        ) from None


def load(root: Path = Path()) -> Params:
    """Read and validate the settings of the run whose workspace is ``root``; the checkout may be one, with its run.yaml."""
    run = settings_files.read_run(root)
    return parse({**settings_files.read(root, run["model"]), **run}, f" in {root.resolve()}")


def of_model(root: Path, model: str) -> Params:
    """Read and validate the settings that the checkout at ``root`` has for ``model``, with the model's own span."""
    run = settings_files.rendered(root, model)
    return parse({**settings_files.read(root, model), **run}, f" in {root.resolve()}")
