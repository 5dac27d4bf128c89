"""Data: tables that grow by versions, their schema, what is wrong with a batch of rows, and how rows are split.

A dataset is a Delta table; each append is an immutable version whose digest chains over everything appended before it. Nothing
is written that breaks the schema. Steps (`steps`) pin versions for a run and judge new rows; the next room, `features`, reads
versions as of each row's time.
"""
