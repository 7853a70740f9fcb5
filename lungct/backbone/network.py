"""`Backbone`: uint8 triplets in, float32 features out, on the threads of the CPU or on one GPU.

``docs/formats.md``, "Backbone", states the arithmetic and why it is what it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from lungct.arguments import at_least
from lungct.backbone.options import (
    BACKBONES,
    check_backbone,
    construct,
    default_batch_size,
    device_name,
    resolve_device,
    resolve_precision,
    torch_module,
)
from lungct.backbone.weights import Weights
from lungct.errors import LungCTError, UsageError
from lungct.preprocess import TRIPLET_SIZE

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

# Means and standard deviations of ImageNet's channels, by which torchvision's weights expect inputs to be normalised.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


class Backbone:
    """A network that turns triplets into features.

    Parameters
    ----------
    name
        One of `BACKBONES`.
    weights
        Weights of that backbone.
    device
        ``cpu`` or ``cuda`` (the current GPU).
    precision
        ``fp32`` (IEEE float32, no TF32) or ``bf16`` (convolutions in bfloat16, average pooling in float32).
    batch_size
        Triplets in every batch. Features depend on it, so it is one of a table's settings.
    threads
        Batches computed at the same time on the CPU. Features do not depend on it; a GPU ignores it.

    Attributes
    ----------
    dim
        D, the numbers in a feature.

    Raises
    ------
    UsageError
        If an option is out of range, the weights are those of another backbone, or the device does not exist here.

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
            raise UsageError(
                f"these are weights of {weights.backbone}, not of {name}", fix=f"load the weights of {name}"
            )
        if batch_size is not None:
            at_least(batch_size, 1, "batch_size")
        at_least(threads, 1, "threads")
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
        return (self.batch_size, 3, TRIPLET_SIZE, TRIPLET_SIZE)

    def features(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Compute the features of triplets.

        Parameters
        ----------
        pixels
            uint8 (N, 3, 224, 224); channel c is slice c of a triplet. N may be 0; the array may be read-only.

        Returns
        -------
        numpy.ndarray
            float32 (N, D), in the order of the triplets.

        Raises
        ------
        UsageError
            If the array has another type or shape, a batch does not fit in the GPU's memory, or a feature is not
            finite.

        """
        if pixels.dtype != np.uint8 or pixels.ndim != 4 or pixels.shape[1:] != self._shape[1:]:
            raise UsageError(f"triplets must be uint8 (N, 3, 224, 224), not {pixels.dtype} {pixels.shape}")
        batches = [pixels[i : i + self.batch_size] for i in range(0, len(pixels), self.batch_size)]
        if not batches:
            return np.empty((0, self.dim), np.float32)
        padded = self._on_gpu(batches) if self.device == "cuda" else self._on_cpu(batches)
        features = np.ascontiguousarray(padded[: len(pixels)])
        if not np.isfinite(features).all():
            raise UsageError(f"these weights make features of {self.name} that are not finite", fix="use other weights")
        return features

    def _forward(self, batch: torch.Tensor) -> torch.Tensor:
        """Return the features of a full batch of pixels, both on the device: float32 (batch size, D)."""
        torch = torch_module()
        with torch.inference_mode():
            x = batch.float().div_(255).sub_(self._mean).div_(self._std)
            x = x.to(self._dtype).contiguous(memory_format=torch.channels_last)
            net = self._net
            x = net.maxpool(net.relu(net.conv1(x)))
            x = net.layer4(net.layer3(net.layer2(net.layer1(x))))
            return net.avgpool(x.float()).flatten(1)

    def _on_cpu(self, batches: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Compute the batches on the threads of the pool, each on one thread from end to end."""
        torch = torch_module()

        def compute(batch: NDArray[np.uint8]) -> NDArray[np.float32]:
            _compute_on_this_thread()
            whole = torch.empty(self._shape, dtype=torch.uint8)
            fill(whole.numpy(), batch)
            return self._forward(whole).numpy()

        return np.concatenate(list(self._pool.map(compute, batches)))

    def _on_gpu(self, batches: list[NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Copy each batch while the previous one is computed, and fetch all features at the end."""
        torch = torch_module()

        def send(i: int) -> Any:
            pinned, sent = self._pinned[i % 2], self._sent[i % 2]
            sent.synchronize()  # until the previous copy from this buffer is complete
            fill(pinned.numpy(), batches[i])
            with torch.cuda.stream(self._copies):
                on_device = pinned.to("cuda", non_blocking=True)
                sent.record()
            return on_device

        computing = torch.cuda.current_stream()
        features = []
        try:
            with exact_convolutions():
                upcoming = send(0)
                for i in range(len(batches)):
                    batch = upcoming
                    computing.wait_event(self._sent[i % 2])
                    batch.record_stream(computing)  # memory of the copying stream, used on this one
                    features.append(self._forward(batch))
                    if i + 1 < len(batches):
                        upcoming = send(i + 1)
                return torch.cat(features).cpu().numpy()
        except torch.OutOfMemoryError as error:
            raise UsageError(
                f"a batch of {self.batch_size} triplets does not fit in the memory of {device_name('cuda')}",
                fix="use a smaller batch size",
            ) from error


def fill(whole: NDArray[np.uint8], batch: NDArray[np.uint8]) -> None:
    """Write ``batch`` to the front of ``whole`` and zeros after it: the network never sees another shape."""
    whole[: len(batch)] = batch
    whole[len(batch) :] = 0


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """On a GPU, compute in IEEE float32 within the block, and always by the same algorithm for a shape."""
    backends = torch_module().backends
    matmul = backends.cuda.matmul.allow_tf32
    backends.cuda.matmul.allow_tf32 = False
    try:
        with backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=False):
            yield
    finally:
        backends.cuda.matmul.allow_tf32 = matmul


def _compute_on_this_thread() -> None:
    """Keep torch and its libraries on the calling thread; each thread has its own setting."""
    torch = torch_module()
    torch.set_num_threads(1)
    if torch.get_num_threads() != 1:
        raise LungCTError(
            "this build of torch cannot keep a computation on one thread, and features would vary",
            fix="install another build of torch",
        )


def _network(backbone: str, state: Mapping[str, torch.Tensor]) -> Any:
    """Build a network for inference, with each normalisation folded into the convolution before it."""
    torch = torch_module()
    with torch.device("meta"):  # its tensors are replaced at once: spend no time on drawing them
        net = construct(backbone)
    net.fc = torch.nn.Identity()
    net.load_state_dict(_with_counters(net, state), assign=True)
    net.eval().requires_grad_(False)
    net.conv1, net.bn1 = _folded(net.conv1, net.bn1), torch.nn.Identity()
    for layer in (net.layer1, net.layer2, net.layer3, net.layer4):
        for block in layer:
            _fold_block(block)
    return net


def _fold_block(block: Any) -> None:
    """Fold the normalisations of a residual block into its convolutions."""
    torch = torch_module()
    for number in ("1", "2", "3") if hasattr(block, "conv3") else ("1", "2"):
        convolution, normalisation = getattr(block, f"conv{number}"), getattr(block, f"bn{number}")
        setattr(block, f"conv{number}", _folded(convolution, normalisation))
        setattr(block, f"bn{number}", torch.nn.Identity())
    if block.downsample is not None:
        block.downsample = _folded(*block.downsample)


def _with_counters(net: Any, state: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Add the counters of training batches, which nothing here reads but torch requires."""
    torch = torch_module()
    counters = {name for name in net.state_dict() if name.endswith(".num_batches_tracked")}
    return {**state, **{name: torch.zeros((), dtype=torch.int64) for name in counters}}


def _folded(convolution: Any, normalisation: Any) -> Any:
    """Return one convolution that does the work of both, its weights computed in float64.

    This saves a pass over every activation: 5 to 10 % of the time on a CPU, more on a GPU. Features differ by about
    5e-7 of the largest.
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
