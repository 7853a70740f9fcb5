"""The backbone: what features are, that pixels and weights alone decide their bytes, and what weights are accepted."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from support import ROOT

from lungct import backbone as bb
from lungct.backbone import network
from lungct.errors import UsageError

REAL = "resnet50-imagenet.fp16.safetensors"


def pixels(n: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (n, 3, 224, 224), dtype=np.uint8)


def reference(name: str, state: dict[str, torch.Tensor] | None, x: NDArray[np.uint8], seed: int = 0) -> NDArray[Any]:
    """Return the input to ``fc`` as torchvision computes it, without folding, batches or a pool of threads."""
    torch.manual_seed(seed)
    model = getattr(torchvision.models, name)(weights=None)
    model.fc = torch.nn.Identity()
    if state is not None:
        missing: list[str] = model.load_state_dict(state, strict=False).missing_keys
        assert all(key.endswith("num_batches_tracked") for key in missing)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # several would wait for one another on a busy machine
    with torch.no_grad():
        features: NDArray[Any] = model.eval()(normalise(torch.from_numpy(x.copy()).float() / 255)).numpy()
    torch.set_num_threads(threads)
    return features


def relative_difference(features: NDArray[Any], expected: NDArray[Any]) -> float:
    return float(np.abs(features - expected).max() / np.abs(expected).max())


@pytest.fixture(scope="module")
def resnet18() -> bb.Weights:
    return bb.load_weights("resnet18", "random:7")


@pytest.fixture(scope="module")
def full_state() -> dict[str, torch.Tensor]:
    """Return ``torchvision.models.resnet18().state_dict()``, with the classifier and the counters."""
    torch.manual_seed(7)
    state: dict[str, torch.Tensor] = torchvision.models.resnet18(weights=None).state_dict()
    return state


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name in ("resnet101", "resnet152") else name
        for name in bb.BACKBONES
    ],
)
def test_features_are_torchvisions_input_to_fc_and_threads_do_not_change_a_byte(name: str) -> None:
    x = pixels(2)
    weights = bb.load_weights(name, "random:7")
    one = bb.Backbone(name, weights, batch_size=1, threads=1).features(x)
    two = bb.Backbone(name, weights, batch_size=1, threads=2).features(x)
    assert one.dtype == np.float32
    assert one.shape == (2, bb.BACKBONES[name])
    assert relative_difference(one, reference(name, None, x, seed=7)) < 1e-5
    assert one.tobytes() == two.tobytes()


def test_folded_normalisation_is_right_for_numbers_that_are_not_trivial(
    full_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    draw = torch.Generator().manual_seed(1)
    state = {
        key: torch.rand(value.shape, generator=draw) + 0.5 if ".bn" in key or key.startswith("bn1") else value
        for key, value in full_state.items()
    }
    torch.save(state, tmp_path / "w.pt")
    x = pixels(2)
    weights = bb.load_weights("resnet18", tmp_path / "w.pt")
    features = bb.Backbone("resnet18", weights, batch_size=2).features(x)
    assert relative_difference(features, reference("resnet18", state, x)) < 1e-5


def test_bf16_features_are_float32_and_close_to_those_of_fp32(resnet18: bb.Weights) -> None:
    x = pixels(2)
    features = bb.Backbone("resnet18", resnet18, precision="bf16", batch_size=2).features(x)
    assert features.dtype == np.float32
    difference = relative_difference(features, reference("resnet18", None, x, seed=7))
    assert 1e-5 < difference < 3e-2


def test_real_weights_in_half_precision_are_widened() -> None:
    places = [ROOT / "data" / "weights" / REAL, ROOT.parent / "shared" / "weights" / REAL]
    path = next((place for place in places if place.is_file()), None)
    if path is None:
        return  # the file is not part of the repository
    x = pixels(2)
    weights = bb.load_weights("resnet50", path)
    state = {key: value.float() for key, value in load_file(path).items() if not key.startswith("fc.")}
    assert weights.sha256 == independent_sha256(state)
    features = bb.Backbone("resnet50", weights, batch_size=2).features(x)
    assert relative_difference(features, reference("resnet50", state, x)) < 1e-5


def test_no_triplets_have_no_features(resnet18: bb.Weights) -> None:
    assert bb.Backbone("resnet18", resnet18).features(pixels(0)).shape == (0, 512)


def test_threads_do_not_change_a_byte_at_the_default_batch_size(resnet18: bb.Weights) -> None:
    x = pixels(17)
    two = bb.Backbone("resnet18", resnet18, threads=2).features(x)  # two batches at the same time
    one = bb.Backbone("resnet18", resnet18, threads=1).features(x[1:])
    assert one.tobytes() == two[1:].tobytes()
    assert len(np.unique(two[:, :8], axis=0)) == len(x)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_the_rest_of_the_batch_does_not_change_a_byte(resnet18: bb.Weights, precision: str) -> None:
    net = bb.Backbone("resnet18", resnet18, precision=precision, batch_size=2, threads=2)
    x, others = pixels(2), pixels(3, seed=1)
    expected = net.features(x)
    others[[2, 1]] = x
    assert net.features(others)[[2, 1]].tobytes() == expected.tobytes()
    alone = np.concatenate([net.features(x[i : i + 1]) for i in range(2)])
    assert alone.tobytes() == expected.tobytes()


PROGRAM = """
import threading, hashlib, numpy as np
from lungct import backbone as bb
net = bb.Backbone("resnet18", bb.load_weights("resnet18", "random:7"), batch_size=2, threads=2)
x = np.random.default_rng(0).integers(0, 256, (3, 3, 224, 224), dtype=np.uint8)
x.flags.writeable = False
results = []
thread = threading.Thread(target=lambda: results.append(net.features(x)))
thread.start(); thread.join()
print(hashlib.sha256(results[0].tobytes()).hexdigest())
"""


@pytest.mark.slow
@pytest.mark.parametrize("omp", ["1", "4"])
def test_process_environment_and_calling_thread_do_not_change_a_byte(resnet18: bb.Weights, omp: str) -> None:
    here = bb.Backbone("resnet18", resnet18, batch_size=2).features(pixels(3))
    environment = {**os.environ, "OMP_NUM_THREADS": omp}
    there = subprocess.run([sys.executable, "-c", PROGRAM], env=environment, capture_output=True, text=True, check=True)
    assert there.stdout.strip() == hashlib.sha256(here.tobytes()).hexdigest()
    assert there.stderr == ""


def test_the_callers_random_state_and_threads_are_left_as_they_were(resnet18: bb.Weights) -> None:
    before = torch.get_num_threads()
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    bb.load_weights("resnet18", "random:99")
    bb.Backbone("resnet18", resnet18, batch_size=2).features(pixels(1))
    assert torch.equal(torch.rand(4), expected)
    assert torch.get_num_threads() == before


@given(st.integers(0, 5), st.integers(0, 255))
def test_fill_writes_the_batch_and_zeros_after_it(n: int, value: int) -> None:
    whole = np.full((5, 2), 77, np.uint8)
    network.fill(whole, np.full((n, 2), value, np.uint8))
    assert whole.tolist() == [[value] * 2] * n + [[0] * 2] * (5 - n)


def test_exact_convolutions_restores_the_previous_settings() -> None:
    def flags() -> tuple[bool, ...]:
        cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
        return cudnn.benchmark, cudnn.deterministic, cudnn.allow_tf32, matmul.allow_tf32

    before = flags()
    with network.exact_convolutions():
        assert flags() == (False, True, False, False)
    assert flags() == before


def independent_sha256(state: dict[str, torch.Tensor]) -> str:
    """Return the SHA-256 of weights by ``docs/formats.md``, "Identity of the weights", written a second time."""
    parts = []
    for key in sorted(state):
        if not key.startswith("fc.") and not key.endswith("num_batches_tracked"):
            values = state[key].double().numpy().ravel().tolist()
            parts.append(key.encode("utf-8") + struct.pack(f"<{len(values)}f", *values))
    return hashlib.sha256(b"".join(parts)).hexdigest()


def test_random_weights_are_those_of_the_constructor_after_manual_seed(
    resnet18: bb.Weights, full_state: dict[str, torch.Tensor]
) -> None:
    assert all(torch.equal(resnet18.state[key], full_state[key]) for key in resnet18.state)
    assert resnet18.sha256 == independent_sha256(full_state)
    assert resnet18.sha256 != bb.load_weights("resnet18", "random:8").sha256


def test_the_hash_does_not_depend_on_the_files_format(
    resnet18: bb.Weights, full_state: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    save_file(full_state, tmp_path / "with_fc.safetensors")
    save_file(dict(resnet18.state), tmp_path / "without_fc.safetensors")
    torch.save(full_state, tmp_path / "zip.pth")
    torch.save(full_state, tmp_path / "legacy.pth", _use_new_zipfile_serialization=False)
    hashes = {path.name: bb.load_weights("resnet18", path).sha256 for path in tmp_path.iterdir()}
    assert hashes == dict.fromkeys(hashes, resnet18.sha256)
    assert len(hashes) == 4


def test_half_precision_is_widened(resnet18: bb.Weights, tmp_path: Path) -> None:
    half = {key: value.half() for key, value in resnet18.state.items()}
    save_file(half, tmp_path / "half.safetensors")
    weights = bb.load_weights("resnet18", tmp_path / "half.safetensors")
    assert {value.dtype for value in weights.state.values()} == {torch.float32}
    assert weights.sha256 == independent_sha256({key: value.float() for key, value in half.items()})


class Harmful:
    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, ("harm-done",)


def refusal_of(path: Path) -> str:
    """Return the one-line sentence with which a file is refused as weights of resnet18."""
    with pytest.raises(UsageError) as raised:
        bb.load_weights("resnet18", path)
    sentence = str(raised.value)
    assert "\n" not in sentence
    assert str(path) in sentence
    return sentence


def test_damaged_files_are_refused_with_the_reason(full_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(full_state, tmp_path / "good.safetensors")
    good = (tmp_path / "good.safetensors").read_bytes()
    torch.save(full_state, tmp_path / "good.pth")
    header = json.dumps({"x": {"dtype": "F32", "shape": [1 << 40], "data_offsets": [0, 1 << 42]}}).encode()
    cases = [
        (b"", "neither a safetensors file nor a file of torch.save"),
        (b"not weights at all", "neither a safetensors file nor a file of torch.save"),
        (good[:4], "neither a safetensors file nor a file of torch.save"),
        (good[:100], "truncated safetensors file"),
        (good[:-1], "truncated safetensors file"),
        (struct.pack("<Q", len(header)) + header, "truncated safetensors file"),
        (struct.pack("<Q", 1 << 62) + b"{", "truncated safetensors file"),
        ((tmp_path / "good.pth").read_bytes()[:-1000], "neither a safetensors file nor a file of torch.save"),
    ]
    for content, reason in cases:
        (tmp_path / "w").write_bytes(content)
        assert reason in refusal_of(tmp_path / "w")


def test_pickles_that_would_run_code_are_never_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = Path("w")
    file.write_bytes(pickle.dumps(Harmful()))
    assert "the only pickle that is ever opened" in refusal_of(file)
    for harmful in (Harmful(), torch.nn.Linear(1, 1)):
        torch.save(harmful, file)
        assert "the only pickle that is ever opened" in refusal_of(file)
    assert not Path("harm-done").exists()


def test_other_contents_are_refused_with_the_reason(full_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    not_finite = full_state["conv1.weight"].clone()
    not_finite[0, 0, 0, 0] = torch.nan
    without_bias = {name: value for name, value in full_state.items() if name != "bn1.bias"}
    cases: list[tuple[object, str]] = [
        ([torch.zeros(1)], "no state dict"),
        ({1: torch.zeros(1)}, "no state dict"),
        ({"state_dict": full_state}, "state_dict is not a tensor"),
        (full_state | {"conv1.weight": torch.zeros(64, 3, 7, 7, dtype=torch.int8)}, "conv1.weight is not a tensor of"),
        (full_state | {"conv1.weight": torch.zeros(64, 1, 7, 7)}, "resnet18: 1 of another shape (conv1.weight)"),
        (full_state | {"head.weight": torch.zeros(1)}, "resnet18: 1 unexpected (head.weight)"),
        (without_bias, "resnet18: 1 missing (bn1.bias)"),
        (full_state | {"conv1.weight": not_finite}, "conv1.weight has NaN"),
        (full_state | {"bn1.running_var": -torch.ones(64)}, "bn1.running_var has a negative variance"),
    ]
    for content, reason in cases:
        torch.save(content, tmp_path / "w")
        assert reason in refusal_of(tmp_path / "w")


def test_weights_of_another_backbone_are_named(full_state: dict[str, torch.Tensor], tmp_path: Path) -> None:
    save_file(full_state, tmp_path / "w")
    with pytest.raises(UsageError, match=r"not those of resnet34: 80 missing .*use the backbone resnet18"):
        bb.load_weights("resnet34", tmp_path / "w")
    with pytest.raises(UsageError, match=r"not those of resnet50: .*shape.*use the backbone resnet18"):
        bb.load_weights("resnet50", tmp_path / "w")
    with pytest.raises(UsageError, match="weights of resnet18, not of resnet50"):
        bb.Backbone("resnet50", bb.load_weights("resnet18", tmp_path / "w"))


def test_imagenet_weights_without_a_network_are_refused_with_the_place_for_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")  # nobody listens there
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    with pytest.raises(UsageError, match="the ImageNet weights cannot be downloaded from https") as raised:
        bb.load_weights("resnet18", "imagenet")
    assert str(cached) in str(raised.value)
    assert "give the path of a weights file" in str(raised.value)
    assert "\n" not in str(raised.value)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("lungct: downloading https://")
    with pytest.raises(UsageError):
        bb.load_weights("resnet18", "imagenet", quiet=True)
    assert capfd.readouterr() == ("", "")
    assert list(cached.parent.iterdir()) == []


def test_a_file_in_torchs_cache_is_trusted_only_by_its_hash(
    full_state: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    cached = tmp_path / "hub" / "checkpoints" / "resnet18-f37072fd.pth"
    cached.parent.mkdir(parents=True)
    torch.save(full_state, cached)
    with pytest.raises(UsageError, match=r"f37072fd\.pth: the content does not match the file's name") as raised:
        bb.load_weights("resnet18", "imagenet")
    assert "remove the file" in str(raised.value)


def test_options_are_checked_without_torch() -> None:
    program = (
        "import sys; from lungct import backbone as b; b.check_backbone('resnet152'); b.parse_weights('random:1');"
        "b.resolve_device('cpu'); b.resolve_precision('auto', 'cpu'); b.default_batch_size('cuda');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_parse_weights(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"")
    assert bb.parse_weights("imagenet") == bb.WeightsSource("imagenet")
    assert bb.parse_weights("random:12").seed == 12
    assert bb.parse_weights(tmp_path / "w.safetensors").path == tmp_path / "w.safetensors"


@given(st.text(max_size=12))
def test_parse_weights_accepts_a_seed_or_shows_how_to_write_it(text: str) -> None:
    typed = f"random:{text}"
    if text.isascii() and text.isdigit():
        assert bb.parse_weights(typed).seed == int(text)
    else:
        with pytest.raises(UsageError, match="random:0"):
            bb.parse_weights(typed)


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (
            lambda: bb.check_backbone("vgg16"),
            "backbone must be one of resnet18, resnet34, resnet50, resnet101, resnet152",
        ),
        (lambda: bb.load_weights("vgg16", "random:0"), "backbone must be one of .*, not 'vgg16'"),
        (lambda: bb.parse_weights("/nowhere/w.pth"), "the weights file /nowhere/w.pth does not exist: give imagenet"),
        (lambda: bb.parse_weights(""), "weights is empty"),
        (lambda: bb.parse_weights("s3://bucket/w.pth"), "weights s3://bucket/w.pth is not on this machine"),
        (lambda: bb.parse_weights("random"), "weights='random' has no seed"),
        (lambda: bb.parse_weights(f"random:{2**64}"), "has no seed from 0 to 2"),
        (lambda: bb.resolve_device("tpu"), "device must be one of auto, cpu, cuda, not 'tpu'"),
        (lambda: bb.resolve_precision("fp16", "cpu"), "precision must be one of auto, fp32, bf16, not 'fp16'"),
    ],
)
def test_bad_options_are_refused(call: Callable[[], object], sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        call()


def test_the_type_of_backbone_names_lists_every_backbone() -> None:
    assert get_args(bb.BackboneName) == tuple(bb.BACKBONES)


def test_auto_is_the_cpu_where_there_is_no_gpu_and_cuda_is_refused() -> None:
    if torch.cuda.is_available():
        assert bb.resolve_device("auto") == "cuda"
        return
    assert bb.resolve_device("auto") == "cpu"
    assert bb.resolve_precision("auto", "cpu") == "fp32"
    assert bb.resolve_precision("bf16", "cpu") == "bf16"
    with pytest.raises(UsageError, match=r"device cuda: torch .* finds no GPU here") as raised:
        bb.resolve_device("cuda")
    assert raised.value.fix == "check the driver with nvidia-smi, or use device cpu"


def test_triplets_and_numbers_out_of_range_are_refused(resnet18: bb.Weights) -> None:
    net = bb.Backbone("resnet18", resnet18)
    wrongs: list[Any] = [pixels(1).astype(np.float32), pixels(1)[0], pixels(1)[:, :, :100]]
    for wrong in wrongs:
        with pytest.raises(UsageError, match=r"uint8 \(N, 3, 224, 224\)"):
            net.features(wrong)
    with pytest.raises(UsageError, match="batch_size must be a whole number of at least 1, not 0"):
        bb.Backbone("resnet18", resnet18, batch_size=0)
    with pytest.raises(UsageError, match="threads must be a whole number of at least 1, not 0"):
        bb.Backbone("resnet18", resnet18, threads=0)


def test_weights_that_overflow_are_refused(resnet18: bb.Weights) -> None:
    state = {key: value * 1e30 if key.endswith("weight") else value for key, value in resnet18.state.items()}
    net = bb.Backbone("resnet18", bb.Weights("resnet18", "random:7", "", state), batch_size=1)
    with pytest.raises(UsageError, match="not finite"):
        net.features(pixels(1))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_features_of_a_gpu_are_close_to_those_of_the_cpu(resnet18: bb.Weights, precision: str) -> None:
    x = pixels(150)
    net = bb.Backbone("resnet18", resnet18, device="cuda", precision=precision)
    features = net.features(x)
    expected = bb.Backbone("resnet18", resnet18, precision="fp32").features(x)
    assert relative_difference(features, expected) < (1e-4 if precision == "fp32" else 3e-2)
    assert net.features(x[77:78]).tobytes() == features[77:78].tobytes()
