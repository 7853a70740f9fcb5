"""The network itself: uint8 triplets in, float32 features out, on the CPU's threads or one GPU."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.backbone.options import (
    BACKBONES,
    check_backbone,
    constructed,
    default_batch_size,
    device_name,
    resolve_device,
    resolve_precision,
    torch_module,
)
from lungct.backbone.weights import Weights
from lungct.errors import LungCTError, UsageError

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

SIDE = 224
# torchvision's ImageNet weights expect inputs normalised by these, in the order of the channels.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Backbone:
    """A network that turns triplets into features.

    Parameters
    ----------
    name
        One of `BACKBONES`.
    weights
        Those of that backbone.
    device
        ``cpu`` or ``cuda`` (the current GPU).
    precision
        ``fp32`` (IEEE float32, no TF32) or ``bf16`` (convolutions in bfloat16, average pooling in float32).
    batch_size
        Triplets in a batch, always: part of the arithmetic, so part of a table's settings.
    threads
        On the CPU, batches at the same time; no part of the arithmetic. Ignored on a GPU.

    Attributes
    ----------
    dim
        D, numbers in a feature.

    """

    def __init__(
        self,
        name: str,
        weights: Weights,
        *,
        device: str = "cpu",
        precision: str = "fp32",
        batch_size: int | None = None,
        threads: int = 1,
    ) -> None:
        if weights.backbone != check_backbone(name):
            raise UsageError(f"these are weights of {weights.backbone}, not of {name}")
        if batch_size is not None and batch_size < 1:
            raise UsageError(f"--batch-size {batch_size}: give at least 1")
        if threads < 1:
            raise UsageError(f"threads {threads}: give at least 1")
        torch = torch_module()
        self.name = name
        self.dim = BACKBONES[name]
        self.device = resolve_device(device)
        self.precision = resolve_precision(precision, self.device)
        self.batch_size = batch_size or default_batch_size(self.device)
        self.threads = threads
        self._dtype = torch.bfloat16 if self.precision == "bf16" else torch.float32
        self._net = _network(name, weights.state).to(self.device, self._dtype, memory_format=torch.channels_last)
        self._mean = torch.tensor(MEAN, device=self.device).view(3, 1, 1)
        self._std = torch.tensor(STD, device=self.device).view(3, 1, 1)
        if self.device == "cuda":
            self._copies = torch.cuda.Stream()
            self._pinned = [torch.empty(self._shape, dtype=torch.uint8).pin_memory() for _ in range(2)]
            self._sent = [torch.cuda.Event() for _ in range(2)]
        else:
            self._pool = ThreadPoolExecutor(threads, "lungct-backbone")

    @property
    def _shape(self) -> tuple[int, int, int, int]:
        return (self.batch_size, 3, SIDE, SIDE)

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of triplets.

        Parameters
        ----------
        pixels
            uint8 (N, 3, 224, 224), channel c being a triplet's slice c. N may be 0; the array may be read-only.

        Returns
        -------
        numpy.ndarray
            float32 (N, D), in the same order.

        Raises
        ------
        UsageError
            If the array has another type or shape, the GPU's memory is too small for the batch size, or the weights
            make numbers that are not finite.

        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self._shape[1:]:
            raise UsageError(f"triplets must be uint8 (N, 3, 224, 224), not {pixels.dtype} {pixels.shape}")
        batches = [pixels[i : i + self.batch_size] for i in range(0, len(pixels), self.batch_size)]
        if not batches:
            return np.empty((0, self.dim), np.float32)
        found = self._on_gpu(batches) if self.device == "cuda" else self._on_cpu(batches)
        features = np.ascontiguousarray(found[: len(pixels)])
        if not np.isfinite(features).all():
            raise UsageError(f"these weights make features of {self.name} that are not finite; use other weights")
        return features

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Turn a whole batch of pixels on the device into float32 (batch size, D) there."""
        torch = torch_module()
        with torch.inference_mode():
            x = batch.float().div_(255).sub_(self._mean).div_(self._std)
            x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
            net = self._net
            x = net.maxpool(net.relu(net.conv1(x)))
            x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
            return net.avgpool(x.float()).flatten(1)

    def _on_cpu(self, batches: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Run the batches on the pool's threads, each on one of them from end to end."""
        torch = torch_module()

        def run(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            _compute_alone()
            whole = torch.empty(self._shape, dtype=torch.uint8)
            fill(whole.numpy(), batch)
            return self._forward(whole).numpy()

        return np.concatenate(list(self._pool.map(run, batches)))

    def _on_gpu(self, batches: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Copy each batch while the one before it is computed; bring all features back at once."""
        torch = torch_module()

        def send(i: int) -> Any:
            pinned, sent = self._pinned[i % 2], self._sent[i % 2]
            sent.synchronize()  # the copy that read this buffer before is over
            fill(pinned.numpy(), batches[i])
            with torch.cuda.stream(self._copies):
                on_device = pinned.to("cuda", non_blocking=True)
                sent.record()
            return on_device

        computing = torch.cuda.current_stream()
        features = []
        try:
            with exact_convolutions():
                coming = send(0)
                for i in range(len(batches)):
                    batch = coming
                    computing.wait_event(self._sent[i % 2])
                    batch.record_stream(computing)  # the copying stream's memory, used on this one
                    features.append(self._forward(batch))
                    if i + 1 < len(batches):
                        coming = send(i + 1)
                return torch.cat(features).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"--batch-size {self.batch_size}: too much for the memory of {device_name('cuda')}; give a smaller one"
            ) from error


def fill(whole: NDArray[np.uint8], batch: NDArray[np.uint8]) -> None:
    """Write ``batch`` to the front of ``whole``, and zeros behind it: the network never sees another shape."""
    whole[: len(batch)] = batch
    whole[len(batch) :] = 0


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """On a GPU: IEEE float32, and one algorithm for a shape, chosen neither by timing nor among those that vary."""
    backends = torch_module().backends
    matmul = backends.cuda.matmul.allow_tf32
    backends.cuda.matmul.allow_tf32 = False
    try:
        with backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        backends.cuda.matmul.allow_tf32 = matmul


def _compute_alone() -> None:
    """Make torch and its libraries run on this thread alone: the setting is each thread's own."""
    torch = torch_module()
    torch.set_num_threads(1)
    if torch.get_num_threads() != 1:
        raise LungCTError("this build of torch does not let a thread compute alone: features would vary")


def _network(backbone: str, state: Mapping[str, torch.Tensor]) -> Any:
    """Build a network for inference: each normalisation is folded into the convolution before it."""
    torch = torch_module()
    with torch.device("meta"):  # no time for tensors that are replaced at once
        net = constructed(backbone)
    net.fc = torch.nn.Identity()
    net.load_state_dict(_with_counters(net, state), assign=True)
    net.eval().requires_grad_(False)
    net.conv1, net.bn1 = _folded(net.conv1, net.bn1), torch.nn.Identity()
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in layer:
            for number in ("1", "2", "3") if hasattr(block, "conv3") else ("1", "2"):
                convolution, normalisation = (
                    getattr(block, f"conv{number}"),
                    getattr(block, f"bn{number}"),
                )
                setattr(block, f"conv{number}", _folded(convolution, normalisation))
                setattr(block, f"bn{number}", torch.nn.Identity())
            if block.downsample is not None:
                block.downsample = _folded(*block.downsample)
    return net


def _with_counters(net: Any, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Add what counts training batches, which nothing here reads but torch demands."""
    torch = torch_module()
    counters = {name for name in net.state_dict() if name.endswith(".num_batches_tracked")}
    return {**state, **{name: torch.zeros((), dtype=torch.int64) for name in counters}}


def _folded(convolution: Any, normalisation: Any) -> Any:
    """Return one convolution that does what both do, its numbers computed in float64.

    A pass over every activation saved: 5 to 10 % on a CPU, more on a GPU; features differ by about 5e-7 of the
    largest.
    """
    torch = torch_module()
    scale = normalisation.weight.double() / torch.sqrt(normalisation.running_var.double() + normalisation.eps)
    bias = normalisation.bias.double() - normalisation.running_mean.double() * scale
    folded = torch.nn.Conv2d(
        convolution.in_channels,
        convolution.out_channels,
        convolution.kernel_size,
        stride=convolution.stride,
        padding=convolution.padding,
        device="meta",
    )
    folded.weight = torch.nn.Parameter(
        (convolution.weight.double() * scale.view(-1, 1, 1, 1)).float(), requires_grad=False
    )
    folded.bias = torch.nn.Parameter(bias.float(), requires_grad=False)
    return folded
