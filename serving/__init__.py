"""The online prediction service: what is live answers `POST /predict`, and agrees with the promotion ledger."""
