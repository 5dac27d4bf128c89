"""The control plane over HTTP: every operation of the table as a route, guarded, documented, and nothing else.

A request walks: guard (Host, Origin, size, who) → route → decode → the one door → encode. `build_app` makes the application,
`serve` runs it.
"""
