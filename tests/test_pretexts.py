"""Pretexts: what each does with a batch, and that each learns something on the digits, through the whole pipeline."""

import json

import numpy as np
import pytest
import torch
from project import TINY, params_text, run_stage, set_params
from sklearn.datasets import load_digits

from stages.images.loading import Concatenated, Images
from stages.images.views import SimCLRViews, ViewSettings
from stages.networks.encoder import Encoder, Input
from stages.networks.model import load_model
from stages.plumbing.errors import UserError
from stages.pretext import TASKS
from stages.scoring.purity import purity
from stages.tasks.pretext import Settings

PLAIN = {
    **dict.fromkeys(["crop_area", "crop_ratio", "zoom"], (1.0, 1.0)),
    **dict.fromkeys(["shift_x", "shift_y", "flip", "jitter", "brightness", "contrast", "saturation"], 0.0),
    **dict.fromkeys(["hue", "grayscale", "blur"], 0.0),
    "blur_sigma": (0.1, 1.0),
}
ROWS = np.arange(16)


def make(name, images=64, **settings):
    """A task on random images, the views of which are the images themselves."""
    torch.manual_seed(0)
    pixels = np.random.default_rng(0).integers(0, 256, (images, 8, 8, 1), dtype=np.uint8)
    encoder = Encoder("small", 16, Input(8, 1, [0.5], [0.25]), TASKS[name].head)
    views = SimCLRViews(ViewSettings(**PLAIN), [0.5], [0.25])
    return TASKS[name](encoder, Images(pixels), views, Settings(**({"queue": 24, "negatives": 20} | settings))).train()


def step(task, rows=ROWS):
    """One whole step of SGD; returns its loss."""
    learning = [weight for weight in task.parameters() if weight.requires_grad]
    optimizer = torch.optim.SGD(learning, lr=0.1)
    loss = task.step(*task.prepare(rows, torch.Generator().manual_seed(0)))["loss"]
    loss.backward()
    optimizer.step()
    task.follow()
    return loss.item()


@pytest.mark.parametrize("name", TASKS)
def test_steps_lower_the_loss_and_reach_the_backbone(name):
    task = make(name)
    before = task.encoder.backbone.body[0][0].weight.detach().clone()
    losses = [step(task) for _ in range(12)]
    assert np.mean(losses[-3:]) < np.mean(losses[:3])
    assert not torch.equal(before, task.encoder.backbone.body[0][0].weight)


@pytest.mark.parametrize("name", TASKS)
def test_the_state_of_a_task_is_all_there_is_to_resume_it(name):
    one = make(name)
    step(one)
    other = make(name)
    other.load_state_dict(one.state_dict())
    assert step(one) == step(other)


def test_moco_keeps_the_newest_keys_and_drops_the_oldest():
    task = make("moco")
    start = task.queue.clone()
    step(task, ROWS[:10])
    assert torch.equal(task.queue[10:], start[10:])
    assert not torch.isclose(task.queue[:10], start[:10]).any(dim=1).all()
    first = task.queue[:10].clone()
    step(task, ROWS)  # 16 more: fills 10 to 24, then begins anew with 0 and 1
    assert torch.equal(task.queue[2:10], first[2:])
    assert not torch.equal(task.queue[:2], first[:2])
    assert task.oldest == 2
    torch.testing.assert_close(task.queue.norm(dim=1), torch.ones(24))


def test_moco_keys_belong_to_their_queries_however_they_were_shuffled():
    task = make("moco", images=64, queue=8)
    task.key_encoder.eval()  # running statistics: groups then make no difference
    views, order, rows = task.prepare(np.arange(64), torch.Generator().manual_seed(0))
    assert sorted(order.tolist()) == list(range(64)) != order.tolist()
    keys = task._keys(views[1::2], order, rows)
    torch.testing.assert_close(keys, task.key_encoder(views[1::2]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("name", "follower"), [("moco", "key_encoder"), ("byol", "target")])
def test_followers_move_by_a_share_and_never_by_gradient(name, follower):
    task = make(name, ema=0.75)
    before = [weight.clone() for weight in getattr(task, follower).parameters()]
    step(task)
    after, leaders = getattr(task, follower).parameters(), task.encoder.parameters()
    for old, new, leader in zip(before, after, leaders, strict=True):
        assert new.grad is None
        torch.testing.assert_close(new, 0.75 * old + 0.25 * leader)


def test_moco_refuses_a_queue_that_would_hold_the_images_own_keys():
    with pytest.raises(UserError, match=r"pretext\.queue = 33, but there are 64 images.*32 or less"):
        make("moco", queue=33)


def test_rotnet_turns_each_image_into_all_four_orientations():
    task = make("rotnet")
    turned, rows = task.prepare(ROWS, torch.Generator().manual_seed(0))
    assert turned.shape == (64, 1, 8, 8)
    assert rows == 16
    for quarter in range(4):
        torch.testing.assert_close(turned[quarter::4], turned[::4].rot90(quarter, dims=(2, 3)))


def test_instance_discrimination_remembers_the_mean_of_old_and_new():
    task = make("instance")
    before = task.bank.clone()
    views, rows, _ = task.prepare(ROWS, torch.Generator().manual_seed(0))
    step(task)
    assert torch.equal(task.bank[16:], before[16:])
    torch.testing.assert_close(task.bank.norm(dim=1), torch.ones(64))
    fresh = make("instance")
    said = torch.nn.functional.normalize(fresh.encoder(views), dim=1)
    expected = torch.nn.functional.normalize(before[rows] + said, dim=1)
    torch.testing.assert_close(task.bank[:16], expected.detach())


def test_concatenated_arrays_read_as_one():
    parts = [np.arange(12).reshape(4, 3), np.arange(100, 106).reshape(2, 3), np.arange(200, 215).reshape(5, 3)]
    whole, one = np.concatenate(parts), Concatenated(parts)
    assert (len(one), one.shape, one.nbytes) == (11, (11, 3), whole.nbytes)
    for rows in (np.array([10, 0, 3, 4, 5, 6, 0]), slice(2, 8), slice(0, 0), slice(None)):
        np.testing.assert_array_equal(one[rows], whole[rows])


@pytest.fixture(scope="module")
def untrained():
    """Neighbour purity at 20 of an encoder with random weights on the pipeline's training images."""
    digits = load_digits()
    order = np.random.RandomState(0).permutation(len(digits.images))[:1437]
    pixels = torch.from_numpy(np.rint(digits.images[order] * (255 / 16))[:, None]).float() / 255
    torch.manual_seed(0)
    encoder = Encoder("small", 16, Input(8, 1, [0.5], [0.25])).eval()
    with torch.inference_mode():
        vectors = encoder.embed((pixels - pixels.mean()) / pixels.std(), "backbone").numpy()
    return purity(vectors, digits.target[order], np.arange(1437), (20,))[20]


SHORT = {"epochs": 20, "batch_size": 128, "projection_dim": 64, "queue": 512, "negatives": 512}
LEARN = {
    "simclr": {"lr": 0.4, "temperature": 0.5},
    "moco": {"lr": 0.1, "temperature": 0.2},
    "byol": {"lr": 0.4},
    "rotnet": {"lr": 0.03},
    "instance": {"lr": 0.1, "temperature": 0.2},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with the digits and the params of the whole pipeline, with views that suit digits."""
    folder = tmp_path_factory.mktemp("pretexts")
    (folder / "params.yaml").write_text(params_text())
    set_params(folder, TINY)
    set_params(folder, {"views": {"zoom": [0.9, 1.1], "shift_x": 0.1, "shift_y": 0.1, "blur": 0.0}})
    run_stage(folder, "download")
    return folder


@pytest.mark.parametrize("name", TASKS)
def test_every_pretext_trains_end_to_end_and_improves_on_random_weights(folder, untrained, name):
    set_params(folder, {"pretext": SHORT | LEARN[name] | {"method": name}})
    for stage in ("pretext", "embed", "mine", "kmeans", "scan", "selflabel", "evaluate", "report"):
        run_stage(folder, stage)
    metrics = json.loads((folder / "reports/metrics.json").read_text())
    assert metrics["embeddings"]["purity_20"] > untrained + 0.01
    assert metrics["selflabel"]["test"]["acc"] > 0.3
    model = load_model(folder / "data/pretext/model.pt", Encoder)
    assert (model.projection is None) == (name == "rotnet")
    assert (folder / "reports/index.html").exists()
    if name == "rotnet":
        set_params(folder, {"embed": {"layer": "projection"}})
        with pytest.raises(UserError, match="no projection to take embeddings from"):
            run_stage(folder, "embed")
        set_params(folder, {"embed": {"layer": "backbone"}})
