"""All use of DVC's Python API."""
