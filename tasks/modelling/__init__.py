"""A model as it travels, and what it is measured by."""
