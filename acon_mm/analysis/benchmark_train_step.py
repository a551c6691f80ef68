"""What an activation costs in a training step of a whole network, and in its inference."""

from collections.abc import Collection
from dataclasses import dataclass

import torch
from torch import Tensor

from .benchmark_memory import kept_bytes, peak_bytes
from .benchmark_networks import Network, build_network, make_batch
from .benchmark_rows import NETWORK_REFERENCE, NETWORK_ROWS
from .benchmark_timing import Clock, Plan, Spread, clock_of, interleave

PHASES = ('step', 'latency')

# Steps this small leave the network what it is, however many of them are timed: the gradients of
# an untrained RetinaNet have norms of 1e6.
LR, MOMENTUM = 1e-12, 0.9


@dataclass(frozen=True)
class NetworkResult:
    """What the activations came to in one network.

    Attributes:
        network: The network.
        times: For each row, the spread of the seconds of each of :data:`PHASES`.
        kept: For each row, the bytes that the graph keeps for the backward pass.
        peak: For each row, the bytes at the peak of a training step beyond what lies there before
            it: the graph, the gradients and what is needed in between, not the weights.
    """

    network: Network
    times: dict[str, dict[str, Spread]]
    kept: dict[str, int]
    peak: dict[str, int]

    def ratio(self, row: str, phase: str) -> float | None:
        """Return the median of a row over that of ReLU; None if ReLU did not run."""
        if NETWORK_REFERENCE not in self.times:
            return None
        return self.times[row][phase].median / self.times[NETWORK_REFERENCE][phase].median


def measure_network(
    network: Network,
    rows: Collection[str],
    plan: Plan,
    device: str = 'cpu',
    clock: Clock | None = None,
) -> NetworkResult:
    """Measure activations in one network, in turn within each round.

    Args:
        network: The network. As many of it are in memory as there are rows.
        rows: The names of rows, see :data:`NETWORK_ROWS`.
        plan: How many rounds.
        device: ``'cpu'`` or ``'cuda'``.
        clock: What measures; that of the device by default.

    Returns:
        The result.

    Raises:
        FloatingPointError: If a loss is not finite.
    """
    tasks = {name: StepTask(network, name, device, clock or clock_of(device)) for name in rows}
    kept, peak = {}, {}
    for name, task in tasks.items():
        task.step()  # the momentum buffers, which the first step makes, are no part of the peak
        kept[name] = kept_bytes(task.loss, task.model)
        peak[name] = peak_bytes(task.step, device)
    times = interleave(tasks, plan, {name: NETWORK_ROWS[name].every for name in rows})
    return NetworkResult(network, times, kept, peak)


class StepTask:
    """Time one network with one activation.

    Args:
        network: The network.
        row: The name of the activation's row.
        device: ``'cpu'`` or ``'cuda'``.
        clock: What measures.
    """

    def __init__(self, network: Network, row: str, device: str, clock: Clock) -> None:
        self.row, self.clock = row, clock
        self.model = build_network(network, row, device)
        self.images, self.samples = make_batch(network, device)
        parameters = [p for p in self.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.SGD(parameters, lr=LR, momentum=MOMENTUM)

    def __call__(self) -> dict[str, float]:
        """Run a training step and an inference and return the seconds of both."""
        start = self.clock.stamp()
        loss = self.step()
        step = self.clock.seconds(start, self.clock.stamp())
        if not loss.isfinite():
            raise FloatingPointError(
                f'the loss with the activation {self.row!r} is {loss.item()}, and a network of '
                'such numbers need not take the time of one that trains'
            )
        self.model.eval()
        with torch.no_grad():
            start = self.clock.stamp()
            outputs = self.model(self.images[:1])
            latency = self.clock.seconds(start, self.clock.stamp())
        del outputs
        self.model.train()
        return dict(zip(PHASES, (step, latency), strict=True))

    def loss(self) -> Tensor:
        """Run the forward pass and return the sum of all losses."""
        losses = self.model.loss(self.images, self.samples)
        return self.model.parse_losses(losses)[0]

    def step(self) -> Tensor:
        """Run forward and backward pass and the optimiser's step, and return the loss."""
        loss = self.loss()
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()
