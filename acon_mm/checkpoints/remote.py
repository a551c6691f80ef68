"""Checkpoints that are not on this machine: URLs, names in OpenMMLab's hubs, object stores.

mmengine's own loaders end in a ``torch.load`` without ``weights_only``. These download the file
and read it like one on this machine.
"""

import io
import sys
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

import torch
from mmengine.dist import barrier, is_main_process
from mmengine.fileio import get_file_backend
from mmengine.runner import checkpoint as mmengine_checkpoint

from acon_mm.errors import UserError

from .reading import load_from_local, load_tensors, read_safely


def load_from_http(filename: str, map_location: Any = None) -> Any:
    """Download a checkpoint into torch's hub folder, unless it is there, and read it.

    Args:
        filename: The URL.
        map_location: Same as in :func:`torch.load`.

    Returns:
        What :func:`.load_from_local` returns.

    Raises:
        UserError: If the file cannot be downloaded or read.
        CheckpointRefusedError: If it asks for a global outside the allow-list.
    """
    path = Path(torch.hub.get_dir(), 'checkpoints', Path(urlparse(filename).path).name)

    def load() -> Any:
        try:
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                torch.hub.download_url_to_file(filename, str(path), progress=sys.stderr.isatty())
        except (ConnectionError, TimeoutError, URLError) as error:
            raise UserError(
                f'checkpoint {filename!r} cannot be downloaded: {error}; check the address and '
                'the network, or download it elsewhere and give its path'
            ) from error
        return load_tensors(path, map_location)

    # The first process downloads the file. The others find it there, or are on another machine.
    content = read_safely(load, filename) if is_main_process() else None
    barrier()
    return content if is_main_process() else read_safely(load, filename)


def load_from_torchvision(filename: str, map_location: Any = None) -> Any:
    """Read the checkpoint ``torchvision://NAME``; see :func:`load_from_http`."""
    return load_from_http(
        _look_up(filename, mmengine_checkpoint.get_torchvision_models()), map_location
    )


def load_from_openmmlab(filename: str, map_location: Any = None) -> Any:
    """Read the checkpoint ``open-mmlab://NAME``; see :func:`load_from_http`."""
    scheme, _, name = filename.partition('://')
    name = mmengine_checkpoint.get_deprecated_model_names().get(name, name)
    url = _look_up(f'{scheme}://{name}', mmengine_checkpoint.get_external_models())
    if url.startswith(('http://', 'https://')):
        return load_from_http(url, map_location)
    return load_from_local(Path(mmengine_checkpoint._get_mmengine_home(), url), map_location)


def load_from_mmcls(filename: str, map_location: Any = None) -> Any:
    """Read the backbone of the classifier ``mmcls://NAME``; see :func:`load_from_http`."""
    url = _look_up(filename, mmengine_checkpoint.get_mmcls_models())
    content = load_from_http(url, map_location)
    start = 'backbone.'
    state = content.get('state_dict', content)
    return {
        'state_dict': {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    }


def load_from_ceph(filename: str, map_location: Any = None) -> Any:
    """Read a checkpoint from an object store by mmengine's backend ``petrel``."""
    backend = get_file_backend(filename, backend_args={'backend': 'petrel'})
    content = io.BytesIO(backend.get(filename))
    return read_safely(lambda: load_tensors(content, map_location), filename)


def load_from_pavi(filename: str, map_location: Any = None) -> Any:
    """Refuse a checkpoint of a service whose client is not public."""
    raise UserError(
        f'checkpoint {filename!r} cannot be read: acon_mm does not download from pavi; download '
        'the file and give its path'
    )


REMOTE_LOADERS: dict[Callable, tuple[str, ...]] = {
    load_from_http: ('http://', 'https://'),
    load_from_torchvision: ('modelzoo://', 'torchvision://'),
    load_from_openmmlab: ('open-mmlab://', 'openmmlab://'),
    load_from_mmcls: ('mmcls://',),
    load_from_ceph: (r'(\S+\:)?s3://', r'(\S+\:)?petrel://'),
    load_from_pavi: ('pavi://',),
}
"""The loaders by the prefixes that mmengine gives them, as regular expressions."""


def _look_up(filename: str, urls: Mapping[str, str]) -> str:
    name = filename.partition('://')[2]
    if name not in urls:
        near = get_close_matches(name, urls, n=3, cutoff=0.5)
        hint = f'; did you mean {" or ".join(map(repr, near))}?' if near else ''
        raise UserError(f'checkpoint {filename!r} names no model that mmengine knows{hint}')
    return urls[name]
