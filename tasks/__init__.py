"""One file a stage, in data order: ingest, validate, features, golden, train, resolve, evaluate, gate, register, deploy, score, monitor."""

import os

# Before a library reads it: OpenMP threads that spin while they wait made a training twenty times slower on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
