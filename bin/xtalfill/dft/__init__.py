"""Validation with Quantum ESPRESSO: plan jobs, run pw.x, read what it found."""
