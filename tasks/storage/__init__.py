"""Whole files and objects by their digests: the artefact store, a stage's outputs, lists of files."""
