"""Triplets -> features: an ImageNet ResNet up to its last layer, on the CPU or one GPU.

    options.py   names and options, and what "auto" means on a machine
    weights.py   weights: where they come from, and their identity
    network.py   `Backbone`: triplets -> features

Terms. A *backbone* is one of torchvision's five ResNets, by its name. Its *weights* are torchvision's ImageNet ones,
random ones drawn from a seed, or those of a file; the *SHA-256* of their tensors identifies them, independently of the
file that they came in. The *features* of a triplet are the D numbers that the network passes to its classifier ``fc``
(512 for ResNet-18 and -34, 2048 for the others), float32; ``fc`` itself is never loaded. ``docs/formats.md``,
"Backbone", has the arithmetic.

On one kind of device, a triplet's features must be the same bytes, no matter what else is in its batch and how many
workers, cores or threads computed them. The arithmetic of a convolution depends on the shape of its batch and on the
number of threads that share it, so neither ever varies: every batch has the same size (the last one is padded with
zeros), and on the CPU every batch runs on exactly one thread. Speed comes from running several batches at once, each on
its own thread: the throughput of all cores, with the same bytes as on a single core.

This is the only package that imports torch, and it does so inside functions: names and options are checked without it.
"""

from lungct.backbone.network import Backbone
from lungct.backbone.options import (
    BACKBONES,
    DEVICES,
    PRECISIONS,
    BackboneName,
    Device,
    Precision,
    WeightsSource,
    check_backbone,
    default_batch_size,
    device_name,
    parse_weights,
    resolve_device,
    resolve_precision,
)
from lungct.backbone.weights import Weights, load_weights, weights_sha256

__all__ = [
    "BACKBONES",
    "DEVICES",
    "PRECISIONS",
    "Backbone",
    "BackboneName",
    "Device",
    "Precision",
    "Weights",
    "WeightsSource",
    "check_backbone",
    "default_batch_size",
    "device_name",
    "load_weights",
    "parse_weights",
    "resolve_device",
    "resolve_precision",
    "weights_sha256",
]
