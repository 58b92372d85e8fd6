"""Searching: settings of a model family that predict later days better. tasks/search.py runs it, before training and apart from it."""
