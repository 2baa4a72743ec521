"""What a user takes away from a run: tables, structure files, measures, the report."""
