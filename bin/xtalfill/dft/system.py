"""The systems that pw.x calculates, and the settings that a repair may change."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import Pseudo


@dataclass(frozen=True)
class PwSettings:
    """Settings that the corrective actions change between attempts.

    Attributes:
        mixing_beta: Share of the new density in each SCF step.
        mixing_mode: "plain" or "local-TF".
        mixing_ndim: Number of densities that the mixing keeps.
        electron_maxstep: Maximum number of SCF steps.
        diagonalization: "david", "paro" or "cg".
        diago_david_ndim: Size of the Davidson workspace, in bands.
        nstep: Maximum number of ionic steps.
        ion_dynamics: "bfgs" or "damp".
        trust_radius_min: Smallest BFGS step in bohr.
        nbnd: Number of bands; None uses the default of pw.x.
        ranks: Number of MPI processes.
        pools: Number of k-point pools.
        density_from_file: Whether to start from the density of the previous attempt.
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
    """A crystal as pw.x gets it, with the settings that no repair changes.

    Attributes:
        name: Name of the structure, for messages.
        key: Key of the calculation, unique within a task; identifies its checkpoint.
        atoms: The crystal, in the orientation and with the origin that pw.x gets.
        protocol: Thresholds and mixing.
        pseudos: Element -> pseudopotential.
        valence: Element -> valence electrons of its pseudopotential.
        ecutwfc: Cutoff of the wavefunctions in Ry.
        ecutrho: Cutoff of the density in Ry.
        kpoints: k-point mesh, Gamma-centred.
        n_irreducible: Number of irreducible k-points.
        degauss: Smearing width in Ry.
        smearing: Kind of smearing.
        extra: Electrons in excess of those of the atoms; a uniform background neutralises the cell.
        free: (n_atoms,) bool, the atoms that may move; if none may, pw.x runs an SCF calculation.
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
        """Symbols of the elements, one per atom."""
        return list(self.atoms.get_chemical_symbols())

    @property
    def n_electrons(self) -> float:
        """Number of valence electrons per cell."""
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
