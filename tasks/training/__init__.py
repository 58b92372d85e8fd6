"""Training: what every model family shares. A family is one file of families/; tasks/train.py runs the one that `train.family` names."""
