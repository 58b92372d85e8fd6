"""One training in this process, alone or as one of several: from rows to the files of a model."""

from __future__ import annotations

import torch

from tasks.modelling.model import Contract
from tasks.settings.training_params import TrainParams
from tasks.training.family import Fitted, Job
from tasks.training.neural.graph import to_onnx
from tasks.training.neural.group import Group
from tasks.training.neural.loop import Trainer, calibrate, facts
from tasks.training.neural.network import Network, Shape, to_native
from tasks.training.neural.preparation import prepare
from tasks.training.source import Source


def learn(source: Source, contract: Contract, settings: TrainParams, job: Job, group: Group) -> Fitted | None:
    """The network of the epoch with the lowest log loss on the validation days, calibrated; None but in the first process.

    Raises:
        Ended: a process was asked to end.
    """
    own = settings.mlp
    torch.set_num_threads(settings.threads)
    torch.use_deterministic_algorithms(group.device.type == "cpu")
    prepared = prepare(source, contract, own.leave_out, own.spread)
    shape = Shape(own.hidden, own.embedding, own.dropout)
    torch.manual_seed(settings.seed % 2**63)
    network = Network(prepared, shape, source.facts["positive_share"])
    trainer = Trainer(network, source, contract, own, settings.seed, job, group)
    course, best = trainer.run()
    trainer.load(best)
    inverse, loss = calibrate(trainer, group)
    if not group.first:
        return None
    final = Network(prepared, shape)
    final.load_state_dict(best)
    return Fitted(
        onnx=to_onnx(final.eval(), inverse, len(contract.features)),
        native=to_native(final, inverse),
        facts=facts(course, final, inverse, loss),
    )
