"""The calls of a shared activation become calls of modules of their own."""

import copy
import inspect
import pickle

import pytest
import torch
from mmdet.models.backbones.resnet import Bottleneck
from torch import nn

from acon_mm.models.replacement.call_sites import separate_calls


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()
        self.late = False

    def inner(self, x):
        return self.relu(self.relu(x) - 1)

    def forward(self, x):
        x = self.inner(x)
        return self.relu(x) if self.late else x


class Child(Block):
    def forward(self, x):
        return super().forward(x) + self.relu(x)


class Once(nn.Module):
    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU()

    def forward(self, x):
        return self.relu(x)


class Times(nn.Module):
    def __init__(self, factor):
        super().__init__()
        self.factor = factor

    def forward(self, x):
        return x * self.factor


def separated(block, factors):
    names = separate_calls(block, 'relu')
    for name, factor in zip(['relu', *names], factors, strict=True):
        setattr(block, name, Times(factor))
    return names


def test_calls_are_counted_in_the_order_in_which_they_run():
    block = Block()
    block.late = True
    assert separated(block, [2.0, 3.0, 5.0]) == ['relu_2', 'relu_3']
    # The inner one of nested calls is the first.
    assert block(torch.tensor(7.0)) == ((7 * 2 - 1) * 3) * 5


def test_the_module_stays_an_instance_of_its_class_and_others_stay_as_they_are():
    block, other = Block(), Block()
    separated(block, [2.0, 3.0, 5.0])
    assert isinstance(block, Block)
    assert type(block).__name__ == 'Block' and type(block).__module__ == Block.__module__
    assert type(other) is Block and other(torch.tensor(7.0)) == 6


def test_what_does_not_name_the_activation_shares_that_of_the_first_call():
    # forward() of Child calls that of Block, whose calls are in methods that Child inherits.
    block = Child()
    block.late = True
    assert separated(block, [2.0, 3.0, 5.0]) == ['relu_2', 'relu_3']
    # Of Block.forward, which Child.forward replaces, the call is left with the first.
    x = 7.0
    assert block(torch.tensor(x)) == ((x * 2 - 1) * 3) * 2 + x * 5


def test_a_single_call_changes_nothing():
    block = Once()
    assert separate_calls(block, 'relu') == []
    assert type(block) is Once


@pytest.mark.parametrize('way', ['copied', 'pickled'])
def test_a_module_can_be(way):
    block = Bottleneck(8, 2)
    names = separated(block, [2.0, 3.0, 5.0])
    other = copy.deepcopy(block) if way == 'copied' else pickle.loads(pickle.dumps(block))
    assert names == ['relu_2', 'relu_3'] and type(other) is type(block)
    x = torch.rand(2, 8, 4, 4)
    assert torch.equal(other.eval()(x), block.eval()(x))


def test_checkpointing_calls_the_same_activations_again():
    block = Bottleneck(8, 2, with_cp=True)
    separated(block, [2.0, 3.0, 5.0])
    plain = copy.deepcopy(block)
    plain.with_cp = False
    x = torch.rand(2, 8, 4, 4, requires_grad=True)
    of_both = []
    for network in (block, plain):
        x.grad = None
        network.train()(x).square().sum().backward()
        of_both.append(x.grad)
    torch.testing.assert_close(*of_both)


def test_the_new_source_can_be_read():
    block = Block()
    separate_calls(block, 'relu')
    assert 'self.relu_2(self.relu(x) - 1)' in inspect.getsource(type(block).inner)


def test_modules_of_a_class_share_the_new_one():
    blocks = [Block(), Block()]
    for block in blocks:
        separate_calls(block, 'relu')
    assert type(blocks[0]) is type(blocks[1])
