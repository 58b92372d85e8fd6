"""The cells of what lands, as typed columns."""
