"""pp.x: the electrostatic potential of a pw.x calculation, on a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from ase.io.cube import read_cube
from ase.units import Rydberg

from xtalfill.dft.inputs import OUTDIR, PREFIX
from xtalfill.proposals.dft_potential.restore import PlacementError

PP = "pp.x"
CUBE = "potential.cube"
_POTENTIAL = 11  # local pseudopotential + Hartree, as felt by an electron


def pp_input() -> str:
    """Return the input of pp.x that writes the potential as a cube file."""
    return (
        f"&INPUTPP\n  prefix='{PREFIX}', outdir='{OUTDIR}', filplot='potential',"
        f" plot_num={_POTENTIAL}\n/\n"
        "&PLOT\n  nfile=1, filepp(1)='potential', weight(1)=1.0, iflag=3, output_format=6,"
        f" fileout='{CUBE}'\n/\n"
    )


def read_potential(path: Path) -> np.ndarray:
    """Read a cube file of pp.x, in Ry.

    Returns:
        (n1, n2, n3) eV at the points i / n of the cell. Its mean is that of the local
        pseudopotentials beyond -Z/r, so only differences are meaningful.

    Raises:
        PlacementError: The file is damaged.
    """
    try:
        with path.open(encoding="ascii") as file:
            values = np.asarray(read_cube(file)["data"], dtype=np.float64) * Rydberg
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise PlacementError(
            f"{path.name} cannot be read ({' '.join(str(error).split())})"
        ) from error
    if values.ndim != 3 or not np.isfinite(values).all():
        raise PlacementError(f"{path.name} contains values that are not finite")
    return values
