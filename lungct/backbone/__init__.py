"""Triplets -> features: an ImageNet ResNet up to its last layer, on the CPU or one GPU.

Terms. A *backbone* is one of torchvision's five ResNets, by its name. Its *weights* are what fills it: torchvision's
ImageNet ones, random ones of a seed, or a file's; the *SHA-256* of their tensors says which they are, whatever they
came in. The *features* of a triplet are the D numbers that the network hands to its classifier ``fc`` (512 for
ResNet-18 and -34, 2048 for the others), float32; ``fc`` itself is never loaded.

What must hold: a triplet's features are the same bytes whoever its batch-mates were, and however many workers, cores
or threads computed them on that kind of device. A convolution's arithmetic depends on the shape of its batch and on
the number of threads in it, so neither ever varies: every batch has the same size (the last one is filled up with
zeros), and on the CPU every batch runs on exactly one thread. Speed comes from running several batches at once, each
on a thread of its own, which gives the throughput of a network on all cores and the bytes of one on a single core.

The only folder that imports torch, and it does so inside functions: names and options are checked without it.

    options     names, options, what "auto" settles to
    weights     weights: where they come from, which they are
    network     `Backbone`: triplets -> features
"""

from lungct.backbone.network import Backbone
from lungct.backbone.options import (
    BACKBONES,
    DEVICES,
    PRECISIONS,
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
