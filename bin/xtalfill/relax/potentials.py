"""Pretrained potentials that ``--mlip`` can name, with a common interface.

SevenNet models are part of the sevenn package. Models of the nequip package are files: a packaged
model (``.nequip.zip``) runs eagerly; a model compiled with ``--target batch`` (``.nequip.pt2``)
runs compiled. Both formats contain code that is run when the file is opened, so use only files you
trust. A Nequix model (``.nqx``) is a file without code. Published models are downloaded in an
earlier task.
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase.data import atomic_numbers as NUMBER_OF
from matscipy.neighbours import neighbour_list

from xtalfill.core.checksums import check_file
from xtalfill.core.crystal import Crystal
from xtalfill.core.device import torch_device
from xtalfill.core.errors import ConfigError
from xtalfill.core.record import file_sha256
from xtalfill.registry.potentials import POTENTIALS
from xtalfill.relax.convolution import fuse_nequip, fuse_sevennet
from xtalfill.relax.interface import Evaluation, EvaluationError, MemoryShortageError, Potential
from xtalfill.relax.nqx_file import SUFFIX as NQX_SUFFIX
from xtalfill.relax.nqx_file import read_weights

SEVENNET_NAMES = tuple(name for name, one in POTENTIALS.items() if one.loader == "sevennet")
NEQUIP_SUFFIXES = (".nequip.zip", ".nequip.pt2")

# Exceptions of nequip and torch for a file that is damaged, or of another format or version.
_UNREADABLE = (
    AssertionError,
    ImportError,
    KeyError,
    OSError,
    RuntimeError,
    ValueError,
    zipfile.BadZipFile,
)


def load_potential(mlip: str, *, device: str) -> Potential:
    """Load a potential on a device.

    Args:
        mlip: A name of the registry that needs no model file, or the path of a nequip or Nequix
            model file.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: The name is unknown, the file is missing, damaged or unreadable, or the device
            is not available.
    """
    torch_device(device)
    entry = POTENTIALS.get(mlip)
    if entry is not None and not entry.needs_file:
        return _LOADERS[entry.loader](mlip, device=device)
    if mlip.endswith((*NEQUIP_SUFFIXES, NQX_SUFFIX)):
        if not Path(mlip).is_file():
            raise ConfigError(f"mlip: there is no file '{mlip}'; {_possible()}")
        check_file(mlip)
        loader = NequixPotential if mlip.endswith(NQX_SUFFIX) else NequipPotential
        return loader(mlip, device=device)
    raise ConfigError(f"mlip '{mlip}' is unknown; {_possible()}")


def _possible() -> str:
    files = " or ".join(f"*{suffix}" for suffix in (*NEQUIP_SUFFIXES, NQX_SUFFIX))
    names = [name for name, one in POTENTIALS.items() if not one.needs_file]
    return f"possible are {', '.join(names)} or the path of a {files} file"


@contextmanager
def _as_own_errors() -> Iterator[None]:
    """Convert errors of torch to `MemoryShortageError` or `EvaluationError`.

    Errors of the accelerator itself are not converted: the task fails and is retried, possibly on
    another node.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise MemoryShortageError("does not fit in the GPU's memory") from error
    except torch.AcceleratorError:
        raise
    except MemoryError as error:
        raise MemoryShortageError("does not fit in memory") from error
    except (RuntimeError, ValueError, IndexError) as error:
        if "can't allocate memory" in str(error):
            raise MemoryShortageError("does not fit in memory") from error
        raise EvaluationError(" ".join(str(error).split())[:300]) from error


@contextmanager
def _single_by_default() -> Iterator[None]:
    """Set torch's default dtype to float32 while a model is built; nequip models change it."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _split(
    crystals: Sequence[Crystal],
    energies: np.ndarray,
    forces: np.ndarray,
    atomic: np.ndarray | None = None,
) -> list[Evaluation]:
    bounds = np.cumsum([len(crystal.numbers) for crystal in crystals])[:-1]
    parts = np.split(forces, bounds)
    shares = [None] * len(parts) if atomic is None else np.split(atomic, bounds)
    return [Evaluation(float(e), f, a) for e, f, a in zip(energies, parts, shares, strict=True)]


def _system_idx(crystals: Sequence[Crystal]) -> np.ndarray:
    counts = [len(crystal.numbers) for crystal in crystals]
    return np.repeat(np.arange(len(crystals)), counts)


def neighbour_graph(crystals: Sequence[Crystal], cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs within `cutoff`, including periodic images, of several crystals.

    Args:
        crystals: Crystals; atom indices are consecutive over all of them.
        cutoff: Angstrom.

    Returns:
        (2, n_edges) int64 indices i, j and (n_edges, 3) float64 vectors from i to j, Angstrom.
    """
    pairs, vectors, offset = [], [], 0
    for crystal in crystals:
        i, j, vector = neighbour_list(
            "ijD",
            positions=crystal.positions,
            cell=crystal.cell,
            pbc=np.ones(3, dtype=bool),
            cutoff=cutoff,
        )
        pairs.append(np.stack([i, j]).astype(np.int64) + offset)
        vectors.append(vector.reshape(-1, 3))
        offset += len(crystal.numbers)
    return np.concatenate(pairs, axis=1), np.concatenate(vectors)


class SevenNetPotential:
    """A SevenNet model (Park et al., J. Chem. Theory Comput. 20, 4857 (2024)).

    A model of several functionals (Kim et al., J. Am. Chem. Soc. 147, 1042 (2025)) is a potential
    for each of them.

    Args:
        name: One of `SEVENNET_NAMES`: that of sevenn, followed by ":" and the functional where
            the model has several.
        device: "cpu" or "cuda".
    """

    packages: tuple[str, ...] = ("sevenn", "e3nn", "torch", "numba", "matscipy")

    def __init__(self, name: str, *, device: str) -> None:
        from sevenn.checkpoint import SevenNetCheckpoint
        from sevenn.util import pretrained_name_to_path

        model_name, _, functional = name.partition(":")
        path = pretrained_name_to_path(model_name)
        with warnings.catch_warnings(), _single_by_default():
            warnings.simplefilter("ignore")  # hints about CUDA accelerators
            model = SevenNetCheckpoint(path).build_model()
            model.set_is_batch_data(True)
            model.eval_modal_map = False  # `_inputs` gives the number of the functional itself
            if device == "cpu":
                fuse_sevennet(model)
        self._functional: int | None = model.modal_map[functional] if functional else None
        self._model = model.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self._cutoff = float(model.cutoff)
        self.name = name
        self.elements = _sevennet_elements(model, functional)
        self.weights: Mapping[str, str] = {name: file_sha256(path)}

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal; see `Potential`."""
        import sevenn._keys as KEY

        with _as_own_errors():
            output = self._model(self._inputs(crystals))
            atomic = output[KEY.ATOMIC_ENERGY].detach().cpu().double().numpy().reshape(-1)
            forces = output[KEY.PRED_FORCE].detach().cpu().double().numpy()
        # Sum in float64: the resolution of a float32 total is 1e-5 eV at 100 eV.
        energies = np.bincount(_system_idx(crystals), weights=atomic, minlength=len(crystals))
        return _split(crystals, energies, forces)

    def _inputs(self, crystals: Sequence[Crystal]) -> dict[str, Any]:
        import sevenn._keys as KEY

        pairs, vectors = neighbour_graph(crystals, self._cutoff)
        numbers = torch.as_tensor(np.concatenate([c.numbers for c in crystals]), dtype=torch.int64)
        volumes = [abs(np.linalg.det(crystal.cell)) for crystal in crystals]
        data = {
            KEY.ATOMIC_NUMBERS: numbers,
            KEY.NODE_FEATURE: numbers,
            KEY.NODE_ATTR: numbers,
            KEY.EDGE_IDX: torch.from_numpy(pairs),
            KEY.EDGE_VEC: torch.as_tensor(vectors, dtype=torch.float32),
            KEY.BATCH: torch.from_numpy(_system_idx(crystals)),
            KEY.NUM_ATOMS: torch.tensor([len(crystal.numbers) for crystal in crystals]),
            KEY.CELL_VOLUME: torch.tensor(volumes, dtype=torch.float32),
        }
        if self._functional is not None:
            data[KEY.MODAL_TYPE] = torch.full((len(crystals),), self._functional)
        return {key: value.to(self._device) for key, value in data.items()}


def _sevennet_elements(model: Any, functional: str) -> frozenset[int]:
    """Return the elements of a SevenNet model, or those of one of its functionals."""
    if not functional:
        return frozenset(int(number) for number in model.type_map)
    # An element that had no training data with a functional has an energy shift of exactly 0.
    shift = model.rescale_atomic_energy.get_shift(model.type_map, model.modal_map)[functional]
    return frozenset(int(number) for number in model.type_map if shift[number] != 0.0)


class NequixPotential:
    """A Nequix model (Koker, Kotak and Smidt, arXiv:2508.16067).

    Args:
        path: A ``.nqx`` file.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: The file is damaged or not supported.
    """

    packages: tuple[str, ...] = ("e3nn", "torch", "numba", "matscipy")

    def __init__(self, path: str, *, device: str) -> None:
        from xtalfill.relax.nequix import NequixNetwork

        with _single_by_default():
            network = NequixNetwork(read_weights(path), fused=device == "cpu")
        self._network = network.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self.name = Path(path).name
        self.elements = frozenset(network.config.atomic_numbers)
        self.weights: Mapping[str, str] = {self.name: file_sha256(path)}

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal; see `Potential`."""
        pairs, edges = neighbour_graph(crystals, self._network.config.cutoff)
        numbers = np.concatenate([crystal.numbers for crystal in crystals])
        with _as_own_errors():
            vectors = torch.as_tensor(edges, dtype=torch.float32, device=self._device)
            vectors.requires_grad_()
            index = torch.from_numpy(pairs).to(self._device)
            species = torch.as_tensor(numbers, dtype=torch.int64, device=self._device)
            atomic = self._network(species, index, vectors)
            slopes = torch.autograd.grad(atomic.sum(), vectors)[0].double()
            forces = torch.zeros((len(numbers), 3), dtype=torch.float64, device=self._device)
            forces.index_add_(0, index[0], slopes).index_add_(0, index[1], -slopes)
        atoms = atomic.detach().cpu().numpy()
        energies = np.bincount(_system_idx(crystals), weights=atoms, minlength=len(crystals))
        return _split(crystals, energies, forces.cpu().numpy(), atoms)


class NequipPotential:
    """A model file of the nequip package, evaluated with nequip's torch-sim integration.

    Args:
        path: A ``.nequip.zip`` or ``.nequip.pt2`` file.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: The file is not a nequip model, or was compiled for another target.
    """

    packages: tuple[str, ...] = (
        "nequip",
        "e3nn",
        "torch",
        "torch-sim-atomistic",
        "numba",
        "matscipy",
    )

    def __init__(self, path: str, *, device: str) -> None:
        from nequip.integrations.torchsim import NequIPTorchSimCalc

        compiled = path.endswith(".pt2")
        # The public loader needs a compiler; the eager loader of nequip is private.
        load = (
            NequIPTorchSimCalc.from_compiled_model
            if compiled
            else NequIPTorchSimCalc._from_saved_model
        )
        try:
            self._model = load(
                path,
                device=device,
                chemical_species_to_atom_type_map=True,
                neighborlist_backend="matscipy",
            )
        except _UNREADABLE as error:
            reason = " ".join(str(error).split())[:200]
            how = "compile with --target batch" if compiled else "package with nequip-package"
            raise ConfigError(f"mlip '{path}' cannot be loaded ({reason}); {how}") from error
        if device == "cpu" and not compiled:
            fuse_nequip(self._model.model)
        self._device = torch.device(device)
        self.name = Path(path).name
        self.elements = frozenset(NUMBER_OF[symbol] for symbol in self._symbols())
        self.weights: Mapping[str, str] = {self.name: file_sha256(path)}

    def _symbols(self) -> list[str]:
        from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper

        mapper = next(
            transform
            for transform in self._model.transforms
            if isinstance(transform, ChemicalSpeciesToAtomTypeMapper)
        )
        return list(mapper.model_type_names)

    def evaluate(self, crystals: Sequence[Crystal]) -> list[Evaluation]:
        """Return energy and forces of each crystal; see `Potential`."""
        from torch_sim.state import SimState

        def tensor(array: np.ndarray, dtype: torch.dtype) -> torch.Tensor:
            return torch.as_tensor(array, dtype=dtype, device=self._device)

        numbers = np.concatenate([crystal.numbers for crystal in crystals])
        with _as_own_errors():
            state = SimState(
                positions=tensor(np.concatenate([c.positions for c in crystals]), torch.float64),
                masses=tensor(np.ones(len(numbers)), torch.float64),
                # torch-sim stores lattice vectors as columns.
                cell=tensor(np.stack([c.cell.T for c in crystals]), torch.float64),
                pbc=True,
                atomic_numbers=tensor(numbers, torch.int64),
                system_idx=tensor(_system_idx(crystals), torch.int64),
            )
            output = self._model(state)
            energies = output["energy"].cpu().double().numpy()
            forces = output["forces"].cpu().double().numpy()
        return _split(crystals, energies, forces)


# Loader of an entry (registry/potentials.json) -> its class.
_LOADERS: dict[str, Callable[..., Potential]] = {
    "sevennet": SevenNetPotential,
    "nequip": NequipPotential,
    "nequix": NequixPotential,
}
