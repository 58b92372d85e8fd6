"""A neural network, by PyTorch, which `make setup-torch` installs: embeddings for categories, clipped and standardised numbers.

On the example's data boosted trees are the better model (README); the network must earn its place through the gate like any
challenger, and is here for what outgrows trees and one machine.
"""

from __future__ import annotations

from tasks.core.errors import ConfigError
from tasks.modelling.model import Contract, Matrix
from tasks.settings.training_params import TrainParams
from tasks.training.family import Fitted, Job
from tasks.training.source import Source

try:
    import torch

    from tasks.training.neural import launch, network
    from tasks.training.neural.group import alone
    from tasks.training.neural.learn import learn
except ModuleNotFoundError as missing:
    if missing.name not in {"torch", "safetensors"}:
        raise
    raise ConfigError(
        f"The model family mlp needs PyTorch, and {missing.name} is not installed here: run `make setup-torch` (an image: build it "
        "with TORCH=cpu or a CUDA build, docs/images.md), or set train.family=xgboost in the model's params.yaml."
    ) from None

NATIVE = "native.safetensors"
VERSION = str(torch.__version__)
UNIT = "step"


def fit(source: Source, contract: Contract, settings: TrainParams, job: Job) -> Fitted:
    """The network, trained by this process or by several that it starts (``train.mlp.processes``, PET_NNODES)."""
    require_devices(settings)
    if settings.mlp.processes > 1 or launch.nodes() != "1":
        return launch.together(source, contract, settings, job)
    with alone(settings.device) as group:
        fitted = learn(source, contract, settings, job, group)
    assert fitted is not None
    return fitted


def predict(native: bytes, x: Matrix) -> Matrix:
    """P(positive) float32 [n] of encoded rows [n, features], by PyTorch itself."""
    found, inverse = network.from_native(native)
    scores: Matrix = network.predict(found, inverse, x)
    return scores


def require_devices(settings: TrainParams) -> None:
    """ConfigError when there are not as many GPUs as processes."""
    if settings.device != "cuda":
        return
    if not torch.cuda.is_available():
        built = torch.version.cuda or "no CUDA"
        raise ConfigError(
            f"train.device=cuda, but PyTorch {VERSION} (built for {built}) finds no GPU; install another build "
            "(make setup-torch TORCH=auto), or set train.device=cpu in the model's params.yaml."
        )
    if (there := torch.cuda.device_count()) < settings.mlp.processes:
        raise ConfigError(
            f"train.mlp.processes={settings.mlp.processes}, but this machine shows {there} GPU(s), and each process needs one; "
            "lower it in the model's params.yaml, or give the stage more GPUs (meta.gpus in dvc.yaml)."
        )
