"""A second model for the service: nothing of it is like the first."""
