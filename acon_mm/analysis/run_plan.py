"""Estimate from the counts of one training step how a run scales to many GPUs."""

import math
from dataclasses import dataclass

from .training_step import Exchange, StepCounts


@dataclass(frozen=True)
class Cluster:
    """What is assumed about the machines. Nothing of it is measured.

    Attributes:
        gpus_per_node: The number of GPUs of one machine.
        node_bandwidth: GB/s at which one GPU sends to another one of its machine.
        network_bandwidth: GB/s at which one machine sends to another one, all its network
            adapters together.
        node_latency: Microseconds of one message within a machine, its start included.
        network_latency: The same between machines.
        tflops: 10^12 floating-point operations per second that one GPU sustains in a step.
        step_time: Seconds of a step on one GPU, measured, in place of ``tflops``.
    """

    gpus_per_node: int = 8
    node_bandwidth: float = 200.0
    network_bandwidth: float = 25.0
    node_latency: float = 4.0
    network_latency: float = 8.0
    tflops: float = 20.0
    step_time: float | None = None

    def seconds(self, exchange: Exchange, gpus: int) -> float:
        """Estimate how long a collective operation takes.

        The number of messages one after the other is that of a tree, the number of bytes that of
        a ring, whose slowest link counts: NCCL's algorithms for small and for large tensors.
        """
        nodes = math.ceil(gpus / self.gpus_per_node)
        hops = self.node_latency * math.ceil(math.log2(min(gpus, self.gpus_per_node)))
        hops += self.network_latency * math.ceil(math.log2(nodes))
        bandwidth = self.node_bandwidth
        if nodes > 1:
            bandwidth = min(bandwidth, self.network_bandwidth)
        trips, copies = {
            'all_reduce': (2, 2 * (gpus - 1) / gpus),
            'all_gather': (1, gpus - 1),
            'broadcast': (1, min(1, gpus - 1)),
        }[exchange.operation]
        return trips * hops * 1e-6 + copies * exchange.nbytes / (bandwidth * 1e9)


@dataclass(frozen=True)
class Estimate:
    """How a step runs on a number of GPUs, with the config's batch size per GPU.

    Attributes:
        gpus: The number of GPUs.
        compute: Seconds of the step on one GPU.
        norms: Seconds of the exchanges of all synchronised norms, for which every GPU waits.
        norms_in_meta_acon: The part of ``norms`` that Meta-ACON adds.
        gradients: Seconds of the exchanges of gradients and of which parameters were used.
        efficiency: The speed per GPU relative to one GPU, if the exchanges of gradients run during
            the backward pass and take no time from it, except for the last one.
        efficiency_without_overlap: The same if they run after the backward pass.
        images_per_second: What all GPUs train together, at ``efficiency``.
        images_per_second_per_gpu: What the loader has to deliver to one GPU.
        images_per_second_per_worker: What one worker process has to deliver; None without
            workers.
        loader_bytes_per_second: The bytes of decoded 8-bit images for the GPUs of one machine.
    """

    gpus: int
    compute: float
    norms: float
    norms_in_meta_acon: float
    gradients: float
    efficiency: float
    efficiency_without_overlap: float
    images_per_second: float
    images_per_second_per_gpu: float
    images_per_second_per_worker: float | None
    loader_bytes_per_second: float


def estimate_run(counts: StepCounts, gpus: int, cluster: Cluster) -> Estimate:
    """Estimate a step on a number of GPUs.

    A backward pass is taken for twice a forward pass. Launch overhead, host synchronisation,
    waiting for the slowest GPU and memory traffic of the exchanges are not in it.

    Args:
        counts: The counts of the step.
        gpus: The number of GPUs, at least 1.
        cluster: The assumptions.

    Returns:
        The estimate.
    """
    compute = cluster.step_time
    if compute is None:
        compute = 3 * counts.forward_flops * counts.batch_size / (cluster.tflops * 1e12)

    def total(*purposes: str) -> float:
        found = [e for e in counts.exchanges if e.purpose.startswith(purposes)]
        return sum(cluster.seconds(exchange, gpus) for exchange in found)

    gradients = total('gradients', 'used parameters')
    last = [e for e in counts.exchanges if e.purpose == 'gradients'][-1]
    exposed = max(cluster.seconds(last, gpus), gradients - compute * 2 / 3)
    waited = compute + total('norms', 'buffers')
    step = waited + exposed
    images = counts.batch_size / step
    height, width = counts.image_size
    return Estimate(
        gpus=gpus,
        compute=compute,
        norms=total('norms'),
        norms_in_meta_acon=total('norms in Meta-ACON'),
        gradients=gradients,
        efficiency=compute / step,
        efficiency_without_overlap=compute / (waited + gradients),
        images_per_second=images * gpus,
        images_per_second_per_gpu=images,
        images_per_second_per_worker=images / counts.workers if counts.workers else None,
        loader_bytes_per_second=images * min(gpus, cluster.gpus_per_node) * 3 * height * width,
    )
