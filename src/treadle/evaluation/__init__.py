"""Evaluation: what a model is worth on rows it has not seen, over all of them and on slices, and whether that is enough.

`metrics` are the numbers, `report` takes them, `gates` judge a report, `declare` are the words for gates in a project, `profiles`
summarise columns so that monitoring can compare another day's. All of it is pure. Next room: packaging.
"""
