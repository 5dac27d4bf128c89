"""The schema's history. `HEAD` is the revision that this release writes; `migrate.ensure` brings a database to it."""

#: The newest revision in `versions/`, and all revisions this release can upgrade from, oldest first.
REVISIONS = ("0001",)
HEAD = REVISIONS[-1]
