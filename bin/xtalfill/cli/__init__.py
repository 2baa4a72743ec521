"""Command-line interface ``xtalfill``; `parser.main` runs it."""
