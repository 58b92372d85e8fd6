"""Airloop on one machine: set up, start and stop every service, and say what is wrong in one sentence."""
