"""`xtalfill.restore`: CHECK, INPAINT, RELAX and SELECT for given structures, in the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from xtalfill.core.counts import less_likely, structure_of
from xtalfill.core.errors import InputError
from xtalfill.inputs.hosts import Refusal, assign_ids
from xtalfill.interactive.answer import Answer, make_answer
from xtalfill.interactive.given import Given, GivenStructure, read_given
from xtalfill.interactive.progress import progress_stream
from xtalfill.interactive.settings import Settings, make_all_settings
from xtalfill.interactive.stages import check, restore_hosts


def restore(
    structures: Given | Sequence[Given],
    *,
    element: str | None = None,
    n_missing: int | str | None = None,
    remove_existing: bool | None = None,
    n_tries: int | None = None,
    mu: float | None = None,
    samples: int | str | None = None,
    seed: int | None = None,
    method: str | None = None,
    model: str | Path | None = None,
    mlip: str | None = None,
    mlip_rank: str | None = None,
    potential_dir: str | Path | None = None,
    device: str | None = None,
    progress: bool = True,
) -> Answer | list[Answer]:
    """Put the missing atoms back into crystals.

    The results are those of the pipeline, bit for bit on a CPU, for the same id, seed and
    settings. An option that is None has the default of the pipeline's parameter of that name.

    Args:
        structures: ASE Atoms, a pymatgen Structure, a path that the pipeline reads, or a list of
            them. The id is that in `info` (ASE) or `properties` (pymatgen), else it follows from
            the content.
        element: Element to fill, where the structure names none.
        n_missing: Missing sites per cell, where the structure gives no number; "auto" takes it
            from charge balance and bond valences where they decide, and compares numbers by energy
            where they do not.
        n_tries: Numbers that "auto" compares; 0 refuses such a structure.
        mu: Chemical potential of hydrogen for that, eV per atom.
        remove_existing: Remove the sites of the element first.
        samples: Candidates for each structure and method; "auto" for as many as needed.
        seed: Seed of the candidates.
        method: Proposal methods, separated by commas.
        model: Weights to use instead of the bundled ones: files or folders, separated by commas.
        mlip: Potential: a name, or the path of a model file.
        mlip_rank: Second potential, whose energies rank; "none" for none.
        potential_dir: Folder with files of published potentials.
        device: "cpu" or "cuda".
        progress: Show a bar in a terminal, or in a notebook with ipywidgets.

    Returns:
        The answer for a single structure, the answers in order for a list or for a path with
        several structures. In a list, a structure that cannot be used has status and message.

    Raises:
        InputError: The only structure cannot be used.
        ConfigError: An option, weights or potential cannot be used.
    """
    settings = make_all_settings(
        {
            "element": element,
            "n_missing": n_missing,
            "remove_existing": remove_existing,
            "n_tries": n_tries,
            "mu": mu,
            "samples": samples,
            "seed": seed,
            "method": method,
            "model": model,
            "mlip": mlip,
            "mlip_rank": mlip_rank,
            "potential_dir": potential_dir,
            "device": device,
        }
    )
    given = read_given(structures)
    answers = restore_given(given, settings, progress=progress)
    alone = len(answers) == 1 and not isinstance(structures, (list, tuple))
    return answers[0] if alone else answers


def restore_given(
    given: Sequence[GivenStructure], settings: Settings, *, progress: bool
) -> list[Answer]:
    """Return the answer for each given structure, in order.

    Raises:
        InputError: There is one structure, and it cannot be used.
        ConfigError: Weights, potential or device cannot be used.
    """
    entries = [one.entry for one in given]
    # On copies: assign_ids adds notes, and CHECK calls it itself.
    names = [name for name, _, _ in assign_ids(replace(entry, notes=[]) for entry in entries)]
    hosts, refusals = check(entries, settings)
    if len(given) == 1 and refusals:
        raise InputError(f"{refusals[0].id} ({refusals[0].source}): {refusals[0].message}")
    form_of = {name: one.form for name, one in zip(names, given, strict=True)}
    notes = {host.id: host.notes for host in hosts}
    found: dict[str, Answer] = {}
    with progress_stream(shown=progress) as stream:
        for batch in restore_hosts(hosts, settings, progress=stream):
            other_numbers = less_likely(batch)
            for name, members in batch.groups().items():
                if name not in other_numbers:
                    own = structure_of(name)
                    found[own] = make_answer(batch, members, notes=notes[name], form=form_of[own])
    return [
        found[name] if name in found else _refused(name, one, refusals)
        for name, one in zip(names, given, strict=True)
    ]


def _refused(name: str, one: GivenStructure, refusals: Sequence[Refusal]) -> Answer:
    """Return the answer for a structure that CHECK refused."""
    source = one.entry.source
    message = next(each.message for each in refusals if (each.id, each.source) == (name, source))
    return Answer(id=name, status="failed", message=message)
