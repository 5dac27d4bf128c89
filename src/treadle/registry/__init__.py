"""The registry: bundles become numbered versions of a model, with a state, aliases, and the approvals that people gave.

A version starts `validated` or `rejected`, as its gates said; an approval makes it `approved` in an environment; a release makes it
`released` there and moves the aliases that endpoints follow. No client moves those by hand. Next room: serving, and the releases.
"""
