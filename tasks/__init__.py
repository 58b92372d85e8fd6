"""One file a stage, in data order: ingest, validate, features, golden, train, resolve, evaluate, gate, register, deploy, score, monitor."""
