"""Sampler steps of the installed mattergen in double precision, for comparison."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xtalfill.models.mattergen_compat import enable_mattergen


@contextmanager
def mattergen_in_double(repository: Path) -> Iterator[None]:
    """Make mattergen importable and run it in double precision."""
    enable_mattergen(scale_file=repository / "assets" / "gemnet-dT.json")
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


class MattergenSteps:
    """Process, predictor and corrector of mattergen for a batch."""

    def __init__(self, structure: Tensor, *, steps: int) -> None:
        """Create them for sites (n,) of the given structures and a number of noise levels."""
        from mattergen.common.diffusion.corruption import NumAtomsVarianceAdjustedWrappedVESDE
        from mattergen.diffusion.data.batched_data import SimpleBatchedData
        from mattergen.diffusion.wrapped.wrapped_predictors_correctors import (
            WrappedAncestralSamplingPredictor,
            WrappedLangevinCorrector,
        )

        self.structure, self.steps = structure, steps
        self.n_atoms = torch.bincount(structure)
        self.process = NumAtomsVarianceAdjustedWrappedVESDE()
        self.batch = SimpleBatchedData(
            data={"pos": torch.zeros(len(structure), 3), "num_atoms": self.n_atoms},
            batch_idx={"pos": structure, "num_atoms": None},
        )
        self._predictor = WrappedAncestralSamplingPredictor(self.process, None)
        self._corrector = WrappedLangevinCorrector(
            self.process, None, n_steps=1, snr=0.2, max_step_size=1e6
        )

    def predict(self, fractions: Tensor, score: Tensor, level: int) -> Tensor:
        """Return the coordinates at the next noise level."""
        options = self._options(fractions, score, level)
        return self._predictor.update_given_score(batch=self.batch, **options)[0]

    def correct(self, fractions: Tensor, score: Tensor, level: int) -> Tensor:
        """Return the coordinates after a Langevin step."""
        return self._corrector.step_given_score(**self._options(fractions, score, level))[0]

    def _options(self, fractions: Tensor, score: Tensor, level: int) -> dict[str, Any]:
        return {
            "x": fractions,
            "score": score,
            "t": torch.full((len(self.n_atoms),), level / self.steps),
            "dt": torch.tensor(-1.0 / self.steps),
            "batch_idx": self.structure,
        }
