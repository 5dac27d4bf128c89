"""The ground: frozen records, ids, states with allowed moves, errors, and the definitions a project is made of."""
