"""What pw.x calculates, and the settings that a repair may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import Pseudo


@dataclass(frozen=True)
class PwSettings:
    """What the corrective actions change between attempts; the rest never changes.

    Attributes:
        mixing_beta: Share of the new density in each step of the self-consistency.
        mixing_mode: "plain" or "local-TF".
        mixing_ndim: Densities that the mixing remembers.
        electron_maxstep: Steps that one self-consistency may take.
        diagonalization: "david", "paro" or "cg".
        diago_david_ndim: Size of Davidson's workspace, in bands.
        nstep: Ionic steps.
        ion_dynamics: "bfgs" or "damp".
        trust_radius_min: bohr; smallest step of BFGS.
        nbnd: Bands; None leaves them to pw.x.
        ranks: MPI processes.
        pools: Groups of processes that share the k-points.
        density_from_file: Start from the density of the last attempt.
    """

    mixing_beta: float
    electron_maxstep: int
    nstep: int
    mixing_mode: str = "plain"
    mixing_ndim: int = 8
    diagonalization: str = "david"
    diago_david_ndim: int = 2
    ion_dynamics: str = "bfgs"
    trust_radius_min: float = 1e-3
    nbnd: int | None = None
    ranks: int = 1
    pools: int = 1
    density_from_file: bool = False


@dataclass(frozen=True)
class PwSystem:
    """A crystal as pw.x gets it, and all that no repair changes.

    Attributes:
        name: Of the structure, for messages.
        key: Of the calculation, unique in a task: what a checkpoint is compared by.
        atoms: In the orientation and with the origin that pw.x gets.
        protocol: Thresholds and mixing.
        pseudos: Element -> its pseudopotential.
        valence: Element -> valence electrons of its pseudopotential.
        ecutwfc: Ry.
        ecutrho: Ry.
        kpoints: Mesh, Gamma-centred.
        n_irreducible: k-points that symmetry leaves.
        degauss: Ry.
        smearing: Kind of smearing.
        extra: Electrons more than the atoms have; a uniform background makes the cell neutral.
        free: (n_atoms,) bool, the atoms that may move; without any the electrons alone are
            calculated.
        spin: Whether the calculation is spin-polarised (collinear).
    """

    name: str
    key: str
    atoms: Atoms
    protocol: Protocol
    pseudos: Mapping[str, Pseudo]
    valence: Mapping[str, float]
    ecutwfc: float
    ecutrho: float
    kpoints: tuple[int, int, int]
    n_irreducible: int
    degauss: float
    smearing: str
    extra: int
    free: np.ndarray
    spin: bool = False

    @property
    def symbols(self) -> list[str]:
        """Of the elements, one an atom."""
        return list(self.atoms.get_chemical_symbols())

    @property
    def n_electrons(self) -> float:
        """Valence electrons of the cell."""
        return sum(self.valence[symbol] for symbol in self.symbols) + self.extra

    @property
    def relaxes(self) -> bool:
        """Whether any atom may move."""
        return bool(self.free.any())

    def first_settings(self) -> PwSettings:
        """Return the settings of the first attempt."""
        return PwSettings(
            mixing_beta=self.protocol.mixing_beta,
            electron_maxstep=self.protocol.electron_maxstep,
            nstep=self.protocol.nstep,
        )
