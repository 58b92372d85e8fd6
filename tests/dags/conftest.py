"""These tests import Airflow."""

from tests.airflow_home import use

use()
