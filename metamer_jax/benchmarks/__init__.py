"""What a step costs: timed here, or compiled ahead of time for a TPU that is not here."""
