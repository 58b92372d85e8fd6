"""Names of folders that a person may choose, and that something on the way has a meaning of its own for."""

from __future__ import annotations

import unicodedata

NAMES = {
    "space": "mein projekt",
    "percent": "100%",
    "escape": "my%20proj",
    "hash": "issue #1",
    "question": "what?",
    "semicolon": "a ;b",
    "comma": "a, b",
    "nfc": unicodedata.normalize("NFC", "für ü"),
    "nfd": unicodedata.normalize("NFD", "für ü"),
    "single quote": "it's",
    "double quote": 'mein "Ordner"',
    "dollar": "5$ a$x $",
    "glob": "a*[b]",
    "backslash": "a\\b\\",
    "equals": "key=value&more+",
    "all": 'mein "Ordner" 100% #1 ?; it\'s $x, ü',
}
