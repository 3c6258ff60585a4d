"""The exported model: the same answers without this project, a card, and what is said of bad input."""

import hashlib
import json
import pickle
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from project import ROOT, params_text

from commands.export import __main__ as module
from commands.export import card, portable
from commands.export.portable import Portable, compare, load_onnx, load_pt2, write_portable
from stages.images.store import read_images, write_images
from stages.networks.classifier import Classifier
from stages.networks.encoder import Encoder, Input
from stages.networks.model import save_model
from stages.plumbing import command
from stages.plumbing.errors import UserError

CLUSTERS = 5


def classifier(backbone: str, size: int, channels: int, own: int | None = None) -> Classifier:
    """Fresh weights, but for heads that tell images apart and statistics of BatchNorm that are not 0 and 1."""
    torch.manual_seed(0)
    input = Input(size, channels, [0.3, 0.4, 0.5][:channels], [0.2, 0.3, 0.25][:channels])
    model = Classifier(Encoder(backbone, 8, input, "none", own), "backbone", 1, CLUSTERS).eval()
    with torch.no_grad():
        model.heads.weight.mul_(20)
        for name, buffer in model.named_buffers():
            if "running" in name:
                buffer.add_(0.3 * torch.rand_like(buffer))
    return model


def noise(count: int, size: int, channels: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (count, size, size, channels), dtype=np.uint8)


def make_project(folder: Path, channels: int = 1) -> Path:
    """A project after `dvc repro`, as far as export looks at it, with a model of fresh weights."""
    for name in ("data/images", "data/selflabel", "reports"):
        (folder / name).mkdir(parents=True)
    images = {"train": noise(30, 16, channels), "test": noise(20, 16, channels)}
    write_images(folder / "data/images", "noise", images, "noise_of a test")
    save_model(folder / "data/selflabel/model.pt", classifier("tiny", 16, channels))
    scores = {"acc": 0.5, "nmi": 0.25, "ari": 0.125, "clusters_alive": 5, "confidence": 0.75, "confident": 0.1}
    metrics = {"labelled": True, "selflabel": {"test": scores, "train": scores | {"acc": 0.625}}}
    (folder / "reports/metrics.json").write_text(json.dumps(metrics))
    (folder / "names.yaml").write_text("clusters: {0: 'coat | hat', 2: [merge, 4], 3: junk}")
    set_params(folder, {"clusters": CLUSTERS}, data={"path": "/home/somebody/pictures"}, pretext={"backbone": "tiny"})
    return folder


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """Such a project, as the working folder."""
    monkeypatch.chdir(tmp_path)
    return make_project(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory) -> Path:
    """What export writes for it: to be looked at only."""
    folder = make_project(tmp_path_factory.mktemp("project"))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        export()
    return folder / "exported"


def set_params(folder: Path, keys: dict, **blocks: dict) -> None:
    params = yaml.safe_load(params_text()) | keys
    for name, values in blocks.items():
        params[name] |= values
    (folder / "params.yaml").write_text(yaml.safe_dump(params))


def export(*flags: str) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["export", "--out", "exported", *flags])
        command.run(module.export)


def fails(*flags: str) -> str:
    """The one line with which the command fails, leaving nothing behind."""
    before = sorted(Path().rglob("*"))
    with pytest.raises(SystemExit) as stop:
        export(*flags)
    assert sorted(Path().rglob("*")) == before
    assert "\n" not in stop.value.code
    return stop.value.code


@pytest.mark.parametrize(
    ("backbone", "size", "channels", "own"),
    [("small", 28, 3, None), ("resnet18-cifar", 32, 3, None), ("tiny", 28, 1, 3)],
    ids=["small", "resnet18-cifar", "a network for colours that gets grey images"],
)
def test_every_network_gives_the_same_in_both_forms(tmp_path, backbone, size, channels, own):
    network = Portable(classifier(backbone, size, channels, own)).eval()
    write_portable(network, tmp_path / "model.onnx", tmp_path / "model.pt2")
    for load, name in ((load_onnx, "model.onnx"), (load_pt2, "model.pt2")):
        run = load(tmp_path / name)
        for count in (1, 2, 7):
            images = noise(count, size, channels)
            found, expected = run(images), network.run(images)
            assert found.dtype == np.float32
            assert found.shape == (count, CLUSTERS)
            np.testing.assert_allclose(found, expected, atol=1e-5)
            np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-5)


def test_an_export_is_complete_quiet_and_the_same_again(exported, project, capfd):
    files = {path.name: path.read_bytes() for path in exported.iterdir()}
    assert set(files) == module.FILES
    Path("exported/__pycache__").mkdir(parents=True)  # of an earlier export that somebody has used
    export()
    out, err = capfd.readouterr()
    assert err == ""
    assert [line.split(":")[0] for line in out.splitlines()] == ["export", "export"], "two lines of ours and no chatter"
    assert {path.name: path.read_bytes() for path in Path("exported").iterdir()} == files
    for name, content in files.items():
        for place in (ROOT, exported.parent, "/home/somebody"):
            assert str(place).encode() not in content, f"{name} tells of this machine"

    config = json.loads(files["config.json"])
    assert config["names"] == ["coat | hat", "cluster 1", "cluster 2", "junk", "cluster 2"]
    assert (config["input"]["size"], config["input"]["channels"], config["clusters"]) == (16, 1, CLUSTERS)
    assert (config["input"]["mean"], config["input"]["std"]) == ([0.3], [0.2])
    assert config["sha256"] == {name: hashlib.sha256(files[name]).hexdigest() for name in module.HASHED}
    card = files["MODEL_CARD.md"].decode()
    for text in (
        "| test | 50.0 | 25.0 | 12.5 | 5 | 75.0 | 10.0 |",
        "| train | 62.5 |",
        "| 0 | coat \\| hat |",
        "noise\\_of a test. As stored: 30 train, 20 test images of 16 × 16 pixels, 1 channel.",
        "On 20 test images",
    ):
        assert text in card
    assert yaml.safe_load(re.search(r"```yaml\n(.*)```", card, re.DOTALL)[1])["scan"]["lr"] == 3e-4


def test_a_form_that_answers_otherwise_leaves_the_earlier_export(exported, project, monkeypatch):
    def other_weights(_, onnx, pt2):
        shutil.copy(exported / "model.onnx", onnx)
        shutil.copy(exported / "model.pt2", pt2)

    Path("exported").mkdir()
    Path("exported/config.json").write_text("an earlier one")
    save_model(Path("data/selflabel/model.pt"), classifier("tiny", 16, 1, 3))
    monkeypatch.setattr(module, "write_portable", other_weights)
    line = fails()
    assert line.startswith("export: model.onnx would not do what data/selflabel/model.pt does: probabilities differ")
    assert Path("exported/config.json").read_text() == "an earlier one"
    monkeypatch.setattr(module, "LOADERS", {"model.pt2": load_pt2, "model.onnx": load_onnx})
    monkeypatch.setattr(module, "write_portable", lambda model, pt2, onnx: other_weights(model, onnx, pt2))
    assert fails().startswith("export: model.pt2 would not do")


def test_loading_runs_no_code_of_the_file(exported, monkeypatch):

    def refuse(*_, **__):
        raise AssertionError("something pickled was loaded")

    plain = torch.load
    monkeypatch.setattr(torch, "load", lambda *a, **k: plain(*a, **k) if k.get("weights_only") is True else refuse())
    monkeypatch.setattr(pickle, "loads", refuse)
    monkeypatch.setattr(torch._C, "_pickle_load_obj", refuse)
    assert load_pt2(exported / "model.pt2")(noise(3, 16, 1)).shape == (3, CLUSTERS)


def test_differences_are_found_and_ties_are_none():
    def fixed(*rows):
        return lambda images: np.array(rows[: len(images)], dtype=np.float32)

    images, usual = noise(2, 4, 1), fixed([0.7, 0.3], [0.5, 0.5])
    assert compare(usual, usual, images, 1e-4) is None
    assert compare(usual, fixed([0.7, 0.3], [0.49999, 0.50001]), images, 1e-4) is None
    assert "differ by up to 0.1" in compare(usual, fixed([0.7, 0.3], [0.6, 0.4]), images, 1e-4)
    assert "differ by up to nan" in compare(usual, fixed([0.7, 0.3], [np.nan, 0.4]), images, 1e-4)
    assert "1 of 2 images get another cluster" in compare(usual, fixed([0.3, 0.7], [0.5, 0.5]), images, 0.5)
    stuck = fixed([0.7, 0.3], [0.5, 0.5])
    assert "1 images give (2, 2), expected (1, 2)" in compare(usual, lambda _: stuck(images), images, 1e-4)


def test_a_model_without_labels_and_one_that_was_not_scored(project):
    about = {"labelled": False, "selflabel": {"test": {"confidence": 0.5, "clusters_alive": 5}}}
    Path("reports/metrics.json").write_text(json.dumps(about))
    assert module.read_scores(Path("reports/metrics.json"), Path("data/selflabel"))[1] is False
    assert module.read_scores(Path("reports/metrics.json"), Path("my-model")) == (None, False)
    params = command.read(module.Params, Path("params.yaml"))
    shared = module.shareable(params, Path("data/scan"))
    assert "selflabel" not in shared
    config = module.describe(classifier("tiny", 16, 1), [f"cluster {i}" for i in range(CLUSTERS)])
    meta = json.loads(Path("data/images/meta.json").read_text())
    told = module.About(meta, {"test": 2}, shared, about["selflabel"], False, 2)
    text = module.card(config, told)
    assert "ACC" not in text
    assert "| test | 5 | 50.0 |" in text
    assert "There are no labels" in text
    assert "confident answers" not in text
    assert "None were made of this model." in module.card(config, told._replace(scores=None))
    shared["pretext"] |= {"method": "frozen", "weights": "resnet.pth"}
    assert "a network trained elsewhere (weights: resnet.pth)" in module.card(config, told)


def test_text_from_outside_is_no_markup_in_the_card(project):
    odd = "a | <b> `c`\n# ![d](e) *f* _g_ ~h~ &lt;"
    escaped = r"a \| \<b\> \`c\` \# \!\[d\](e) \*f\* \_g\_ \~h\~ \&lt;"
    forgetful = card.TEMPLATE.environment.from_string("{{ odd }}{% for one in [odd] %}{{ one }}{% endfor %}")
    assert forgetful.render(odd=odd) == 2 * escaped, "no filter is needed"

    params = module.shareable(command.read(module.Params, Path("params.yaml")), Path("data/selflabel"))
    params["pretext"] |= {"method": "frozen", "weights": odd}
    meta = json.loads(Path("data/images/meta.json").read_text()) | {"name": odd, "source": odd}
    about = card.About(meta, {odd: 2}, params, {odd: {"acc": 0.5}}, True, 2)
    text = card.card(module.describe(classifier("tiny", 16, 1), [odd] * CLUSTERS), about)
    before, params_text = text.split("```yaml\n")
    assert before.count(escaped) == 5 + CLUSTERS
    assert yaml.safe_load(params_text.removesuffix("```\n"))["pretext"]["weights"] == odd


def test_what_has_to_be_mended_first_is_said(project):
    images = np.array(read_images(Path("data/images"), "test"))
    assert fails("--model", "nothing") == (
        "export: nothing/model.pt: no such file; run `dvc repro selflabel` first, or name another folder with --model"
    )
    assert "data/nothing/meta.json: no such file" in fails("--images", "data/nothing")
    assert "reports/none.json: no such file" in fails("--metrics", "reports/none.json")
    assert "none.yaml: no such file" in fails("--names", "none.yaml")
    assert "exists and is no earlier export" in fails("--out", "data")
    assert "exists and is no earlier export" in fails("--out", ".")
    assert "exists and is no earlier export" in fails("--out", "params.yaml")
    assert "caf?: no UTF-8, which torch needs" in fails("--out", "caf\udce9")
    Path("names.yaml").write_text("clusters: {9: coat}")
    assert "cluster 9 does not exist" in fails()
    Path("names.yaml").unlink()
    for broken in ("[]", "{", "{}"):
        Path("broken.json").write_text(broken)
        assert "not the scores that evaluate writes" in fails("--metrics", "broken.json")
    set_params(project, {"clusters": 7})
    assert "clusters = 7, but the model has 5" in fails()
    set_params(project, {"clusters": CLUSTERS}, pretext={"backbone": "small"})
    assert "pretext.backbone = small, but the model has tiny" in fails()
    set_params(project, {"clusters": CLUSTERS}, pretext={"backbone": "tiny"})
    write_images(Path("data/images"), "noise", {"train": noise(3, 8, 1), "test": noise(3, 8, 1)}, "small ones")
    assert "holds images of 8x8x1, but the model takes 16x16x1" in fails()
    write_images(Path("data/images"), "noise", {"train": images, "test": images}, "noise")
    Path("data/selflabel/model.pt").write_bytes(b"no model")
    assert "not the model it should be" in fails()
    elsewhere = Encoder("absent:12", 1, Input(16, 1, [0.5], [0.5]), "none")
    save_model(Path("data/selflabel/model.pt"), Classifier(elsewhere, "backbone", 1, CLUSTERS))
    assert "the embeddings were made elsewhere" in fails()


def test_a_network_that_cannot_be_exported_is_named(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("no such\noperation")

    monkeypatch.setattr(portable.torch.export, "export", refuse)
    network = Portable(classifier("tiny", 16, 1)).eval()
    with pytest.raises(UserError, match=r"tiny cannot be exported \(RuntimeError: no such operation\)"):
        write_portable(network, tmp_path / "model.onnx", tmp_path / "model.pt2")
