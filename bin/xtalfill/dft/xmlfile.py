"""Read the XML data file of pw.x (6.7 and 7.x).

The elements read here have kept their names and units in the schema (qes) since 6.3. A validating
library would have to know every release, so the standard library reads the file. A file with a
document type, which can declare entities, or with more than `MAX_BYTES` is rejected.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from ase.units import Bohr, Hartree

MAX_BYTES = 1 << 30
GEOMETRY_TOLERANCE = 1e-9  # fractional; pw.x rounds a geometry each time it prints it


class DataFileError(Exception):
    """The XML data file is missing, truncated or not from pw.x."""


@dataclass(frozen=True)
class IonicStep:
    """A self-consistent calculation at one geometry.

    Attributes:
        scaled: (n_atoms, 3) fractional coordinates.
        energy: Free energy of the smeared electrons in eV per cell.
        forces: (n_atoms, 3) eV/Angstrom; None if not computed.
        scf_converged: Whether self-consistency was reached.
        n_scf: Number of SCF steps.
    """

    scaled: np.ndarray
    energy: float
    forces: np.ndarray | None
    scf_converged: bool
    n_scf: int


@dataclass(frozen=True)
class DataFile:
    """Content of the data file of a run.

    Attributes:
        version: Version of pw.x.
        steps: One entry per geometry, in order; the last one is final.
        relaxed: Whether the relaxation converged.
        n_electrons: Number of valence electrons.
        n_bands: Number of bands per spin.
        n_kpoints: Number of k-points computed.
        n_symmetry: Number of symmetry operations that pw.x used.
        top_occupation: Largest occupation of the highest band, between 0 and 1.
        magnetization: Bohr magnetons per cell; 0 without spin.
        n_waves: Largest number of plane waves of a k-point.
        core_seconds: CPU time summed over processes; NaN if not stated.
    """

    version: str
    steps: list[IonicStep]
    relaxed: bool
    n_electrons: float
    n_bands: int
    n_kpoints: int
    n_symmetry: int
    top_occupation: float
    magnetization: float
    n_waves: int
    core_seconds: float


def read_data_file(path: Path) -> DataFile:
    """Read the XML data file of a relaxation.

    Raises:
        DataFileError: The file is missing, too large, truncated or incomplete.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise DataFileError(f"{path.name} is larger than {MAX_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise DataFileError(f"{path.name} cannot be read ({error.strerror})") from error
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        raise DataFileError(f"{path.name} declares a document type, which pw.x never writes")
    try:
        root = ElementTree.fromstring(content)  # noqa: S314 - no document type, see above
        return _data_file(root)
    except (ElementTree.ParseError, ValueError, AttributeError, LookupError) as error:
        reason = " ".join(str(error).split())
        raise DataFileError(f"{path.name} is damaged ({reason})") from error


def _data_file(root: ElementTree.Element) -> DataFile:
    output = _child(root, "output")
    bands = _child(output, "band_structure")
    spin = bands.findtext("lsda", "false").strip() == "true"
    n_bands = int(float(_text(bands, "nbnd_up" if spin else "nbnd")))
    cpu = float(root.findtext("timing_info/total/cpu", "nan"))
    converged = output.findtext("convergence_info/opt_conv/convergence_achieved", "false")
    symmetries = output.findtext("symmetries/nsym", "1")
    return DataFile(
        version=str(_child(root, "general_info/creator").get("VERSION")),
        steps=_steps(root, output),
        relaxed=converged.strip() == "true",
        n_electrons=float(_text(bands, "nelec")),
        n_bands=n_bands,
        n_kpoints=int(_text(bands, "nks")),
        n_symmetry=int(symmetries),
        top_occupation=_top_occupation(bands, n_bands, spin=spin),
        magnetization=float(output.findtext("magnetization/total", "0")) if spin else 0.0,
        n_waves=int(_text(output, "basis_set/npwx")),
        core_seconds=cpu * int(root.findtext("parallel_info/nprocs", "1")),
    )


def _steps(root: ElementTree.Element, output: ElementTree.Element) -> list[IonicStep]:
    """Return all geometries; <output> repeats the last <step> if the geometry is the same."""
    steps = [_step(element, _child(element, "scf_conv")) for element in root.findall("step")]
    last = _step(output, _child(output, "convergence_info/scf_conv"))
    if steps and np.allclose(steps[-1].scaled, last.scaled, rtol=0.0, atol=GEOMETRY_TOLERANCE):
        steps.pop()
    return [*steps, last]


def _step(element: ElementTree.Element, scf: ElementTree.Element) -> IonicStep:
    structure = _child(element, "atomic_structure")
    cell = np.array([_numbers(_text(structure, f"cell/{name}")) for name in ("a1", "a2", "a3")])
    atoms = structure.findall("atomic_positions/atom")
    positions = np.array([_numbers(atom.text) for atom in atoms])
    if positions.shape != (len(atoms), 3) or cell.shape != (3, 3):
        raise ValueError("a structure is incomplete")
    forces = element.find("forces")
    return IonicStep(
        # Fractional coordinates do not depend on the value of the bohr.
        scaled=np.linalg.solve(cell.T, positions.T).T,
        energy=float(_text(element, "total_energy/etot")) * Hartree,
        forces=None
        if forces is None
        else np.array(_numbers(forces.text)).reshape(len(atoms), 3) * (Hartree / Bohr),
        scf_converged=_text(scf, "convergence_achieved").strip() == "true",
        n_scf=int(_text(scf, "n_scf_steps")),
    )


def _top_occupation(bands: ElementTree.Element, n_bands: int, *, spin: bool) -> float:
    """Return the largest occupation of the highest band over k-points and spins."""
    found = 0.0
    for point in bands.findall("ks_energies"):
        occupations = _numbers(_text(point, "occupations"))
        tops = [occupations[n_bands - 1], occupations[-1]] if spin else [occupations[-1]]
        found = max(found, *tops, 0.0)
    return found


def _child(element: ElementTree.Element, path: str) -> ElementTree.Element:
    found = element.find(path)
    if found is None:
        raise ValueError(f"it has no {path}")
    return found


def _text(element: ElementTree.Element, path: str) -> str:
    return _child(element, path).text or ""


def _numbers(text: str | None) -> list[float]:
    return [float(word) for word in (text or "").split()]
