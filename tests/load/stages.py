"""The cell's own histograms, read from ``/metrics`` as an operator's Prometheus would."""

import math
from collections import defaultdict
from dataclasses import dataclass, field

import httpx2
from load.town import ADMIN
from prometheus_client.parser import text_string_to_metric_families

NAME = "vocustody_stage_seconds"


@dataclass(slots=True)
class Stage:
    """One histogram: cumulative *buckets* (upper bound in s to count), *total_s* and *count*."""

    buckets: dict[float, float] = field(default_factory=lambda: defaultdict(float))
    total_s: float = 0.0
    count: float = 0.0

    @property
    def mean_ms(self) -> float:
        """Return the exact mean."""
        return self.total_s / self.count * 1000 if self.count else math.nan

    def quantile_ms(self, share: float) -> float:
        """Return the quantile, interpolated within its bucket as Prometheus does."""
        rank, low, below = share * self.count, 0.0, 0.0
        for bound, count in sorted(self.buckets.items()):
            if count >= rank and count > below:
                upper = low if math.isinf(bound) else bound
                return (low + (upper - low) * (rank - below) / (count - below)) * 1000
            low, below = bound, count
        return math.nan


async def read(url: str) -> dict[str, Stage]:
    """Return the stages of the cell at *url* so far."""
    headers = {"authorization": f"Bearer {ADMIN}"}
    async with httpx2.AsyncClient(trust_env=False) as http:
        answer = await http.get(f"{url}/metrics", headers=headers)
    answer.raise_for_status()
    return parsed(answer.text)


def parsed(text: str) -> dict[str, Stage]:
    """Return the stages in *text* of Prometheus' format, whatever their other labels."""
    found: dict[str, Stage] = defaultdict(Stage)
    for family in text_string_to_metric_families(text):
        for sample in family.samples if family.name == NAME else ():
            stage = found[sample.labels["stage"]]
            match sample.name.removeprefix(NAME):
                case "_bucket":
                    stage.buckets[float(sample.labels["le"])] += sample.value
                case "_sum":
                    stage.total_s += sample.value
                case "_count":
                    stage.count += sample.value
    return dict(found)
