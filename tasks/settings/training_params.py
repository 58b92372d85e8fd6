"""Settings of a training and of what it exports."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from tasks.core.frozen import Frozen
from tasks.settings.search_params import SearchParams
from tasks.settings.value_types import DayRule, Positive, Share


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
