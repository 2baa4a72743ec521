"""Simulated powder patterns, X-ray and neutron, by pymatgen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from ase import Atoms
from pymatgen.core import DummySpecies, Lattice, Structure

from xtalfill.core.errors import InputError

Kind = Literal["xray", "neutron"]
# Å: Cu K-alpha 1, and a usual monochromator setting of neutron powder diffractometers.
WAVELENGTHS: dict[Kind, float] = {"xray": 1.54056, "neutron": 1.5}
_DEUTERIUM = "Xd"  # name of the dummy species


@dataclass(frozen=True)
class Radiation:
    """What the sample diffracts.

    Attributes:
        kind: "xray" or "neutron".
        wavelength: Å.
        deuterium: Whether the hydrogen of the sample is deuterium.
    """

    kind: Kind
    wavelength: float
    deuterium: bool = False


@dataclass(frozen=True)
class Peaks:
    """The reflections of a crystal in a powder pattern.

    Attributes:
        two_theta: (n,) degrees, ascending.
        intensity: (n,) integrated, of one cell, in units of the calculator.
        cell_volume: Å^3.
    """

    two_theta: np.ndarray
    intensity: np.ndarray
    cell_volume: float


def simulate(atoms: Atoms, radiation: Radiation, *, limits: tuple[float, float]) -> Peaks:
    """Compute the reflections of a crystal, without thermal motion.

    Args:
        atoms: The crystal.
        radiation: X-rays (with the polarisation of an unpolarised beam) or neutrons.
        limits: Range of 2 theta, degrees.

    Raises:
        InputError: The tables of pymatgen lack an element, or there is no reflection.
    """
    from pymatgen.analysis.diffraction.neutron import ATOMIC_SCATTERING_LEN, NDCalculator
    from pymatgen.analysis.diffraction.xrd import XRDCalculator

    # pymatgen takes the element D for H; its table has 2H, which is no name of an element.
    ATOMIC_SCATTERING_LEN.setdefault(_DEUTERIUM, ATOMIC_SCATTERING_LEN["2H"])
    heavy = radiation.deuterium and radiation.kind == "neutron"
    species = [
        DummySpecies(_DEUTERIUM) if heavy and symbol == "H" else symbol for symbol in atoms.symbols
    ]
    structure = Structure(
        Lattice(atoms.cell.array), species, atoms.positions, coords_are_cartesian=True
    )
    calculator = XRDCalculator if radiation.kind == "xray" else NDCalculator
    try:
        found = calculator(wavelength=radiation.wavelength).get_pattern(
            structure, scaled=False, two_theta_range=limits
        )
    except ValueError as error:
        raise InputError(
            f"{atoms.get_chemical_formula()}: no {radiation.kind} pattern from "
            f"{limits[0]:g} to {limits[1]:g}° with {radiation.wavelength:g} Å ({error}); "
            "choose another range or wavelength"
        ) from error
    two_theta, intensity = np.asarray(found.x), np.asarray(found.y)
    order = np.argsort(two_theta)
    return Peaks(two_theta[order], intensity[order], float(atoms.cell.volume))
