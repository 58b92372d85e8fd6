"""Measurements: each file measures one thing; `python -m bench` runs them. Nothing else imports this package."""
