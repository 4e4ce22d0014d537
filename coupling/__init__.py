"""Introspective coupling: training, evaluation and statistics."""

import data  # noqa: F401  # before transformers: see there
