"""Training of the score models: data, tasks, loop, validation."""
