"""What the stages share: typed parameters, the artefact store, the ledger, runs and errors. No stage, no Airflow."""
