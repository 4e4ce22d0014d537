"""The stages of an experiment, and what runs them."""
