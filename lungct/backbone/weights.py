"""The weights of a backbone: drawn, downloaded or read from a file, then checked and hashed.

A weights file is not trusted: nothing but tensors is ever read from it, and it is used only if its names and shapes are
exactly those of the backbone and its numbers are finite. From here on tensors are float32 on the CPU.

Errors of this module are also raised on the nodes of a cluster, which cannot know how the reader spells an option, so
they name none.
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
    construct,
    parse_weights,
    torch_module,
)
from lungct.errors import UsageError
from lungct.progress import print_message

if TYPE_CHECKING:
    import torch

DOWNLOAD_TIMEOUT_S = 30.0

_SAVE_STATE_DICT = "save the network with torch.save(model.state_dict(), FILE)"


@dataclass(frozen=True)
class Weights:
    """A backbone's tensors without its classifier.

    Attributes
    ----------
    backbone
        The backbone that they belong to.
    source
        What the user typed.
    sha256
        Their identity: `weights_sha256` of the state.
    state
        torchvision's names to float32 tensors on the CPU, without ``fc.*`` and ``*.num_batches_tracked``.

    """

    backbone: str
    source: str
    sha256: str
    state: Mapping[str, torch.Tensor]


def weights_sha256(state: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256 that identifies weights by their tensors alone, 64 hex digits.

    It covers every entry but ``fc.*`` and ``*.num_batches_tracked``, in sorted order of names: the name in UTF-8, then
    the tensor as contiguous little-endian float32 (``docs/formats.md``, "Identity of the weights").
    """
    digest = hashlib.sha256()
    for name in sorted(filter(_makes_features, state)):
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
    """Return the weights of a backbone: drawn, downloaded or read from a file.

    Parameters
    ----------
    backbone
        One of `BACKBONES`.
    weights
        ``imagenet`` (torchvision's IMAGENET1K_V1, downloaded once into torch's cache), ``random:SEED``
        (``torch.manual_seed(SEED)``, then torchvision's constructor, on the CPU), or the path of a file: safetensors,
        or a state dict written by ``torch.save``. Half precision is widened to float32.
    quiet
        Do not report on stderr that a download begins.

    Raises
    ------
    UsageError
        If the weights cannot be obtained, do not fit the backbone, or hold anything but finite tensors. No file ever
        runs code: a pickle of anything but tensors is refused.

    """
    check_backbone(backbone)
    source = weights if isinstance(weights, WeightsSource) else parse_weights(weights)
    if source.seed is not None:
        state = _random_state(backbone, source.seed)
    else:
        path = source.path or _imagenet_file(backbone, quiet=quiet)
        state = _checked(_read_file(path), backbone, path)
    return Weights(backbone, source.text, weights_sha256(state), state)


def _makes_features(name: str) -> bool:
    """Return whether features depend on an entry of a state dict."""
    return not name.startswith("fc.") and not name.endswith(".num_batches_tracked")


def _random_state(backbone: str, seed: int) -> dict[str, torch.Tensor]:
    torch = torch_module()
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):  # leaves the caller's random state as it was
        torch.manual_seed(seed)
        state = construct(backbone).state_dict()
    return {name: tensor for name, tensor in state.items() if _makes_features(name)}


def _shapes(backbone: str) -> dict[str, tuple[int, ...]]:
    """Return the names and shapes of a backbone's tensors, without allocating them."""
    with torch_module().device("meta"):
        state = construct(backbone).state_dict()
    return {name: tuple(tensor.shape) for name, tensor in state.items() if _makes_features(name)}


def _imagenet_file(backbone: str, *, quiet: bool) -> Path:
    """Return the path of torchvision's file in torch's cache, downloaded if it is missing, and checked by its hash."""
    torch = torch_module()
    from torchvision import models

    url = str(models.get_model_weights(backbone)["IMAGENET1K_V1"].url)
    name = url.rsplit("/", 1)[1]
    digits = name.rsplit("-", 1)[1].removesuffix(".pth")  # the first of the file's SHA-256, a convention of torch
    path = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not path.exists():
        print_message(f"downloading {url} to {path}", quiet=quiet)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            with _socket_timeout(DOWNLOAD_TIMEOUT_S):
                # torch writes a temporary file, checks its hash and renames it.
                torch.hub.download_url_to_file(url, str(path), hash_prefix=digits, progress=False)
        except (OSError, RuntimeError) as error:
            raise UsageError(
                f"the ImageNet weights cannot be downloaded from {url} ({_reason(error)})",
                fix=f"put that file at {path}, or give the path of a weights file",
            ) from error
    with _read_errors(path), path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    if not sha256.startswith(digits):
        raise UsageError(
            f"weights {path}: the content does not match the file's name (its SHA-256 begins with {sha256[:8]})",
            fix=f"remove the file, or replace it with {url}",
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
    """Return an error's message in a few words on one line."""
    if isinstance(error, URLError) and not isinstance(error.reason, str):
        error = error.reason
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return " ".join(str(text).split())[:200]


@contextmanager
def _read_errors(path: Path) -> Iterator[None]:
    """Raise UsageError if the file cannot be read."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"weights {path} cannot be read ({_reason(error)})", fix="give another file") from error


def _read_file(path: Path) -> dict[str, Any]:
    """Read a weights file, recognised by its content: safetensors, or torch.save's format holding tensors alone."""
    with _read_errors(path):
        with path.open("rb") as file:
            head = file.read(9)
        loaded = _read_safetensors(path) if head[8:9] == b"{" else _read_torch(path)
    if not isinstance(loaded, dict) or not all(isinstance(name, str) for name in loaded):
        raise UsageError(f"weights {path}: no state dict", fix=_SAVE_STATE_DICT)
    return loaded


def _read_safetensors(path: Path) -> dict[str, Any]:
    torch_module()  # sets torch up before safetensors imports it
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except SafetensorError as error:
        raise UsageError(
            f"weights {path}: a damaged or truncated safetensors file ({_reason(error)})", fix="copy it again"
        ) from error


def _read_torch(path: Path) -> Any:
    try:
        with warnings.catch_warnings(action="ignore"):  # torch warns about old pickles
            return torch_module().load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # torch raises it both for bytes that are no pickle and for a pickle that would run code.
        raise UsageError(
            f"weights {path}: neither a safetensors file nor a file of torch.save with tensors alone, the only pickle "
            "that is ever opened",
            fix=_SAVE_STATE_DICT,
        ) from error
    except OSError:
        raise
    except Exception as error:
        # A damaged archive can make torch's reader raise anything: EOFError, RuntimeError, KeyError, UnicodeDecodeError
        raise UsageError(
            f"weights {path}: neither a safetensors file nor a file of torch.save ({_reason(error)})",
            fix=_SAVE_STATE_DICT,
        ) from error


def _checked(state: dict[str, Any], backbone: str, path: Path) -> dict[str, torch.Tensor]:
    """Return the tensors of a state dict as float32; UsageError unless they are the backbone's and finite."""
    torch = torch_module()
    wanted = {name: value for name, value in state.items() if _makes_features(name)}
    for name, value in wanted.items():
        if not isinstance(value, torch.Tensor) or not value.is_floating_point() or value.layout != torch.strided:
            raise UsageError(
                f"weights {path}: {name} is not a tensor of floating-point numbers", fix="save the state dict alone"
            )
    _check_shapes({name: tuple(value.shape) for name, value in wanted.items()}, backbone, path)
    checked = {name: value.detach().to("cpu", torch.float32).contiguous() for name, value in wanted.items()}
    for name, value in checked.items():
        if not torch.isfinite(value).all():
            raise UsageError(f"weights {path}: {name} has NaN or infinite numbers", fix="use other weights")
        if name.endswith("running_var") and (value < 0).any():
            raise UsageError(f"weights {path}: {name} has a negative variance", fix="use other weights")
    return checked


def _check_shapes(shapes: dict[str, tuple[int, ...]], backbone: str, path: Path) -> None:
    """Raise UsageError unless the names and shapes of tensors are exactly those of a backbone."""
    expected = _shapes(backbone)
    if shapes == expected:
        return
    misshapen = {name for name in expected.keys() & shapes.keys() if expected[name] != shapes[name]}
    faults = [
        *_fault("missing", expected.keys() - shapes.keys()),
        *_fault("unexpected", shapes.keys() - expected.keys()),
        *_fault("of another shape", misshapen),
    ]
    others = [name for name in BACKBONES if _shapes(name) == shapes]
    raise UsageError(
        f"weights {path} are not those of {backbone}: {'; '.join(faults)}",
        fix=f"use the backbone {others[0]}" if others else f"give weights in torchvision's layout of {backbone}",
    )


def _fault(fault: str, names: set[str]) -> list[str]:
    """Return how many names have a fault, with the first two; empty if none has."""
    if not names:
        return []
    first = ", ".join(sorted(names)[:2])
    return [f"{len(names)} {fault} ({first}{', …' if len(names) > 2 else ''})"]
