"""What every stage shares: the batch, errors, files, records, checkpoints, geometry."""
