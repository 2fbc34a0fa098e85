"""Tells browsers at once when something of theirs changed: a process of its own, since hundreds listen and wait.

It says what changed, never more than an id, a state and a figure; the page asks the portal for the rest. Nothing
depends on it: a page that cannot reach it asks again by itself, as it did before (docs/adr/0012).
"""
