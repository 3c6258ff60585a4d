"""Weights that were trained elsewhere, read strictly: what does not fit is named, never skipped in silence."""

from pathlib import Path

import torch
from torch import Tensor

from stages.networks.backbones import TIMM, Backbone
from stages.networks.encoder import Encoder, Input
from stages.plumbing.errors import UserError

DOWNLOAD = "download"
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]  # what torchvision's networks, and MoCo's, were normalised by

MOCO = "module.encoder_q."  # the query encoder in MoCo's published checkpoints
PREFIXES = (MOCO, "module.backbone.", "module.", "backbone.", "model.")
HEADS = ("fc", "classifier", "head")  # classifiers and projections on top, which are not wanted


def normalisation(name: str, backbone: Backbone) -> tuple[list[float], list[float]]:
    """Mean and standard deviation per channel, in [0, 1], that weights of this backbone expect."""
    if name.startswith(TIMM):
        known = backbone.body.pretrained_cfg
        return list(known["mean"]), list(known["std"])
    return IMAGENET


def pretrained(name: str, projection_dim: int, size: int, channels: int, source: str) -> Encoder:
    """A backbone with weights from `source` (see `load_weights`), for square images of `size` pixels and `channels`.

    It has no projection, takes images normalised as those were that it was trained on, and grey ones, too.
    """
    anything = Input(size, channels, [0.5] * channels, [0.25] * channels)
    encoder = Encoder(name, projection_dim, anything, "none", channels=3)
    load_weights(name, encoder.backbone, source)
    mean, std = normalisation(name, encoder.backbone)
    if channels == 1:
        mean, std = [sum(mean) / 3], [sum(std) / 3]
    encoder.input = Input(size, channels, mean, std)
    encoder.config["input"] = encoder.input._asdict()
    return encoder


def load_weights(name: str, backbone: Backbone, source: str) -> None:
    """Fill the backbone from a file (.pt, .pth, .pth.tar, .safetensors), or with `download` from its library's hub.

    Takes plain state dictionaries, those inside of a checkpoint under `state_dict` or `model`, and MoCo's published
    form. Raises UserError that says what is missing, unknown or of another shape; then nothing was changed.
    """
    state = _downloaded(name, backbone) if source == DOWNLOAD else _strip(_read(Path(source).expanduser()))
    own = backbone.body.state_dict()
    heads = tuple(f"{head}." for head in (*HEADS, *_classifiers(backbone)))
    state = {key: value for key, value in state.items() if key in own or not key.startswith(heads)}
    # Old checkpoints lack the counters of batches, which nothing here reads.
    counters = {key: value for key, value in own.items() if key.endswith("num_batches_tracked") and key not in state}
    problems = _differences(own, state | counters)
    if problems:
        raise UserError(
            f"pretext.weights = {source} does not fit pretext.backbone = {name}: {'; '.join(problems)}; name the "
            "backbone that these weights were trained with"
        )
    backbone.body.load_state_dict(state | counters)


def _classifiers(backbone: Backbone) -> list[str]:
    """What timm's network calls its classifiers: `last_linear`, say, or several names, as of a distilled one."""
    named = getattr(backbone.body, "pretrained_cfg", {}).get("classifier") or []
    return [named] if isinstance(named, str) else list(named)


def _differences(own: dict[str, Tensor], state: dict[str, Tensor]) -> list[str]:
    """What keeps a state from fitting the network, a line of text each."""

    def some(keys: list[str]) -> str:
        return ", ".join(keys[:3]) + (", …" if len(keys) > 3 else "")

    missing = [key for key in own if key not in state]
    unknown = [key for key in state if key not in own]
    shapes = [
        f"{key} is {'×'.join(map(str, state[key].shape))}, the network's {'×'.join(map(str, own[key].shape))}"
        for key in own
        if key in state and own[key].shape != state[key].shape
    ]
    problems = [f"{len(missing)} of {len(own)} tensors are missing ({some(missing)})"] if missing else []
    problems += [f"{len(unknown)} are not the network's ({some(unknown)})"] if unknown else []
    return problems + ([f"{len(shapes)} have another shape ({some(shapes)})"] if shapes else [])


def _read(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"pretext.weights = {path}: no such file; name one, or say {DOWNLOAD}") from None
    except IsADirectoryError:
        raise UserError(f"pretext.weights = {path} is a folder; pretext.method: frozen wants a file") from None
    except Exception as error:  # whatever the two formats' readers meet in a file that is not theirs
        reason = " ".join(str(error).split())[:100] or type(error).__name__
        raise UserError(f"pretext.weights = {path}: no file of weights that can be read safely ({reason})") from None
    for key in ("state_dict", "model"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict) or not any(isinstance(value, Tensor) for value in content.values()):
        raise UserError(f"pretext.weights = {path} holds no dictionary of tensors, but {type(content).__name__}")
    return {key: value for key, value in content.items() if isinstance(value, Tensor)}


def _strip(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without the prefix that a wrapper gave to every key; of MoCo's two encoders the one for queries."""
    if any(key.startswith(MOCO) for key in state):
        state = {key: value for key, value in state.items() if key.startswith(MOCO)}
    for prefix in PREFIXES:
        if state and all(key.startswith(prefix) for key in state):
            return {key.removeprefix(prefix): value for key, value in state.items()}
    return state


def _downloaded(name: str, backbone: Backbone) -> dict[str, Tensor]:
    """The state of the network's published weights."""
    try:
        if name.startswith(TIMM):
            import timm

            network = timm.create_model(
                name.removeprefix(TIMM), pretrained=True, num_classes=0, in_chans=backbone.channels
            )
            return network.state_dict()
        from torchvision import models

        if name not in ("resnet18", "resnet34", "resnet50"):
            raise UserError(
                f"pretext.weights = {DOWNLOAD}: nobody published weights for pretext.backbone = {name}; name resnet18, "
                f"resnet34, resnet50 or {TIMM}<name>, or a file"
            )
        return models.get_model_weights(name).DEFAULT.get_state_dict(check_hash=True)
    except UserError:
        raise
    except Exception as error:  # of the network, the hub, or a name without published weights
        reason = " ".join(str(error).split())
        raise UserError(
            f"pretext.weights = {DOWNLOAD}: no weights for {name} could be fetched ({reason[:200]}); fetch the file "
            "elsewhere and name it"
        ) from None
