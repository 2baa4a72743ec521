"""The level of theory of a run, and the crystals that pw.x calculates at it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from xtalfill.dft.protocols import Protocol
from xtalfill.dft.pseudos import PseudoTable, cutoffs
from xtalfill.dft.symmetry import in_setting, irreducible_kpoints, kpoint_mesh
from xtalfill.dft.system import PwSystem


@dataclass(frozen=True, kw_only=True)
class LevelOfTheory:
    """Protocol, pseudopotentials, smearing and spin.

    Attributes:
        protocol: k-point distance, thresholds and mixing.
        table: Element -> pseudopotential.
        valence: Element -> valence electrons, for the elements whose file was checked.
        degauss: Smearing width in Ry.
        smearing: Kind of smearing.
        spin: Whether the calculations are spin-polarised.
    """

    protocol: Protocol
    table: PseudoTable
    valence: Mapping[str, float]
    degauss: float
    smearing: str
    spin: bool = False

    def pseudo_checksums(self) -> dict[str, str]:
        """Return the files of the pseudopotentials: name -> checksum."""
        used = (self.table[name] for name in sorted(self.valence))
        return {one.filename: f"md5:{one.md5}" for one in used}

    def system(
        self,
        crystal: Atoms,
        *,
        name: str,
        key: str,
        rotation: np.ndarray,
        origin: np.ndarray,
        tolerance: float,
        free: np.ndarray,
        extra: int = 0,
    ) -> PwSystem:
        """Return what pw.x calculates for a crystal.

        Args:
            crystal: The crystal; every element has a pseudopotential.
            name: Name of the structure.
            key: Key of the calculation.
            rotation: (3, 3) orthogonal R; pw.x gets the lattice vectors cell @ R.T.
            origin: (3,) fractional; pw.x gets the crystal with its origin there.
            tolerance: Tolerance of the symmetry search in Angstrom.
            free: (n_atoms,) bool; the atoms that may move.
            extra: Electrons in excess of those of the atoms.
        """
        symbols = sorted(set(crystal.get_chemical_symbols()))
        mesh = kpoint_mesh(crystal, self.protocol.kpoints_distance)
        ecutwfc, ecutrho = cutoffs(self.table, symbols)
        return PwSystem(
            name=name,
            key=key,
            atoms=in_setting(crystal, rotation, origin),
            protocol=self.protocol,
            pseudos={symbol: self.table[symbol] for symbol in symbols},
            valence={symbol: self.valence[symbol] for symbol in symbols},
            ecutwfc=ecutwfc,
            ecutrho=ecutrho,
            kpoints=mesh,
            n_irreducible=irreducible_kpoints(crystal, mesh, tolerance=tolerance),
            degauss=self.degauss,
            smearing=self.smearing,
            extra=extra,
            free=free,
            spin=self.spin,
        )
