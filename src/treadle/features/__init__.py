"""Features: definitions, the as-of join, windows, and the online copy that a gateway reads.

A feature view is declared once (`declare`). `join` computes it for a table of rows, each as of its own moment; `materialise` pushes
the same rows into the online store of an environment, whose reader gives the same bits; a pipeline starts with
`steps.training_set`. The next room, `training`, fits on what comes out.
"""
