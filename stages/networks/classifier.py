"""The classifier: an encoder and linear cluster heads on its unit features."""

import torch
from torch import Tensor, nn

from stages.networks.encoder import Encoder, Layer


class ClusterHeads(nn.Module):
    """Several independent linear heads side by side: features (B, D) → logits (heads, B, clusters)."""

    def __init__(self, heads: int, dim: int, clusters: int):
        super().__init__()
        bound = dim**-0.5  # as nn.Linear starts
        self.weight = nn.Parameter(torch.empty(heads, clusters, dim).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(heads, 1, clusters).uniform_(-bound, bound))

    def forward(self, features: Tensor) -> Tensor:
        """Logits of every head, (heads, B, clusters)."""
        heads, clusters, dim = self.weight.shape
        # One matrix product for all heads.
        logits = features @ self.weight.reshape(heads * clusters, dim).T
        return logits.view(-1, heads, clusters).transpose(0, 1) + self.bias

    def __len__(self) -> int:
        return len(self.weight)

    def only(self, head: int) -> "ClusterHeads":
        """A copy that holds a single head."""
        return self.consensus({head: list(range(self.weight.shape[1]))})

    def consensus(self, members: dict[int, list[int]]) -> "ClusterHeads":
        """A single head whose logits are the mean of those of the members, each with its clusters in the given order.

        The mean of linear heads is a linear head: that of their weights.
        """
        _, clusters, dim = self.weight.shape
        single = ClusterHeads(1, dim, clusters).to(self.weight.device)
        weight = torch.stack([self.weight[head, order] for head, order in members.items()])
        bias = torch.stack([self.bias[head][:, order] for head, order in members.items()])
        single.load_state_dict({"weight": weight.mean(0, keepdim=True), "bias": bias.mean(0, keepdim=True)})
        return single


class Classifier(nn.Module):
    """Cluster heads on the unit features of an encoder. `config` is all it takes to build it again.

    Features are of unit length here as they are on disk, so that heads trained on cached embeddings and heads trained
    with the network are the same thing. They are scaled by √D: a typical entry is 1, as a linear layer expects.
    """

    def __init__(self, encoder: Encoder, layer: Layer, heads: int, clusters: int):
        super().__init__()
        self.encoder = encoder
        self.layer = layer
        self.heads = ClusterHeads(heads, encoder.dim(layer), clusters)

    @property
    def config(self) -> dict:
        """Plain numbers and texts from which `from_config` builds the same network."""
        clusters = self.heads.weight.shape[1]
        return {"encoder": self.encoder.config, "layer": self.layer, "heads": len(self.heads), "clusters": clusters}

    @classmethod
    def from_config(cls, config: dict) -> "Classifier":
        """A classifier with fresh weights."""
        return cls(Encoder.from_config(config["encoder"]), config["layer"], config["heads"], config["clusters"])

    def forward(self, images: Tensor) -> Tensor:
        """Normalised images (B, C, H, W) → logits float32 (heads, B, clusters)."""
        return self.classify(self.encoder.embed(images, self.layer))

    def classify(self, features: Tensor) -> Tensor:
        """Unit features (B, D) → logits float32 (heads, B, clusters)."""
        return self.heads(features * features.shape[1] ** 0.5).float()
