"""All use of DVC's Python API: pinned by requirements/, covered by tests/versioning/.

The API spares the ~1 s that every dvc command costs; what it does is what the commands do.
"""
