"""The verbs of `airloop`, by what they are about. Each is a function that imports what it needs when it is asked for."""
