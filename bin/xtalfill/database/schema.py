"""Tables of the results database.

A structure is stored once for each name, content of its host, and recipe: the settings and weights
that decide its result. A second result with the same three replaces the first. Numbers that a
query needs are columns; complete rows of results.csv and candidates.csv are JSON, so that a new
column of these tables needs no new schema.
"""

from __future__ import annotations

import sqlalchemy as sa

# Raised with every change of the tables. A database of another version is refused, not converted.
VERSION = 1

metadata = sa.MetaData()

schema_version = sa.Table(
    "xtalfill_schema",
    metadata,
    sa.Column("version", sa.Integer, primary_key=True, autoincrement=False),
)

# A run of the pipeline, or a finished run that was imported.
run = sa.Table(
    "xtalfill_run",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("uid", sa.String(100), nullable=False, unique=True),
    sa.Column("first_stored", sa.String(32), nullable=False),  # when it was registered
    sa.Column("parameters", sa.JSON, nullable=False),
    sa.Column("workflow", sa.JSON, nullable=False),
)

# The settings and weights that decide a result (lib/Recipe.groovy).
recipe = sa.Table(
    "xtalfill_recipe",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("content", sa.JSON, nullable=False),
)

# What the stages noted in their batch: parameters, versions, checksums of the weights.
history = sa.Table(
    "xtalfill_history",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("digest", sa.String(64), nullable=False, unique=True),
    sa.Column("content", sa.JSON, nullable=False),
)

structure = sa.Table(
    "xtalfill_structure",
    metadata,
    sa.Column("id", sa.Integer, primary_key=True),
    sa.Column("name", sa.String(100), nullable=False, index=True),
    sa.Column("host_key", sa.String(64), nullable=False, index=True),  # "" where CHECK refused
    sa.Column("recipe_id", sa.ForeignKey(recipe.c.id), nullable=False),
    sa.Column("run_id", sa.ForeignKey(run.c.id), nullable=False),
    sa.Column("history_id", sa.ForeignKey(history.c.id)),
    sa.Column("stored", sa.String(32), nullable=False),  # UTC, ISO 8601
    sa.Column("source", sa.Text, nullable=False),
    sa.Column("formula", sa.Text, nullable=False),
    sa.Column("reduced_formula", sa.Text, nullable=False, index=True),
    sa.Column("elements", sa.Text, nullable=False),  # "-H-Mg-O-"
    sa.Column("element", sa.String(3), nullable=False),
    sa.Column("n_atoms", sa.Integer),
    sa.Column("n_missing", sa.Integer),
    sa.Column("status", sa.String(20), nullable=False, index=True),
    sa.Column("message", sa.Text, nullable=False),
    sa.Column("method", sa.String(40), nullable=False),
    sa.Column("energy", sa.Float),  # eV per cell
    sa.Column("energy_gap", sa.Float),  # eV per cell
    sa.Column("dft_status", sa.String(20), nullable=False),
    sa.Column("dft_energy", sa.Float),  # eV per cell
    sa.Column("results", sa.JSON, nullable=False),  # rows of results.csv by method, best first
    sa.Column("crystal", sa.JSON),  # the restored crystal
    sa.Column("dft_crystal", sa.JSON),  # that of lowest DFT energy, after pw.x
    sa.UniqueConstraint("name", "host_key", "recipe_id"),
)

candidate = sa.Table(
    "xtalfill_candidate",
    metadata,
    sa.Column("structure_id", sa.ForeignKey(structure.c.id, ondelete="CASCADE"), primary_key=True),
    sa.Column("method", sa.String(40), primary_key=True),
    sa.Column("sample", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("status", sa.String(20), nullable=False),
    sa.Column("energy", sa.Float),  # eV per cell
    sa.Column("summary", sa.JSON, nullable=False),  # row of candidates.csv
)
