"""All tests find this environment's programs (python, spark-submit, airflow) and the Java that `make setup` chose."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from local.paths import STAMP

os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
if STAMP.exists() and (java := json.loads(STAMP.read_text()).get("java_home")):
    os.environ.setdefault("JAVA_HOME", java)
