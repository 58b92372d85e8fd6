"""What is kept, for how long, and what nothing needs any more: mark from the roots, sweep what is old and not marked."""
