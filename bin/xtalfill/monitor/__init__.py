"""What a run of the pipeline has done and still has to do, read from its files."""
