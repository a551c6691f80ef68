import pytest
import torch
from mmpretrain.models.heads import LinearClsHead

from acon_mm.models.heads import DropoutLinearClsHead


def test_it_is_mmpretrains_linear_head_once_it_is_trained():
    torch.manual_seed(0)
    theirs = LinearClsHead(num_classes=5, in_channels=8)
    head = DropoutLinearClsHead(num_classes=5, in_channels=8, dropout_rate=0.2)
    head.load_state_dict(theirs.state_dict())
    feats = (torch.rand(3, 8),)
    assert torch.equal(head.eval()(feats), theirs.eval()(feats))


def test_it_drops_pooled_features_in_training():
    torch.manual_seed(0)
    head = DropoutLinearClsHead(num_classes=5, in_channels=10000, dropout_rate=0.2)
    dropped = head.train().pre_logits((torch.ones(1, 10000),))
    assert set(dropped.unique().tolist()) == {0, 1.25}
    assert (dropped == 0).float().mean() == pytest.approx(0.2, abs=0.02)


@pytest.mark.parametrize('rate', [-0.1, 1.5, 'half', None])
def test_a_rate_outside_0_to_1_is_refused(rate):
    with pytest.raises(ValueError, match='dropout_rate must be a number from 0 to 1'):
        DropoutLinearClsHead(num_classes=5, in_channels=8, dropout_rate=rate)
