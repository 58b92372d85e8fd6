"""What DAG files import: the models, stages and jobs as tasks, the assets that join the DAGs, and the house's defaults.

Light on purpose: Airflow imports it in each of its processes and again for each task.
"""

from airloop.assets import Assets, announce, by_interval
from airloop.cadence import calendar
from airloop.house import ORDERED_ARGS, broken_dag, by_hand, house_dag, interval_param
from airloop.keys import interval_of
from airloop.model import Model, broken_models, models
from airloop.stage import job, stage
from airloop.waiting import ResumeOperator

__all__ = [
    "ORDERED_ARGS",
    "Assets",
    "Model",
    "ResumeOperator",
    "announce",
    "broken_dag",
    "broken_models",
    "by_hand",
    "by_interval",
    "calendar",
    "house_dag",
    "interval_of",
    "interval_param",
    "job",
    "models",
    "stage",
]
