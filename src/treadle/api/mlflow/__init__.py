"""The protocol of MLflow's REST API: a translation table between its words and the operations.

`table.py` says what a row of it is, one module a group of endpoints has the rows (`ROWS`), `app.py` serves them, `errors.py` says errors
in the protocol's form. Nothing here decides anything: every handler asks operations through the one door.
"""
