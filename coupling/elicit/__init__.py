"""What is asked of a model: behaviours, explanations, label sets, evaluation."""
