import pytest
import torch
import torch.distributed as dist
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.registry import MODEL_WRAPPERS
from torch import nn

from acon_mm.engine import model_wrapper
from acon_mm.engine.model_wrapper import CPUDistributedDataParallel, is_sync_batchnorm


class Net(BaseModel):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 1), nn.SyncBatchNorm(4), nn.BatchNorm2d(4), nn.SyncBatchNorm(4)
        )
        self.unused = nn.Linear(1, 1)

    def forward(self, inputs, mode='tensor'):
        return self.layers(inputs)


@pytest.fixture(autouse=True)
def group(one_process):
    dist.init_process_group('gloo')


def test_sync_batchnorm_is_swapped_and_keeps_its_weights():
    net = Net()
    before = {name: value.clone() for name, value in net.state_dict().items()}
    assert sum(map(is_sync_batchnorm, net.modules())) == 2
    wrapped = CPUDistributedDataParallel(net, device_ids=[0])
    assert not any(map(is_sync_batchnorm, wrapped.modules()))
    assert isinstance(wrapped.module.layers[1], nn.modules.batchnorm._BatchNorm)
    after = wrapped.module.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[name], value) for name, value in before.items())

    wrapped(torch.randn(2, 3, 4, 4)).sum().backward()
    assert wrapped.module.layers[0].weight.grad is not None


def test_the_swap_is_logged_with_its_count_and_reason(monkeypatch):
    logged = []
    monkeypatch.setattr(model_wrapper, 'print_log', lambda text, **kwargs: logged.append(text))
    CPUDistributedDataParallel(Net())
    assert '2 SyncBatchNorm layers are replaced' in logged[0]
    assert 'works on GPUs only' in logged[0]


def test_it_is_found_by_its_name_and_known_as_a_wrapper():
    cfg = {'type': 'acon_mm.CPUDistributedDataParallel', 'find_unused_parameters': True}
    # The Runner passes `device_ids` to every wrapper.
    wrapped = MODEL_WRAPPERS.build(cfg, default_args={'module': Net(), 'device_ids': [0]})
    assert isinstance(wrapped, CPUDistributedDataParallel)
    assert is_model_wrapper(wrapped)
    assert wrapped.find_unused_parameters
