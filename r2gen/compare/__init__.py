"""Comparison of several systems over the same studies, for task=compare. Imports no torch."""
