"""Airflow's parser needs an Airflow of its own before anything imports it."""

from tests import airflow_home

airflow_home.use()
