"""A stand-in for the trainings and tests of a transfer chain: it leaves the files they leave."""

import json
from itertools import count
from pathlib import Path

from acon_mm.analysis.transfer_plan import PRESETS, activation_variants, plan_chain

LOGGED = {
    'pretrain_test': {'accuracy/top1': 75.0},
    'detection_test': {
        'coco/bbox_mAP': 0.5,
        'coco/bbox_mAP_50': 0.75,
        'coco/bbox_mAP_75': 0.625,
    },
    'segmentation_test': {'mIoU': 62.5},
}


class FakeExecute:
    """Run nothing, keep the calls, and stop within the call of a number.

    Args:
        stop: By number of the call, the exception that it ends with. A training leaves a
            checkpoint first, as one that is killed on its way does.
        change: What is added to the metrics of a work dir, a function of its path.
        logged: What a test logs, by the name of its work dir.
    """

    def __init__(self, stop=None, change=lambda folder: 0, logged=LOGGED):
        self.logged = logged
        self.stop = stop or {}
        self.change = change
        self.calls = []
        self._stamps = count(1)

    def __call__(self, command, environment, log):
        self.calls.append((list(command), dict(environment)))
        error = self.stop.get(len(self.calls))
        if '--work-dir' not in command:
            log.write_text('made\n')
            return
        folder = Path(command[command.index('--work-dir') + 1])
        is_test = folder.name.endswith('_test')
        if not is_test:
            name = 'epoch_1.pth' if error else 'epoch_2.pth'
            (folder / name).write_text('weights')
            (folder / 'last_checkpoint').write_text(f'/elsewhere/{name}')
        if error:
            raise error
        if is_test:
            stamp = f'{next(self._stamps):06}'
            (folder / stamp).mkdir()
            record = {k: v + self.change(folder) for k, v in self.logged[folder.name].items()}
            (folder / stamp / f'{stamp}.json').write_text(json.dumps(record))
            (folder / Path(command[2]).name).write_text('')

    @property
    def folders(self):
        """The work dirs of the calls, from the variant on."""
        return [
            '/'.join(Path(command[command.index('--work-dir') + 1]).parts[-3:])
            for command, _ in self.calls
            if '--work-dir' in command
        ]


def plan(root, activations=('relu', 'metaacon'), seeds=(0, 1), **kwargs):
    """Return the chains of the digits preset, by seed first."""
    return [
        plan_chain(PRESETS['digits'], variant, seed, root, **kwargs)
        for seed in seeds
        for variant in activation_variants(activations)
    ]
