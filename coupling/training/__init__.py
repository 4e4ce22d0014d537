"""From labels to trained weights: batches of trees, the loss, step and loop."""
