"""The one error a user of `airloop` or `make` is meant to read."""


class LocalError(Exception):
    """Something on this machine keeps Airloop from running; the message is one or two plain sentences with the way out."""
