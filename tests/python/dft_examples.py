"""Jobs, recorded outputs and pseudopotentials for tests of the DFT stage."""

from __future__ import annotations

import gzip
import os
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from xtalfill.dft.failures import PwOutput
from xtalfill.dft.inputs import OUTDIR, PREFIX
from xtalfill.dft.job import PwJob
from xtalfill.dft.output import read_output
from xtalfill.dft.protocols import Protocol, read_protocol
from xtalfill.dft.pseudos import Pseudo, read_table
from xtalfill.dft.system import PwSystem

REPOSITORY = Path(__file__).resolve().parents[2]
RECORDED = REPOSITORY / "tests" / "fixtures" / "pw"
TABLE = REPOSITORY / "assets" / "sssp" / "sssp_1.3.0_pbe_efficiency.json"
VALENCE = {"H": 1.0, "Li": 3.0}


def protocol(name: str) -> Protocol:
    """Return a protocol of xtalfill."""
    return read_protocol(REPOSITORY / "assets" / "protocols" / f"{name}.yaml")


def system_of(atoms: Atoms, pseudos: dict[str, Pseudo], **more: Any) -> PwSystem:
    """Return a system of PLAN_DFT with the protocol fast and given cutoffs."""
    fast = protocol("fast")
    default = {"key": "batch_0000.1", "kpoints": (1, 1, 1), "n_irreducible": 1}
    fixed = {"degauss": fast.degauss, "smearing": fast.smearing, "extra": 0}
    free = np.ones(len(atoms), dtype=bool)
    given = default | fixed | more
    return PwSystem(atoms=atoms, protocol=fast, pseudos=pseudos, free=free, **given)


def lih_system(**changes: Any) -> PwSystem:
    """Return LiH in its primitive cell with displaced H, as in the recorded runs."""
    atoms = bulk("LiH", "rocksalt", a=4.08)
    atoms.positions[1] += [0.10, 0.05, -0.07]
    table = read_table(TABLE)
    system = system_of(
        atoms,
        {symbol: table[symbol] for symbol in VALENCE},
        name="lih",
        valence=dict(VALENCE),
        ecutwfc=30.0,
        ecutrho=240.0,
        kpoints=(2, 2, 2),
        n_irreducible=4,
    )
    return replace(system, **changes)


def as_job(system: PwSystem) -> PwJob:
    """Return the job of a crystal in its own setting."""
    return PwJob(system, rotation=np.eye(3), origin=np.zeros(3), n_symmetry=4)


def lih_job(**changes: Any) -> PwJob:
    """Return the job of LiH."""
    return as_job(lih_system(**changes))


def unpack(name: str, folder: Path, *, attempt: str = "pw.1") -> int:
    """Extract a recorded run into a folder, as pw.x writes it; return its exit code."""
    source = RECORDED / name
    (folder / f"{attempt}.out").write_bytes(gzip.decompress((source / "pw.out.gz").read_bytes()))
    (folder / f"{attempt}.err").write_bytes((source / "pw.err").read_bytes())
    packed = source / "pwscf.xml.gz"
    if packed.is_file():
        (folder / OUTDIR).mkdir(exist_ok=True)
        (folder / OUTDIR / f"{PREFIX}.xml").write_bytes(gzip.decompress(packed.read_bytes()))
    return int((source / "exit_code").read_text())


def recorded(name: str, folder: Path) -> PwOutput:
    """Return a recorded run as read by the stage."""
    return read_output(folder, "pw.1", unpack(name, folder))


def find_pw(*, ranks: int = 1) -> str:
    """Return pw.x on PATH; skip if it, or mpirun for several processes, is missing."""
    found = shutil.which("pw.x")
    if found is None:
        pytest.skip("no pw.x on PATH: install Quantum ESPRESSO (Debian: quantum-espresso)")
    if ranks > 1 and shutil.which("mpirun") is None:
        pytest.skip("no mpirun on PATH (Debian: openmpi-bin)")
    return found


def sssp_folder() -> Path:
    """Return the folder of the SSSP files, $XTALFILL_PSEUDO_DIR or Debian's; skip if missing."""
    folder = Path(os.environ.get("XTALFILL_PSEUDO_DIR", "/usr/share/espresso/pseudo"))
    if not (folder / read_table(TABLE)["H"].filename).is_file():
        pytest.skip("no SSSP files: give their folder as XTALFILL_PSEUDO_DIR (docs/validate.md)")
    return folder


# Troullier-Martins, PBE, scalar-relativistic: rc at the node-free maximum of 1s.
_LD1 = {
    "H": """&input
  title='H', zed=1.0, rel=1, config='1s1.0 2p-1.0', iswitch=3, dft='PBE'
/
&inputp
  lloc=0, pseudotype=1, tm=.true., file_pseudopw='H.UPF', author='xtalfill tests'
/
1
1S 1 0 1.00 0.00 0.80 0.80
""",
    "Li": """&input
  title='Li', zed=3.0, rel=1, config='[He] 2s1.0 2p0.0', iswitch=3, dft='PBE'
/
&inputp
  lloc=0, pseudotype=1, tm=.true., file_pseudopw='Li.UPF', author='xtalfill tests'
/
1
2S 1 0 1.00 0.00 2.20 2.20
""",
}


def made_pseudos(folder: Path) -> tuple[Path, dict[str, Pseudo]]:
    """Make pseudopotentials of hydrogen and lithium with ld1.x; skip without it.

    Returns:
        The folder with the files, and the table that describes them.
    """
    import hashlib

    program = shutil.which("ld1.x")
    if program is None:
        pytest.skip("no ld1.x on PATH: install Quantum ESPRESSO (Debian: quantum-espresso)")
    table = {}
    for symbol, text in _LD1.items():
        result = subprocess.run(
            [program],
            input=text,
            cwd=folder,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        file = folder / f"{symbol}.UPF"
        assert file.is_file(), result.stdout[-2000:]
        digest = hashlib.md5(file.read_bytes(), usedforsecurity=False).hexdigest()
        table[symbol] = Pseudo(file.name, digest, 60.0, 240.0)
    return folder, table


def hydrogen_molecule(distance: float = 0.90, box: float = 4.0) -> Atoms:
    """Return H2 in a cubic box, along a face diagonal."""
    half = distance / 2 / np.sqrt(2)
    centre = box / 2
    positions = [[centre + s * half, centre + s * half, centre] for s in (-1, 1)]
    return Atoms("H2", positions=positions, cell=[box] * 3, pbc=True)
