"""Where a backbone's tensors come from, and which they are: drawn, downloaded or read, checked, and hashed.

A file of weights comes from strangers: it is read as tensors and nothing else, and is used only when its names and
shapes are exactly those of the backbone and its numbers finite. Tensors are float32 on the CPU from here on.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import socket
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.error import URLError

from lungct.backbone.options import (
    BACKBONES,
    WeightsSource,
    check_backbone,
    constructed,
    parse_weights,
    torch_module,
)
from lungct.errors import UsageError
from lungct.progress import say

if TYPE_CHECKING:
    import torch

DOWNLOAD_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class Weights:
    """A backbone's tensors without its classifier.

    Attributes
    ----------
    backbone
        Whose they are.
    source
        What the user typed.
    sha256
        What they are: `weights_sha256` of the state.
    state
        Names to float32 tensors on the CPU, torchvision's names, without ``fc.*`` and ``*.num_batches_tracked``.

    """

    backbone: str
    source: str
    sha256: str
    state: Mapping[str, torch.Tensor]


def weights_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Identify weights by their tensors alone.

    For each entry but ``fc.*`` and ``*.num_batches_tracked``, in sorted order of names: the name in UTF-8, then the
    tensor as contiguous little-endian float32. 64 hex digits.
    """
    digest = hashlib.sha256()
    for name in sorted(filter(_counts, state)):
        digest.update(name.encode())
        values = state[name].detach().float().cpu().contiguous().numpy()
        digest.update(values.astype("<f4", copy=False).tobytes())
    return digest.hexdigest()


def load_weights(
    backbone: str,
    weights: str | os.PathLike[str] | WeightsSource,
    *,
    quiet: bool = False,
) -> Weights:
    """Draw, download or read the weights of a backbone.

    Parameters
    ----------
    backbone
        One of `BACKBONES`.
    weights
        ``imagenet`` (torchvision's IMAGENET1K_V1, downloaded once into torch's cache), ``random:SEED``
        (``torch.manual_seed(SEED)``, then torchvision's constructor, on the CPU), or a file: safetensors, or the state
        dict as ``torch.save`` writes it. Half precision is widened.
    quiet
        Do not say on stderr that a download begins.

    Raises
    ------
    UsageError
        If the weights cannot be had, are not those of this backbone, or hold anything but finite tensors. A file
        never runs code: pickles of other things than tensors are refused.

    """
    check_backbone(backbone)
    source = weights if isinstance(weights, WeightsSource) else parse_weights(weights)
    if source.seed is not None:
        state = _random_state(backbone, source.seed)
        where = f"--weights {source.text}"
    else:
        path = source.path or _imagenet_file(backbone, quiet=quiet)
        where = f"--weights {source.text}" if source.path else f"--weights imagenet ({path})"
        state = _checked(_read_file(path, where), backbone, where)
    return Weights(backbone, source.text, weights_sha256(state), state)


def _counts(name: str) -> bool:
    """Tell whether an entry of a state dict is part of what makes features."""
    return not name.startswith("fc.") and not name.endswith(".num_batches_tracked")


def _random_state(backbone: str, seed: int) -> dict[str, torch.Tensor]:
    torch = torch_module()
    with (
        torch.random.fork_rng(devices=[]),
        torch.device("cpu"),
    ):  # the caller's own draws go on undisturbed
        torch.manual_seed(seed)
        state = constructed(backbone).state_dict()
    return {name: tensor for name, tensor in state.items() if _counts(name)}


def _shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a backbone's tensors, without making them."""
    with torch_module().device("meta"):
        state = constructed(backbone).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if _counts(name)}


def _imagenet_file(backbone: str, *, quiet: bool) -> Path:
    """Return torchvision's file in torch's cache, downloaded if it is not there, whole in either case."""
    torch = torch_module()
    from torchvision import models

    url = str(models.get_model_weights(backbone)["IMAGENET1K_V1"].url)
    name = url.rsplit("/", 1)[1]
    digits = name.rsplit("-", 1)[1].removesuffix(".pth")  # the first of the file's SHA-256, by torch's convention
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        say(f"downloading {url} to {path}", quiet=quiet)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _socket_timeout(DOWNLOAD_TIMEOUT_S):
                # Into a file beside it, renamed when whole and when its hash is right; and it prints nothing.
                torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"--weights imagenet: no download from {url} ({_reason(error)}); put that file at {path}, "
                "or give --weights FILE"
            ) from error
    with _readable(path, f"--weights imagenet ({path})"), path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(digits):
        raise UsageError(
            f"--weights imagenet: {path} is not the file that its name says (SHA-256 {found[:8]}…); "
            f"remove it, or replace it by {url}"
        )
    return path


@contextmanager
def _socket_timeout(seconds: float) -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(seconds)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)


def _reason(error: BaseException) -> str:
    """Say an error in a few words on one line."""
    if isinstance(error, URLError) and not isinstance(error.reason, str):
        error = error.reason
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


@contextmanager
def _readable(path: Path, where: str) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UsageError(f"{where}: cannot be read: {_reason(error)}") from error


def _read_file(path: Path, where: str) -> dict[str, Any]:
    """Read a file of weights, by its content: safetensors, or torch.save's format with nothing but tensors in it."""
    torch = torch_module()
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    with _readable(path, where):
        with path.open("rb") as file:
            head = file.read(9)
        try:
            if head[8:9] == b"{":
                return dict(load_file(path))
            with warnings.catch_warnings(action="ignore"):  # what torch thinks of the pickle's version
                loaded = torch.load(path, map_location="cpu", weights_only=True)
        except SafetensorError as error:
            raise UsageError(
                f"{where}: a damaged or truncated safetensors file ({_reason(error)}); copy it again"
            ) from error
        except pickle.UnpicklingError as error:
            # torch's word for both: bytes that are no pickle, and a pickle that would run code.
            raise UsageError(
                f"{where}: no safetensors file, and no torch.save of tensors alone, the only pickle that is ever "
                "opened; save the network with torch.save(model.state_dict(), FILE)"
            ) from error
        except OSError:
            raise
        except Exception as error:
            # Whatever a damaged archive makes of torch's reader: EOFError, RuntimeError, KeyError, UnicodeDecodeError …
            raise UsageError(f"{where}: neither a safetensors file nor one of torch.save ({_reason(error)})") from error
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise UsageError(f"{where}: holds no state dict; save the network with torch.save(model.state_dict(), FILE)")
    return loaded


def _checked(state: dict[str, Any], backbone: str, where: str) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict as float32, if they are exactly those of the backbone and finite."""
    torch = torch_module()
    found = {name: value for name, value in state.items() if _counts(name)}
    for name, value in found.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.layout != torch.strided:
            raise UsageError(f"{where}: {name} is no tensor of floating-point numbers; save the state dict alone")
    _check_shapes({name: tuple(value.shape) for name, value in found.items()}, backbone, where)
    checked = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in found.items()}
    for name, value in checked.items():
        if not torch.isfinite(value).all():
            raise UsageError(f"{where}: {name} holds NaN or infinity; use other weights")
        if name.endswith("running_var") and (value < 0).any():
            raise UsageError(f"{where}: {name} holds a variance below 0; use other weights")
    return checked


def _check_shapes(found: dict[str, tuple[int, ...]], backbone: str, where: str) -> None:
    expected = _shapes(backbone)
    if found == expected:
        return
    faults = [
        _named("missing", expected.keys() - found.keys()),
        _named("surplus", found.keys() - expected.keys()),
        _named(
            "of another shape",
            {name for name in expected.keys() & found.keys() if expected[name] != found[name]},
        ),
    ]
    others = [name for name in BACKBONES if _shapes(name) == found]
    way_out = f"use --backbone {others[0]}" if others else f"give weights in torchvision's layout of {backbone}"
    raise UsageError(f"{where}: not the weights of {backbone}: {'; '.join(filter(None, faults))}; {way_out}")


def _named(fault: str, names: set[str]) -> str:
    """Say how many names have a fault, and the first of them."""
    if not names:
        return ""
    first = ", ".join(sorted(names)[:2])
    return f"{len(names)} {fault} ({first}{', …' if len(names) > 2 else ''})"
