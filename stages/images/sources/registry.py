"""Every dataset by name. A new one is a function from `Wanted` to `Dataset`, and a line here."""

from functools import partial

from stages.images.sources import folder, imagenet, torchvision_sets
from stages.images.sources.dataset import Source
from stages.images.sources.digits import digits
from stages.images.sources.fashion_mnist import fashion_mnist

SOURCES: dict[str, Source] = {
    "fashion-mnist": fashion_mnist,
    "mnist": torchvision_sets.mnist,
    "kmnist": torchvision_sets.kmnist,
    "svhn": torchvision_sets.svhn,
    "cifar10": torchvision_sets.cifar10,
    "cifar20": torchvision_sets.cifar20,
    "stl10": torchvision_sets.stl10,
    "imagenet-50": partial(imagenet.imagenet, classes=50),
    "imagenet-100": partial(imagenet.imagenet, classes=100),
    "imagenet-200": partial(imagenet.imagenet, classes=200),
    "imagenet-1000": partial(imagenet.imagenet, classes=1000),
    "digits": digits,
    "folder": folder.folder,
}
