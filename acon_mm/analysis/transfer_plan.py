"""What the transfer chain runs: presets, activations and their variants, and the steps.

A chain belongs to one activation and one seed: a classifier is trained and tested, a detector and
a segmentor are trained from its checkpoint and tested.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from acon_mm import config_path
from acon_mm.datasets.digit_build import FORMAT, BuildOptions
from acon_mm.errors import UserError

CLASSIFICATION, DETECTION, SEGMENTATION = TASKS = ('classification', 'detection', 'segmentation')

# What a test measures, in percent; the first is compared.
METRICS = {
    CLASSIFICATION: ('Top 1 Error',),
    DETECTION: ('box AP', 'box AP@50', 'box AP@75'),
    SEGMENTATION: ('mIoU',),
}

# The endings of the configs' names, and what the paper calls the activations.
ACTIVATIONS = {'relu': 'ReLU', 'swish': 'Swish', 'metaacon': 'Meta-ACON'}


@dataclass(frozen=True)
class Preset:
    """The configs of a chain, and what is changed in them.

    Attributes:
        name: ``'digits'`` or ``'paper'``.
        configs: By task, the path of a config below ``configs/`` with ``{}`` in the place of the
            activation.
        placement: Which activations of a block the configs replace.
        init: What Meta-ACON's slopes start from in the configs.
        options: By task, values by dotted key that every step of it gets.
        flags: Flags of ``tools/train.py`` that every training gets.
        prepare: Script below ``tools/`` and its arguments that make the data; running it again
            changes nothing. Empty if the data has to be there.
        data: What decides the bytes of the data.
        seconds: About how long a step takes on two CPU cores, by its name.
    """

    name: str
    configs: Mapping[str, str]
    placement: str
    init: str
    options: Mapping[str, Mapping] = field(default_factory=dict)
    flags: Sequence[str] = ()
    prepare: Sequence[str] = ()
    data: Mapping[str, int] = field(default_factory=dict)
    seconds: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Variant:
    """A row of the table: an activation, and what is changed in its backbones.

    Attributes:
        name: The name of its folder.
        title: How the table calls it.
        activation: One of ``ACTIVATIONS``.
        options: Values by dotted key for the configs of all three tasks.
    """

    name: str
    title: str
    activation: str
    options: Mapping[str, object] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Step:
    """A training or a test of a chain; it can be hashed, and equals itself alone.

    Attributes:
        name: ``'pretrain'``, ``'detection'``, ``'segmentation'``, or one of them and ``'_test'``.
        task: One of ``TASKS``.
        config: Path of the config.
        folder: The work dir.
        options: Values to change in the config, by dotted key.
        after: The training whose checkpoint the step starts from; None for pretraining.
        flags: Flags of ``tools/train.py``.
        processes: How many processes a launch script starts; None to run without one.
        data: What decides the bytes of the data.
    """

    name: str
    task: str
    config: str
    folder: Path
    options: Mapping[str, object]
    after: 'Step | None' = None
    flags: Sequence[str] = ()
    processes: int | None = None
    data: Mapping[str, int] = field(default_factory=dict)

    @property
    def is_test(self) -> bool:
        """Whether the step tests the model that the step before trained."""
        return self.name.endswith('_test')


@dataclass(frozen=True, eq=False)
class Chain:
    """All steps of a variant and a seed, in their order; ``folder`` holds theirs."""

    preset: str
    variant: Variant
    seed: int
    folder: Path
    steps: Sequence[Step]


# What the steps of a chain hand on, or get from its seed and folder.
_OWN = {
    'randomness.seed': 'give --seeds instead',
    'work_dir': 'give --work-dir instead',
    'load_from': 'the detector and the segmentor start from its classifier',
    'model.backbone.init_cfg': 'the detector and the segmentor start from its classifier',
    'resume': 'a step that was interrupted goes on by itself',
}


def _every(interval: int, **more) -> dict:
    """Write a checkpoint that often, so that little is lost; two, for one may be half written."""
    hook = 'default_hooks.checkpoint'
    return {f'{hook}.interval': interval, f'{hook}.max_keep_ckpts': 2, **more}


PRESETS = {
    'digits': Preset(
        'digits',
        {
            CLASSIFICATION: 'classification/resnet18_{}_digits.py',
            DETECTION: 'detection/retinanet_r18_{}_digits.py',
            SEGMENTATION: 'segmentation/pspnet_r18_{}_digits.py',
        },
        placement='all',
        init='normal',
        # Epochs, and iterations of the segmentor.
        options={CLASSIFICATION: _every(1), DETECTION: _every(1), SEGMENTATION: _every(100)},
        prepare=('dataset_converters/make_digit_scenes.py', '--out', 'data/digit_scenes'),
        data={'format': FORMAT, **asdict(BuildOptions())},
        seconds={
            **{'pretrain': 110, 'detection': 235, 'segmentation': 230},
            **{'pretrain_test': 10, 'detection_test': 20, 'segmentation_test': 15},
        },
    ),
    'paper': Preset(
        'paper',
        {
            CLASSIFICATION: 'classification/resnet50_{}.py',
            DETECTION: 'detection/retinanet_r50_{}.py',
            SEGMENTATION: 'segmentation/pspnet_r50_{}.py',
        },
        placement='one',
        init='paper',
        # The learning rates are those of eight GPUs.
        flags=('--auto-scale-lr',),
    ),
}


def activation_variants(activations: Sequence[str] = tuple(ACTIVATIONS)) -> list[Variant]:
    """Return the rows of Tables 9 and 10.

    Args:
        activations: Some of ``ACTIVATIONS``.

    Raises:
        UserError: If one is unknown.
    """
    for name in activations:
        if name not in ACTIVATIONS:
            raise UserError(
                f'activations names {name!r}, which is unknown; use some of '
                f'{", ".join(ACTIVATIONS)}'
            )
    return [Variant(name, ACTIVATIONS[name], name) for name in dict.fromkeys(activations)]


def ablation_variants(preset: Preset) -> list[Variant]:
    """Return Meta-ACON by default and with one thing changed at a time.

    The first is the row of Tables 9 and 10, with the same folder, and is not run twice.
    """
    act_cfg = 'model.backbone.act_cfg'
    placement = {'all': 'one', 'one': 'all'}[preset.placement]
    init, slopes = {
        'normal': ('paper', 'p₁ = 1 and p₂ = 0 at first'),
        'paper': ('normal', 'p₁ and p₂ from N(0, 1)'),
    }[preset.init]
    changes = {
        f'init_{init}': (slopes, {f'{act_cfg}.init': init}),
        'no_norm': ('no norm inside Meta-ACON', {f'{act_cfg}.norm_cfg': None}),
        f'placement_{placement}': (
            f'placement: {placement}',
            {'model.backbone.placement': placement},
        ),
    }
    (default,) = activation_variants(['metaacon'])
    return [
        default,
        *(
            Variant(f'{default.name}_{name}', f'{default.title}, {title}', 'metaacon', options)
            for name, (title, options) in changes.items()
        ),
    ]


def plan_chain(
    preset: Preset,
    variant: Variant,
    seed: int,
    root: Path,
    options: Mapping[str, object] | None = None,
    processes: int | None = None,
) -> Chain:
    """List the steps of a chain.

    The seed is that of the initial values and of the order of the images. mmengine gives it to
    the sampler itself, so the order is the same for all variants.

    Args:
        preset: The preset.
        variant: The activation.
        seed: The seed.
        root: The folder of the grid. The chain's is ``root/VARIANT/seedN``.
        options: More values by dotted key for the configs of all tasks, or, with a task and a dot
            before the key, of that one.
        processes: How many processes a step runs in; None for one without a launcher.

    Raises:
        UserError: If ``options`` names what the chain sets itself, such as the seed.
    """
    folder = root / variant.name / f'seed{seed}'
    steps: list[Step] = []
    for task in TASKS:
        name = 'pretrain' if task == CLASSIFICATION else task
        training = Step(
            name,
            task,
            config_path(preset.configs[task].format(variant.activation)),
            folder / name,
            {
                'randomness.seed': seed,
                **preset.options.get(task, {}),
                **variant.options,
                **_of_task(options or {}, task),
            },
            after=steps[0] if steps else None,
            flags=preset.flags,
            processes=processes,
            data=preset.data,
        )
        test = Step(
            f'{name}_test',
            task,
            training.config,
            folder / f'{name}_test',
            training.options,
            after=training,
            processes=processes,
            data=preset.data,
        )
        steps += [training, test]
    return Chain(preset.name, variant, seed, folder, tuple(steps))


def _of_task(options: Mapping[str, object], task: str) -> dict:
    """Return the options for all tasks and those for this one."""
    found = {}
    for key, value in options.items():
        first, _, rest = key.partition('.')
        if first not in TASKS:
            found[key] = value
        elif first == task and rest:
            found[rest] = value
    for key in found:
        for own, instead in _OWN.items():
            if key == own or key.startswith(f'{own}.') or own.startswith(f'{key}.'):
                raise UserError(f'options names {key!r}, which the chain sets itself; {instead}')
    return found
