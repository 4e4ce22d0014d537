"""What an experiment may say, and whether it can be run as it says."""
