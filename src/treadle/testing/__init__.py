"""For tests, ours and yours: tiny real models, homes and processes to try things on.

Stands outside the street: only tests and benches import it.
"""
