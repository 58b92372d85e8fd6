"""What `tasks/score.py` is made of beside the models: which features a version is scored on, and what its own are made of."""
