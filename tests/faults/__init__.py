"""Faults at random moments against the run protocol: what a stage leaves is what an undisturbed one leaves."""
