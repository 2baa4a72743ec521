"""The symmetrised crystal of each answer, relaxed again: is its symmetry that of the minimum?

A relaxation conserves symmetry. So a symmetrised crystal that relaxes to the energy of the answer
is the same minimum, written with its full symmetry. If it stays higher, the answer broke that
symmetry for a reason.
"""

from __future__ import annotations

import numpy as np

from xtalfill.checks.symmetry import find_symmetry
from xtalfill.core.batch import Batch, Stage
from xtalfill.core.crystal import Crystal
from xtalfill.core.relaxations import final_stage
from xtalfill.relax.batched import Relaxation, RelaxationResult
from xtalfill.relax.interface import Potential
from xtalfill.relax.settings import RelaxSettings
from xtalfill.relax.stage import make_driver

STAGE = "symmetrised"
# eV per atom; relaxations of one minimum to 0.05 eV/Angstrom agree within it (docs/checks.md).
NOT_HIGHER = 0.0005


def relax_symmetrised(batch: Batch, potential: Potential, settings: RelaxSettings) -> None:
    """Relax the symmetrised crystal of the lowest candidate of each structure and method.

    Adds the stage "symmetrised": `positions`, `energy`, `fmax`, `n_steps` and `converged`; NaN for
    the other candidates, and where the relaxation failed or no symmetry was found.

    Args:
        batch: A batch after the last relaxation; its statuses and results do not change.
        potential: The potential whose energies rank.
        settings: Of relax_positions and relax_rank.
    """
    crystals = {index: found for index in _lowest(batch) if (found := _crystal(batch, index))}
    jobs = [Relaxation(one, np.ones(len(one.numbers), dtype=bool)) for one in crystals.values()]
    driver = make_driver(potential, settings)
    results = driver.relax(jobs, fmax=settings.fmax, max_steps=settings.max_steps)
    stage = _stage(batch, dict(zip(crystals, results, strict=True)))
    stage.attrs |= {"mlip": potential.name, "fmax": settings.fmax, "max_steps": settings.max_steps}
    batch.stages[STAGE] = stage


def is_offered(energy_above: float, n_atoms: int) -> bool:
    """Return whether a symmetrised crystal is offered: relaxed again, it is not higher.

    Args:
        energy_above: Its energy above that of the answer, eV per cell; NaN if it is not known.
        n_atoms: Number of atoms in the cell.
    """
    return bool(energy_above <= NOT_HIGHER * n_atoms)


def _lowest(batch: Batch) -> list[int]:
    """Return the lowest converged candidate of each structure and method, as SELECT does."""
    energies = batch.stages[final_stage(batch)].arrays["energy"]
    found = []
    for members in batch.groups_by_method():
        converged = [i for i in members if batch.status[i] == "ok" and np.isfinite(energies[i])]
        found += sorted(converged, key=lambda i: (energies[i], batch.sample[i]))[:1]
    return found


def _crystal(batch: Batch, index: int) -> Crystal | None:
    """Return the symmetrised crystal of a candidate; None without symmetry."""
    is_host = batch.is_host[batch.atoms_slice(index)]
    atoms = batch.to_ase(index, stage=final_stage(batch))
    try:
        found = find_symmetry(atoms, is_host, host=batch.to_ase(index, host_only=True))
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError):
        return None  # the checks of the candidate tell the reason
    if found.number <= 1:
        return None
    return Crystal(atoms.numbers, found.symmetrised.positions, atoms.cell.array)


def _stage(batch: Batch, results: dict[int, RelaxationResult]) -> Stage:
    arrays = {
        "positions": np.full((batch.n_atoms, 3), np.nan),
        "energy": np.full(batch.n_systems, np.nan),
        "energy_above": np.full(batch.n_systems, np.nan),
        "fmax": np.full(batch.n_systems, np.nan),
        "n_steps": np.zeros(batch.n_systems, dtype=np.int32),
        "converged": np.zeros(batch.n_systems, dtype=np.bool_),
    }
    relaxed = final_stage(batch)
    energies = batch.stages[relaxed].arrays["energy"]
    for index, result in results.items():
        if result.evaluation is None or not result.converged:
            continue
        arrays["positions"][batch.atoms_slice(index)] = result.positions
        arrays["energy"][index] = result.evaluation.energy
        arrays["energy_above"][index] = result.evaluation.energy - energies[index]
        arrays["fmax"][index] = result.fmax
        arrays["n_steps"][index] = result.n_steps
        arrays["converged"][index] = result.converged
    return Stage(arrays, {"relaxed": relaxed})
