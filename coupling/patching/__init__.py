"""Activation patching: which positions and layers carry a behaviour."""
