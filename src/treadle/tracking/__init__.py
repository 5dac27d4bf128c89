"""Experiment tracking: experiments, runs that a script logs itself, their search, logged models and files.

It stands on the ledger, which owns runs and what was measured, and is what the tracking SDK, the console's tables and MLflow's clients
call.
"""
