"""A file a model family: what it is called in params.yaml is what it is called here."""
