"""Statistics of runs that differ in nothing but the activation: paired by their seeds."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import t as student

from acon_mm.errors import UserError


@dataclass(frozen=True)
class Difference:
    """A mean of paired differences, with its confidence interval.

    Attributes:
        mean: The mean.
        half: Half the width of the interval; None for a single pair, which has none.
        pairs: How many pairs there are.
    """

    mean: float
    half: float | None
    pairs: int

    @property
    def low(self) -> float | None:
        """The lower end of the interval."""
        return None if self.half is None else self.mean - self.half

    @property
    def high(self) -> float | None:
        """The upper end of the interval."""
        return None if self.half is None else self.mean + self.half


def mean_and_deviation(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and the standard deviation of a sample, with ``n - 1`` in its denominator.

    A single value has no deviation, and None in its place.
    """
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return statistics.fmean(values), deviation


def paired_difference(
    values: Mapping[int, float], baseline: Mapping[int, float], confidence: float = 0.95
) -> Difference | None:
    """Compare two rows over the seeds that both have.

    With ``n`` differences of mean ``m`` and standard deviation ``s``, the interval is
    ``m ± q * s / sqrt(n)``, where ``q`` is the quantile of Student's t distribution with
    ``n - 1`` degrees of freedom. It supposes that differences are drawn independently from one
    normal distribution; for three seeds ``q`` is 4.30.

    Args:
        values: By seed.
        baseline: By seed; it is subtracted.
        confidence: The probability with which the interval holds the true mean, in (0, 1).

    Returns:
        The difference, or None without a common seed.

    Raises:
        UserError: If ``confidence`` is not between 0 and 1.
    """
    if not 0 < confidence < 1:
        raise UserError(f'confidence must lie between 0 and 1, as 0.95 does; got {confidence!r}')
    differences = [values[seed] - baseline[seed] for seed in values if seed in baseline]
    if not differences:
        return None
    mean, deviation = mean_and_deviation(differences)
    count = len(differences)
    if deviation is None:
        return Difference(mean, None, count)
    quantile = float(student.ppf((1 + confidence) / 2, count - 1))
    return Difference(mean, quantile * deviation / math.sqrt(count), count)
