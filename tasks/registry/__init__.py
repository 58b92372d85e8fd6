"""Which versions there are and which is live: the store's book, the ledger, and MLflow as a view of both."""
