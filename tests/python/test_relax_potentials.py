"""Pretrained potentials: agreement with their packages, errors for missing models."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms
from ase.optimize import FIRE
from e3nn import o3

from nequip_examples import frames, tiny_package
from xtalfill.core.crystal import Crystal
from xtalfill.core.errors import ConfigError
from xtalfill.relax.batched import BatchedRelaxer, Relaxation
from xtalfill.relax.convolution import EDGES_AT_ONCE, EdgeConvolution, fuse_nequip, fused
from xtalfill.relax.potentials import (
    SEVENNET_NAMES,
    NequipPotential,
    SevenNetPotential,
    load_potential,
)
from xtalfill.relax.radial import RadialTable, tabulate


def crystal_of(atoms: Atoms) -> Crystal:
    return Crystal(atoms.numbers, atoms.positions, np.array(atoms.cell))


pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def sevennet() -> SevenNetPotential:
    """Return 7net-0."""
    return load_potential("7net-0", device="cpu")


def calculator_of(name: str) -> Calculator:
    """Return sevenn's ASE calculator for a potential, without our kernels."""
    from sevenn.calculator import SevenNetCalculator

    model, _, functional = name.partition(":")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SevenNetCalculator(model, device="cpu", modal=functional or None)


@pytest.fixture(scope="module")
def calculator() -> Calculator:
    """Return sevenn's calculator for 7net-0."""
    return calculator_of("7net-0")


@pytest.mark.parametrize("name", SEVENNET_NAMES)
def test_independent_of_the_default_dtype(name: str, brucite: Atoms) -> None:
    """A nequip model loaded before, as with --mlip_rank, changes the default dtype to double."""
    expected = load_potential(name, device="cpu").evaluate([crystal_of(brucite)])[0]
    torch.set_default_dtype(torch.float64)
    try:
        found = load_potential(name, device="cpu").evaluate([crystal_of(brucite)])[0]
        assert torch.get_default_dtype() == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)
    assert found.energy == pytest.approx(expected.energy, abs=1e-5)
    np.testing.assert_allclose(found.forces, expected.forces, atol=1e-5)


@pytest.fixture
def some_atoms(brucite: Atoms) -> list[Atoms]:
    """Return three small crystals away from their minima, one with a skewed cell."""
    salt = bulk("LiH", "rocksalt", a=4.0)
    skew = Atoms("AlH", [[0, 0, 0], [1.6, 0.1, 0.2]], cell=[[3, 0, 0], [1, 3, 0], [0, 1, 4]])
    skew.pbc = True
    some = [brucite.copy(), salt, skew]
    for k, atoms in enumerate(some):
        atoms.rattle(0.1, seed=k)
    return some


@pytest.mark.parametrize("name", SEVENNET_NAMES)
def test_agrees_with_the_calculator(name: str, some_atoms: list[Atoms]) -> None:
    """In a batch and alone, through our kernels, one in each layer."""
    potential, stock = load_potential(name, device="cpu"), calculator_of(name)
    crystals = [crystal_of(atoms) for atoms in some_atoms]
    found = potential.evaluate(crystals)
    for atoms, crystal, one in zip(some_atoms, crystals, found, strict=True):
        atoms.calc = stock
        for ours in (one, *potential.evaluate([crystal])):
            per_atom = (ours.energy - atoms.get_potential_energy()) / len(atoms)
            assert abs(per_atom) < 1e-5
            np.testing.assert_allclose(ours.forces, atoms.get_forces(), atol=1e-4)
    kernels = [one for one in potential._model.modules() if isinstance(one, EdgeConvolution)]
    assert len(kernels) == 5


def test_functionals_of_one_model_differ(brucite: Atoms) -> None:
    """By more than the zero of their energies: r2SCAN shortens the O-H bond."""
    stretched = brucite.copy()
    stretched.positions[3] += [0.0, 0.0, 0.1]
    crystals = [crystal_of(brucite), crystal_of(stretched)]
    costs = []
    for name in ("7net-mf-0:PBE", "7net-mf-0:R2SCAN"):
        start, end = load_potential(name, device="cpu").evaluate(crystals)
        costs.append(end.energy - start.energy)
    assert costs[1] > costs[0] + 0.01


def test_elements_without_training_data_are_not_supported() -> None:
    """There was no ytterbium among the crystals of r2SCAN."""
    pbe, r2scan = (load_potential(f"7net-mf-0:{one}", device="cpu") for one in ("PBE", "R2SCAN"))
    assert pbe.elements - r2scan.elements == {70}
    assert pbe.weights["7net-mf-0:PBE"] == r2scan.weights["7net-mf-0:R2SCAN"]


@pytest.mark.parametrize("name", ["7net-0", "7net-mf-0:R2SCAN"])
def test_forces_are_the_gradient_of_the_energy(name: str, some_atoms: list[Atoms]) -> None:
    sevennet = load_potential(name, device="cpu")
    crystal = crystal_of(some_atoms[0])
    moves = [(0, 2), (3, 0), (4, 1)]
    moved = []
    for atom, axis in moves:
        for sign in (1, -1):
            positions = crystal.positions.copy()
            positions[atom, axis] += sign * 0.01
            moved.append(Crystal(crystal.numbers, positions, crystal.cell))
    *found, here = sevennet.evaluate([*moved, crystal])
    for k, (atom, axis) in enumerate(moves):
        slope = (found[2 * k].energy - found[2 * k + 1].energy) / 0.02
        assert -slope == pytest.approx(here.forces[atom, axis], abs=5e-3, rel=5e-3)


def test_relaxation_agrees_with_ase(
    sevennet: SevenNetPotential, calculator: Calculator, brucite: Atoms
) -> None:
    start = brucite.copy()
    start.positions[3:] += [[0.15, 0.0, 0.05], [0.0, -0.1, 0.0]]
    free = start.numbers == 1
    job = Relaxation(crystal_of(start), free)
    other = Relaxation(crystal_of(bulk("LiH", "rocksalt", a=4.0)), np.array([False, True]))
    driver = BatchedRelaxer(sevennet, max_atoms=50, optimizer="fire")
    ours = driver.relax([other, job], fmax=0.05, max_steps=12)[1]
    atoms = start.copy()
    atoms.calc = calculator
    atoms.set_constraint(FixAtoms(mask=~free))
    optimizer = FIRE(atoms, logfile=None)
    assert optimizer.run(fmax=0.05, steps=12) == ours.converged
    assert ours.n_steps == optimizer.nsteps
    assert abs(ours.evaluation.energy - atoms.get_potential_energy()) < 1e-3
    assert np.abs(ours.positions - atoms.positions).max() < 0.02
    assert ours.positions[~free].tobytes() == start.positions[~free].tobytes()


def test_failing_crystal_does_not_affect_others(
    sevennet: SevenNetPotential, brucite: Atoms
) -> None:
    healthy = crystal_of(brucite)
    sick = Crystal(healthy.numbers, healthy.positions.copy(), healthy.cell)
    sick.positions[4] = sick.positions[3]  # the direction between coinciding atoms is undefined
    first, _, last = sevennet.evaluate([healthy, sick, healthy])
    alone = sevennet.evaluate([healthy])[0]
    for one in (first, last):
        assert one.energy == pytest.approx(alone.energy, abs=1e-4)
        np.testing.assert_allclose(one.forces, alone.forces, atol=1e-4)


def test_atoms_beyond_the_cutoff(sevennet: SevenNetPotential) -> None:
    lonely = Crystal(np.array([1]), np.zeros((1, 3)), np.eye(3) * 20.0)
    found = sevennet.evaluate([lonely])[0]
    assert np.isfinite(found.energy)
    assert not found.forces.any()


def test_elements_and_weights(sevennet: SevenNetPotential) -> None:
    assert {1, 8, 26, 94} <= sevennet.elements
    assert not {0, 85, 110} & sevennet.elements
    assert len(sevennet.weights["7net-0"]) == 64


@pytest.mark.parametrize(
    ("mlip", "says"),
    [
        ("mace", "mlip 'mace' is unknown; possible are 7net-0, 7net-l3i5, 7net-mf-0:PBE"),
        ("7net-omni", "unknown"),  # sevenn would download it
        ("7net-mf-0", "unknown"),  # without its functional
        ("7net-mf-0:r2scan", "possible are 7net-0, 7net-l3i5, 7net-mf-0:PBE, 7net-mf-0:R2SCAN or"),
        ("no/where.nequip.zip", "there is no file 'no/where.nequip.zip'"),
        ("checkpoint.pth", "unknown"),  # a pickle
    ],
)
def test_missing_model_gives_one_line(mlip: str, says: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_potential(mlip, device="cpu")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("suffix", [".nequip.zip", ".nequip.pt2"])
def test_damaged_model_file_gives_one_line(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"broken{suffix}"
    path.write_bytes(b"not a model")
    with pytest.raises(ConfigError, match="cannot be loaded") as caught:
        load_potential(str(path), device="cpu")
    assert "\n" not in str(caught.value)


def test_no_fallback_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="torch sees no GPU"):
        load_potential("7net-0", device="cuda")
    with pytest.raises(ConfigError, match="unknown"):
        load_potential("7net-0", device="tpu")


def product(x: str, y: str, *, lmax: int) -> o3.TensorProduct:
    """Return the tensor product of a NequIP convolution."""
    irreps_x, irreps_y = o3.Irreps(x), o3.Irreps(y)
    mid, instructions = [], []
    for i, (mul, ir_x) in enumerate(irreps_x):
        for j, (_, ir_y) in enumerate(irreps_y):
            for ir in ir_x * ir_y:
                if ir.l <= lmax:
                    instructions.append((i, j, len(mid), "uvu", True))
                    mid.append((mul, ir))
    return o3.TensorProduct(
        irreps_x, irreps_y, mid, instructions, shared_weights=False, internal_weights=False
    )


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("x", "y", "lmax"),
    [
        ("8x0e", "0e+1o+2e", 2),
        ("16x0e+8x1o+4x2e", "0e+1o+2e", 2),
        (
            "5x0e+3x0o+7x1o+2x1e+3x2e+2x3o",
            "0e+1o+2e+3o",
            3,
        ),  # multiplicities that are not powers of two
    ],
)
def test_fused_convolution_agrees_with_e3nn(x: str, y: str, lmax: int, dtype: torch.dtype) -> None:
    e3nn_product = product(x, y, lmax=lmax).to(dtype)
    convolution = fused(e3nn_product)
    assert isinstance(convolution, EdgeConvolution)
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=dtype).requires_grad_()

    n_atoms, n_edges = 7, 40
    inputs = (
        draw(n_atoms, e3nn_product.irreps_in1.dim),
        draw(n_edges, e3nn_product.irreps_in2.dim),
        draw(n_edges, e3nn_product.weight_numel),
    )
    src, dst = torch.randint(n_atoms, (2, n_edges), generator=generator)
    messages = e3nn_product(inputs[0][src], *inputs[1:])
    expected = torch.zeros(n_atoms, messages.shape[1], dtype=dtype).index_add(0, dst, messages)
    found = convolution(*inputs, src, dst)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)
    pull = torch.randn(expected.shape, generator=generator, dtype=dtype)
    for ours, theirs in zip(
        torch.autograd.grad((found * pull).sum(), inputs),
        torch.autograd.grad((expected * pull).sum(), inputs),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-4)


def test_radial_table_inside_the_convolution() -> None:
    e3nn_product = product("6x0e+4x1o", "0e+1o", lmax=1).double()
    frequencies = torch.linspace(0.1, 2.0, e3nn_product.weight_numel, dtype=torch.float64)

    def weights(distance: torch.Tensor) -> torch.Tensor:
        return torch.cos(frequencies * distance[:, None]) * (1.0 - distance[:, None] / 3.0) ** 2

    table = tabulate(weights, cutoff=3.0, dtype=torch.float64)
    inside, outside = fused(e3nn_product, table), fused(e3nn_product)
    assert table is not None
    assert inside is not None
    assert outside is not None
    generator = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    n_edges = 2 * EDGES_AT_ONCE + 7  # three chunks, the last one shorter
    x = draw(9, e3nn_product.irreps_in1.dim).requires_grad_()
    y = draw(n_edges, e3nn_product.irreps_in2.dim).requires_grad_()
    distance = torch.linspace(0.1, 2.9, n_edges, dtype=torch.float64).requires_grad_()
    src, dst = torch.randint(9, (2, n_edges), generator=generator)
    found = inside(x, y, distance, src, dst)
    expected = outside(x, y, weights(distance), src, dst)
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    pull = draw(*expected.shape)
    for ours, theirs in zip(
        torch.autograd.grad((found * pull).sum(), (x, y, distance)),
        torch.autograd.grad((expected * pull).sum(), (x, y, distance)),
        strict=True,
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5)


def test_all_convolutions_are_fused(sevennet: SevenNetPotential) -> None:
    modules = list(sevennet._model.modules())
    kinds = [type(module).__name__ for module in modules]
    assert kinds.count("EdgeConvolution") == 5
    tables = [one._radial for one in modules if isinstance(one, EdgeConvolution)]
    assert all(isinstance(table, RadialTable) for table in tables)
    assert kinds.count("IrrepsConvolution") == 0


def test_unsupported_tensor_product_is_not_fused() -> None:
    full = o3.FullyConnectedTensorProduct("4x0e+2x1o", "0e+1o", "4x0e+2x1o")
    assert fused(full) is None
    assert fused(product("2x0e+2x4e", "0e+4e", lmax=4)) is None


def test_fused_nequip_model_agrees() -> None:
    from nequip.data import AtomicDataDict, from_ase
    from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
    from nequip.model import NequIPGNNModel

    model = NequIPGNNModel(
        seed=1, model_dtype="float32", type_names=["H", "Al"], r_max=4.0, num_layers=2, l_max=2,
        num_features=8, radial_mlp_depth=1, radial_mlp_width=8, avg_num_neighbors=20.0,
    ).eval()  # fmt: skip
    atoms = bulk("Al", cubic=True) + Atoms("H", [[2.0, 0.1, 0.1]])
    atoms.rattle(0.1, seed=0)

    def run() -> tuple[float, np.ndarray]:
        data = from_ase(atoms)
        data = ChemicalSpeciesToAtomTypeMapper(["H", "Al"])(data)
        out = model(NeighborListTransform(r_max=4.0)(data))
        energy = out[AtomicDataDict.TOTAL_ENERGY_KEY].item()
        return energy, out[AtomicDataDict.FORCE_KEY].detach().numpy()

    before = run()
    assert fuse_nequip(model) == 2
    after = run()
    assert after[0] == pytest.approx(before[0], abs=1e-5)
    np.testing.assert_allclose(after[1], before[1], atol=1e-5)


@pytest.mark.slow
def test_relaxation_with_a_packaged_model(tmp_path: Path) -> None:
    from nequip.integrations.ase import NequIPCalculator

    path = str(tiny_package(tmp_path))
    some = frames()
    potential = load_potential(path, device="cpu")
    assert isinstance(potential, NequipPotential)
    assert potential.elements == {1, 13}
    replaced = [type(module).__name__ for module in potential._model.model.modules()]
    assert replaced.count("EdgeConvolution") == 2
    found = potential.evaluate([crystal_of(atoms) for atoms in some[:3]])
    calc = NequIPCalculator._from_saved_model(
        path, device="cpu", chemical_species_to_atom_type_map=True
    )
    for atoms, one in zip(some, found, strict=False):
        atoms.calc = calc
        assert abs(one.energy - atoms.get_potential_energy()) / len(atoms) < 1e-5
        np.testing.assert_allclose(one.forces, atoms.get_forces(), atol=1e-4)
    job = Relaxation(crystal_of(some[0]), some[0].numbers == 1)
    relaxed = BatchedRelaxer(potential, max_atoms=50, optimizer="fire").relax(
        [job], fmax=0.5, max_steps=5
    )[0]
    assert relaxed.error == ""
