"""Coupling statistics of evaluated items; NumPy and SciPy alone."""
