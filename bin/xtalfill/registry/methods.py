"""The proposal methods, from methods.json."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from xtalfill.registry import read_entries, without_documentation

FILE = Path(__file__).with_name("methods.json")


@dataclass(frozen=True)
class MethodEntry:
    """A proposal method.

    Attributes:
        name: As in --method.
        weights: Kind of the weights that it samples with; None for a method without a model.
        stage: The stage that fills the sites: "inpaint", or "baseline" for the subworkflow.
        needs_pw: Whether it runs pw.x.
    """

    name: str
    weights: str | None
    stage: str
    needs_pw: bool


METHODS = {
    entry["name"]: MethodEntry(**without_documentation(entry)) for entry in read_entries(FILE)
}
