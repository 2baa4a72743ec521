"""Report of a run: report.html, provenance.json and ro-crate-metadata.json."""
