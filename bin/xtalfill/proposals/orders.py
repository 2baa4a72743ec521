"""Which source proposes each candidate of a batch, and the number of the candidate there."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from xtalfill.core.batch import Batch
from xtalfill.proposals.diffusion.settings import SamplerSettings
from xtalfill.proposals.methods import PROPOSERS, Method
from xtalfill.proposals.score_models import ScoreModels
from xtalfill.proposals.ways import ENUMERATED, Ways, host_of
from xtalfill.registry.mix import MIX, Mix, Source, host_class, schedule_within


@dataclass(frozen=True)
class Numbers:
    """How many proposals the candidates of method mix are chosen from.

    Attributes:
        samples: Candidates of a structure; None for as many as its proposals.
        oversample: Least number of proposals for each.
    """

    samples: int | None = None
    oversample: int = 1


@dataclass(frozen=True)
class Order:
    """Where a candidate comes from.

    Attributes:
        source: Its source.
        number: Number of the candidate in this source, from 0.
    """

    source: Source
    number: int


def settings_of(source: Source, given: SamplerSettings) -> SamplerSettings:
    """Return the settings of the sampler for a source."""
    return given if source.renoise is None else replace(given, renoise=source.renoise)


def order_candidates(
    batch: Batch,
    mix: Mix,
    models: ScoreModels,
    settings: SamplerSettings,
    ways: Ways,
    *,
    numbers: Numbers,
) -> dict[int, Order]:
    """Return the order of each proposal that INPAINT fills: system -> order.

    Failed proposals and those of the method potential have none. A structure that no source of
    the mix can fill fails.
    """
    found: dict[int, Order] = {}
    for members in batch.groups_by_method():
        usable = [index for index in members if batch.status[index] != "failed"]
        method = str(batch.method[members[0]])
        if method == MIX and usable:
            found |= _mixed(batch, usable, mix, models, settings, ways, numbers)
        elif method in PROPOSERS or method in ENUMERATED:
            source = Source(method, method)
            found |= {index: Order(source, int(batch.sample[index])) for index in usable}
    return found


def _mixed(
    batch: Batch,
    members: list[int],
    mix: Mix,
    models: ScoreModels,
    settings: SamplerSettings,
    ways: Ways,
    numbers: Numbers,
) -> dict[int, Order]:
    """Return the orders of the proposals of method mix of a structure."""
    structure_id, host = str(batch.id[members[0]]), host_of(batch, members[0])
    largest = max(int(host.numbers.max()), host.element)

    def available(name: str, wanted: int) -> int:
        source = mix.sources[name]
        if source.method in ENUMERATED:
            return len(ways.of(structure_id, source.method, wanted))
        method = Method(source.method, models, settings_of(source, settings))
        return wanted if largest <= method.largest_element else 0

    count = numbers.samples or 1 + int(batch.sample[members].max())
    shares = mix.shares(host_class(host.numbers.tolist()), host.n_sites)
    plan = schedule_within(shares, count, available)
    if numbers.samples is not None:
        looks = {name: mix.looks(name, numbers.oversample) for name in shares}
        plan += _further(plan, looks, available)
    found: dict[int, Order] = {}
    for index in members:
        if batch.sample[index] < len(plan):
            name, number = plan[batch.sample[index]]
            found[index] = Order(mix.sources[name], number)
        elif plan:
            reason = f"the sources of the mix have {len(plan)} way(s) to fill the host"
            batch.mark_absent(index, f"inpaint: {reason}")
        else:
            names = ", ".join(shares)
            reason = f"no source of the mix ({names}) knows all elements and can fill the host"
            batch.fail(index, f"inpaint: {reason}")
    return found


def _further(
    plan: list[tuple[str, int]], looks: Mapping[str, int], available: Callable[[str, int], int]
) -> list[tuple[str, int]]:
    """Return further proposals of the planned sources.

    RELAX keeps as many of each source as are planned, those of lowest energy.
    """
    found: list[tuple[str, int]] = []
    for name, places in Counter(name for name, _ in plan).items():
        wanted = places * looks[name]
        found += [(name, number) for number in range(places, available(name, wanted))]
    return found
