"""Restore structures in the running process, without Nextflow."""
