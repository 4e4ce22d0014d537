"""What a training would need of hardware that is not at hand."""
