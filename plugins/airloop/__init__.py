"""What DAG files import: stages and acts as tasks, the assets that join the DAGs, and the house's defaults.

Light on purpose: Airflow imports it in each of its processes and again for each task.
"""

from airloop.assets import APPROVED, LANDED, LIVE, RESCORE, RETRAIN_REQUESTED, SCORED, announce, by_month
from airloop.house import DEFAULT_ARGS, by_hand, month_param
from airloop.keys import month_of
from airloop.stage import act, stage

__all__ = [
    "APPROVED",
    "DEFAULT_ARGS",
    "LANDED",
    "LIVE",
    "RESCORE",
    "RETRAIN_REQUESTED",
    "SCORED",
    "act",
    "announce",
    "by_hand",
    "by_month",
    "month_of",
    "month_param",
    "stage",
]
