"""Shared by all stages: batch format, errors, file I/O, records, checkpoints, geometry."""
