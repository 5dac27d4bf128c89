"""Treadle: the closed loop of machine learning in one package."""
