"""Backbones, encoder, classifier, and the one form in which they are saved."""

import pytest
import torch

from stages.images.loading import Rows
from stages.networks import backbones
from stages.networks.backbones import BACKBONES, build_backbone
from stages.networks.classifier import Classifier, ClusterHeads
from stages.networks.encoder import Encoder, Input
from stages.networks.model import load_model, save_model
from stages.plumbing.errors import UserError
from stages.training.consensus import align


def encoder(channels=1, backbone="small"):
    torch.manual_seed(0)
    return Encoder(backbone, 16, Input(8, channels, [0.5] * channels, [0.25] * channels))


@pytest.mark.parametrize("name", BACKBONES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [8, 28, 33])
def test_backbones_take_any_side_and_channels(name, channels, side):
    backbone = build_backbone(name, channels, side)
    features = backbone(torch.randn(2, channels, side, side))
    assert features.shape == (2, backbone.dim)
    features.sum().backward()
    assert all(parameter.grad is not None for parameter in backbone.parameters())


def test_convolutions_start_from_kaiming_normal_fan_out():
    backbone = build_backbone("resnet18-cifar", 3, 32)
    weight = backbone.body.layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", ["tiny", "small", "resnet18-cifar", "resnet18-stl", "resnet18"])
def test_the_smallest_images_are_taken_or_refused_in_one_line(name):
    for side in (1, 2, 3, 7):
        if (name, side) == ("resnet18-stl", 1):  # its pooling halves the images
            with pytest.raises(UserError, match=r"resnet18-stl: it cannot .* 1 × 1 × 3 .*a larger data\.image_size"):
                build_backbone(name, 3, side)
        else:
            backbone = build_backbone(name, 3, side)
            assert backbone(torch.randn(2, 3, side, side)).shape == (2, backbone.dim)  # as it trains


# In the comments what timm's num_features says, where it is not what comes out.
FAMILIES = {
    "mobilenetv3_small_050": 1024,  # 288
    "lcnet_050": 1280,  # 256
    "repghostnet_050": 1280,  # 480
    "mobilenetv4_conv_small": 1280,  # 960
    "test_convnext": 64,
    "test_resnet": 96,
    "test_vit": 64,
    "regnetx_002": 368,
    "lambda_resnet26t": 2048,  # has convolutions over three dimensions
}


@pytest.mark.parametrize("name", FAMILIES)
def test_a_network_of_timm_is_measured_and_nothing_of_it_changes(name):
    torch.manual_seed(0)
    backbone = build_backbone(f"timm:{name}", 1, 64)
    drawn = torch.rand(1)
    assert backbone.dim == FAMILIES[name]
    assert all(module.training for module in backbone.modules())
    torch.manual_seed(0)
    untouched = build_backbone(f"timm:{name}", 1, 64, dim=FAMILIES[name])
    assert drawn == torch.rand(1)
    state = untouched.state_dict()
    assert all(torch.equal(value, state[key]) for key, value in backbone.state_dict().items())
    assert backbone.eval()(torch.randn(3, 1, 64, 64)).shape == (3, FAMILIES[name])


@pytest.mark.parametrize(
    ("name", "channels", "size", "message"),
    [
        ("timm:test_maxvit", 3, 64, "cannot take images of 64 × 64 × 3 .*set data.image_size to 160, .* or"),
        ("timm:inception_v3", 3, 32, "cannot take images of 32 × 32 × 3 .*set data.image_size to 299, .* or"),
        ("timm:resnet18.none", 1, 64, "timm cannot build it with in_chans=1 and without its classifier .*;"),
        ("maps", 3, 64, r"of 2 images of 64 × 64 × 3 it makes \(2, 8, 64, 64\), expected vectors \(2, D\);"),
    ],
)
def test_a_network_that_does_not_fit_is_told_in_one_line(name, channels, size, message, monkeypatch):
    monkeypatch.setitem(BACKBONES, "maps", lambda channels: torch.nn.Conv2d(channels, 8, 1))
    with pytest.raises(UserError, match=f"^pretext.backbone = {name}: .*{message}.* name another network$") as error:
        build_backbone(name, channels, size)
    assert "\n" not in str(error.value)


def test_at_the_size_that_a_network_was_made_for_another_size_is_no_way_out(monkeypatch):
    for_colours = torch.nn.Conv2d(3, 8, 1)
    for_colours.pretrained_cfg = {"input_size": (3, 64, 64)}
    monkeypatch.setitem(BACKBONES, "colours", lambda channels: for_colours)
    with pytest.raises(UserError, match=r"cannot take images of 64 × 64 × 1 \(.*\); name another network$"):
        build_backbone("colours", 1, 64)


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_a_saved_model_is_not_measured_again(tmp_path, monkeypatch, kind):
    model = encoder() if kind == "encoder" else Classifier(encoder(), "backbone", 2, 5)
    save_model(tmp_path / "model.pt", model)
    monkeypatch.setattr(backbones, "measure", None)
    back = load_model(tmp_path / "model.pt", type(model))
    assert (back if kind == "encoder" else back.encoder).dim("backbone") == 128


def test_a_model_that_was_saved_without_the_length_is_measured(tmp_path):
    save_model(tmp_path / "model.pt", encoder())
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    del content["config"]["features"]
    torch.save(content, tmp_path / "model.pt")
    assert load_model(tmp_path / "model.pt", Encoder).dim("backbone") == 128


def test_embeddings_are_unit_vectors_of_the_asked_layer():
    network, images = encoder().eval(), torch.randn(5, 1, 8, 8)
    for layer, dim in (("backbone", 128), ("projection", 16)):
        vectors = network.embed(images, layer)
        assert vectors.shape == (5, dim) == (5, network.dim(layer))
        assert vectors.dtype == torch.float32
        torch.testing.assert_close(vectors.norm(dim=1), torch.ones(5))


def test_heads_are_independent_linear_layers():
    torch.manual_seed(0)
    heads, features = ClusterHeads(3, 6, 4), torch.randn(5, 6)
    logits = heads(features)
    assert logits.shape == (3, 5, 4)
    for number in range(3):
        expected = features @ heads.weight[number].T + heads.bias[number]
        torch.testing.assert_close(logits[number], expected)
        torch.testing.assert_close(heads.only(number)(features), expected[None])
    logits[1].sum().backward()
    assert heads.weight.grad[0].abs().sum() == heads.weight.grad[2].abs().sum() == 0


def test_classifier_on_images_is_heads_on_their_embeddings():
    model, images = Classifier(encoder(), "backbone", 2, 3).eval(), torch.randn(4, 1, 8, 8)
    torch.testing.assert_close(model(images), model.classify(model.encoder.embed(images, "backbone")))


@pytest.mark.parametrize("kind", ["encoder", "classifier"])
def test_a_saved_model_comes_back_the_same_and_equal_weights_give_equal_bytes(tmp_path, kind):
    model = (encoder(3) if kind == "encoder" else Classifier(encoder(3), "projection", 2, 5)).eval()
    save_model(tmp_path / "a.pt", model)
    back = load_model(tmp_path / "a.pt", type(model))
    images = torch.randn(4, 3, 8, 8)
    torch.testing.assert_close(back(images), model(images), rtol=0, atol=0)
    assert not back.training
    save_model(tmp_path / "another-name.pt", back)
    assert (tmp_path / "a.pt").read_bytes() == (tmp_path / "another-name.pt").read_bytes()


def test_files_that_are_not_the_model_are_told_in_one_line(tmp_path):
    path = tmp_path / "model.pt"
    save_model(path, encoder())
    whole = path.read_bytes()
    with pytest.raises(UserError, match="expected Classifier"):
        load_model(path, Classifier)
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match=r"model\.pt: not the model it should be") as error:
        load_model(path, Encoder)
    assert "\n" not in str(error.value)


def test_loading_never_runs_code_from_the_file(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"format": 1, "kind": "Encoder", "config": Trap()}, tmp_path / "model.pt")
    with pytest.raises(UserError):
        load_model(tmp_path / "model.pt", Encoder)
    assert not (tmp_path / "sprung").exists()


def test_the_consensus_of_heads_has_the_mean_of_their_logits_in_the_order_given():
    torch.manual_seed(0)
    heads, features = ClusterHeads(3, 8, 4), torch.randn(5, 8)
    logits = heads(features)
    merged = heads.consensus({2: [0, 1, 2, 3], 0: [3, 1, 0, 2]})(features)
    torch.testing.assert_close(merged[0], (logits[2] + logits[0][:, [3, 1, 0, 2]]) / 2)
    torch.testing.assert_close(heads.only(1)(features)[0], logits[1])


def test_heads_that_say_the_same_in_another_order_are_aligned():
    torch.manual_seed(0)
    model = Classifier(encoder(), "backbone", 3, 4)
    orders = ([0, 1, 2, 3], [2, 0, 3, 1], [3, 2, 1, 0])
    said = 5 * torch.randn(4, 128)
    with torch.no_grad():
        model.heads.bias.zero_()
        for head, order in enumerate(orders):
            model.heads.weight[head] = said[order]
    heads = model.heads
    rows = Rows(torch.nn.functional.normalize(torch.randn(200, 128), dim=1).numpy())
    with torch.no_grad():
        found = align(model, heads, rows, [0, 1, 2])
    assert list(found) == [0, 1, 2]
    torch.testing.assert_close(heads.consensus(found).weight[0], said)
