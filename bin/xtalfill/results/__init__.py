"""Results of a run: tables, structure files, success rates and the report."""
