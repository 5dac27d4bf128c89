"""Experiments and models from elsewhere and to elsewhere: MLflow's stores as sources, archives, and the one importer they share."""
