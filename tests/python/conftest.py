"""Small crystals and files that the tests share."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from hypothesis import settings
from pymatgen.io.ase import AseAtomsAdaptor
from pymatgen.io.cif import CifWriter

# how long an example takes says more of what else the machine does than of the code
settings.register_profile("xtalfill", deadline=None)
settings.load_profile("xtalfill")

REPOSITORY = Path(__file__).resolve().parents[2]
# Minutes long each: started last, one worker would run one of them while the others wait.
LONG_MODULES = (
    "test_pipeline_outdir", "test_slurm", "test_pipeline", "test_pipeline_incremental",
    "test_dft_real", "test_pipeline_potentials", "test_pipeline_dft", "test_dft_plan",
    "test_distillation", "test_train_potential",
)  # fmt: skip


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest modules first; the others keep their order."""
    place = {name: number for number, name in enumerate(LONG_MODULES)}
    items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(scope="module", autouse=True)
def own_default_type() -> Iterator[None]:
    """Keep to a module of tests what loading a nequip model does to the whole process."""
    before = torch.get_default_dtype()
    yield
    torch.set_default_dtype(before)


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Restrict torch to one thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def repository() -> Path:
    """Return the root of the project."""
    return REPOSITORY


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """Mount a disk of 32 kB; skip where that is not allowed."""
    disk = tmp_path / "small_disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=32k", "tmpfs", str(disk)]
    if shutil.which("mount") is None:
        pytest.skip("needs mount")
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("needs the right to mount a disk")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


@pytest.fixture
def brucite() -> Atoms:
    """Return Mg(OH)2, five atoms: Mg, O, O, H, H; 2 H, hexagonal cell."""
    scaled = [(0, 0, 0), (1 / 3, 2 / 3, 0.22), (2 / 3, 1 / 3, 0.78)]
    scaled += [(1 / 3, 2 / 3, 0.423), (2 / 3, 1 / 3, 0.577)]
    return Atoms("MgO2H2", scaled_positions=scaled, cell=[3.14, 3.14, 4.77, 90, 90, 120], pbc=True)


@pytest.fixture
def brucite_host(brucite: Atoms) -> Atoms:
    """Return brucite without its hydrogen."""
    return brucite[brucite.numbers != 1]


@pytest.fixture
def rocksalt() -> Atoms:
    """Return LiH in its cubic cell, four Li and four H."""
    return bulk("LiH", "rocksalt", a=4.08, cubic=True)


@pytest.fixture
def write_cif() -> Callable[..., Path]:
    """Return a function that writes atoms as CIF with given sites changed."""

    def write(atoms: Atoms, path: Path, **options: float) -> Path:
        CifWriter(AseAtomsAdaptor.get_structure(atoms), **options).write_file(path)
        return path

    return write


@pytest.fixture
def hosts_folder(tmp_path: Path, brucite_host: Atoms, rocksalt: Atoms) -> Path:
    """Return a folder of two hosts, one CIF and one POSCAR, without their hydrogen."""
    folder = tmp_path / "hosts"
    folder.mkdir(exist_ok=True)
    CifWriter(AseAtomsAdaptor.get_structure(brucite_host)).write_file(folder / "brucite.cif")
    ase.io.write(folder / "POSCAR_LiH", rocksalt[rocksalt.numbers != 1], format="vasp")
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a seeded generator."""
    return np.random.default_rng(20260131)
