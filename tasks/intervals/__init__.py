"""Time as keys: how often data land, and what an interval looks back on."""
