"""Two processes on one global batch: losses, gradients, statistics and results equal those of a single process."""

import copy
import sys
import types

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
import yaml
from project import make_project, params_text, run, set_params

from stages.images.loading import Images
from stages.images.strong import StrongSettings, StrongViews
from stages.images.views import SimCLRViews, ViewSettings
from stages.networks.classifier import Classifier
from stages.networks.encoder import Encoder, Input
from stages.pretext import TASKS as PRETEXTS
from stages.tasks.pretext import Settings
from stages.tasks.scan import HeadsOnEmbeddings, WholeNetwork
from stages.tasks.selflabel import SelfLabeling
from stages.training import processes
from stages.training.devices import precision
from stages.training.mean_teacher import MeanTeacher

ROWS = np.array([3, 1, 4, 15, 9, 2, 6, 5, 35, 8, 7, 22, 30])  # an odd number, so that shares differ
INPUT = Input(12, 3, [0.5] * 3, [0.25] * 3)
MEMORIES = ("queue", "bank")  # what pretexts remember beside weights
STRONG = StrongSettings(flip=0.5, padding=1, operations=2, cutout=4)


def make_task(name):
    """The task of a stage on random images and neighbours, the module it trains, and its network."""
    random = np.random.default_rng(0)
    images = Images(random.integers(0, 256, (40, 12, 12, 3), dtype=np.uint8))
    pairs = random.integers(0, 40, (40, 5)).astype(np.int32)
    torch.manual_seed(1)
    views = SimCLRViews(ViewSettings(**yaml.safe_load(params_text())["views"]), INPUT.mean, INPUT.std)
    if name in PRETEXTS:
        encoder = Encoder("small", 8, INPUT, PRETEXTS[name].head)
        task = PRETEXTS[name](encoder, images, views, Settings(0.1, queue=20, negatives=30))
        return task, processes.synchronise_batchnorm(task).train()
    encoder = Encoder("small", 8, INPUT)
    model = Classifier(encoder, "backbone", heads=1 if name == "selflabel" else 3, clusters=4)
    strong = StrongViews(STRONG, INPUT.mean, INPUT.std)
    processes.synchronise_batchnorm(model).train()
    if name == "scan views":
        return WholeNetwork(model, images, pairs, views, 5.0), model
    if name == "scan strong":
        return WholeNetwork(model, images, pairs, strong, 5.0), model
    if name == "scan heads":
        vectors = random.normal(size=(40, 128)).astype(np.float32)
        return HeadsOnEmbeddings(model, vectors, pairs, 5.0), model.heads
    with torch.no_grad():
        model.heads.weight.mul_(30)  # surer than at the start, so that some answers are confident and some are not
    pair = MeanTeacher(model, 0.9)
    return SelfLabeling(pair, images, STRONG, threshold=0.3, class_weights=True), pair


def one_step(name):
    """Terms, gradients and statistics after a step on the global batch."""
    task, module = make_task(name)
    prepared = task.prepare(ROWS, torch.Generator().manual_seed(7))
    assert all(part.dtype in (torch.float32, torch.int64) for part in prepared if torch.is_tensor(part))
    terms = task.step(*prepared)
    terms["loss"].sum().backward()
    processes.add_gradients(module)
    gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None}
    statistics = {key: value for key, value in module.state_dict().items() if "running" in key or key in MEMORIES}
    return copy.deepcopy({key: value.detach() for key, value in (terms | gradients | statistics).items()})


def in_one_of_two(rank, folder, names):
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save({name: one_step(name) for name in names}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


TASKS = [*PRETEXTS, "scan views", "scan strong", "scan heads", "selflabel"]


@pytest.fixture(scope="module")
def of_two(tmp_path_factory):
    folder = tmp_path_factory.mktemp("two")
    mp.spawn(in_one_of_two, (str(folder), TASKS), nprocs=2)
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in (0, 1)]


@pytest.mark.parametrize("name", TASKS)
def test_losses_gradients_and_statistics_of_two_processes_are_those_of_one(of_two, name):
    expected = one_step(name)
    assert sum(value.abs().sum() > 0 for value in expected.values()) > 2
    for found in (of_two[0][name], of_two[1][name]):
        assert found.keys() == expected.keys()
        for key, value in expected.items():
            scale = value.abs().max().item()
            torch.testing.assert_close(found[key], value, rtol=1e-3, atol=1e-4 * scale + 1e-7, msg=f"{name}: {key}")


def test_every_row_is_in_exactly_one_share(monkeypatch):
    monkeypatch.setattr(processes, "count", lambda: 3)
    assert [list(range(10))[part] for part in processes._shares(10)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8, 9]]
    assert [part.stop - part.start for part in processes._shares(1)] == [0, 0, 1]


CHAIN = """
from pathlib import Path
from stages import embed, mine, pretext, scan, selflabel
from stages.plumbing.params import read
from stages.training import processes

images, out = Path("data/images"), {name: Path("OUT", name) for name in ("p", "e", "m", "s", "l")}

def chain():
    params = {stage: read(stage.Params, Path("params.yaml")) for stage in (embed, mine, pretext, scan, selflabel)}
    pretext.pretext(params[pretext], images, out["p"])
    processes.broadcast(None)  # the others go on when the first has written
    embed.embed(params[embed], images, out["p"], out["e"])
    if processes.first():
        mine.mine(params[mine], images, out["e"], out["m"])
    processes.broadcast(None)
    scan.scan(params[scan], images, out["p"], out["e"], out["m"], out["s"])
    processes.broadcast(None)
    selflabel.selflabel(params[selflabel], images, out["s"], out["l"])

processes.run(chain)
"""
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


def test_the_stages_under_torchrun_make_what_they_make_alone(tmp_path):
    """pretext, embed, scan and selflabel in one process and in two, with mining in between."""
    project = make_project(tmp_path / "project")
    # Rounding differs, and training makes much of it, so: one epoch and small learning rates.
    tame = {"epochs": 1, "lr": 1.0e-3, "batch_size": 255}
    set_params(project, {"pretext": tame, "scan": tame, "selflabel": tame | {"threshold": 0.11}})
    run(sys.executable, "-m", "stages.download", cwd=project)
    for out, python in {"one": [sys.executable], "two": TORCHRUN}.items():
        (project / f"{out}.py").write_text(CHAIN.replace("OUT", out))
        done = run(*python, f"{out}.py", cwd=project, DEVICE="cpu", PYTHONPATH=str(project)).stdout
        assert done.count("· done") == 11, "one process speaks"
    one, two = ({path.name: path for path in (project / out).rglob("*.*")} for out in ("one", "two"))
    assert one.keys() == two.keys()
    # Rounding to 8 bits, in batches that are cut otherwise, differs more than rounding to 24.
    tolerance = {"float32": 5e-3, "bfloat16": 2.5e-2}[precision()]
    for name in ("p", "e", "s", "l"):
        alone, together = ((project / out / name / "meta.json").read_text() for out in ("one", "two"))
        assert together == alone, "the same precision on the same processor, however many processes there are"
    files = ["e/train.npy", "e/test.npy", "s/probabilities-train.npy", "l/probabilities-test.npy"]
    for name in files:
        alone, together = (np.load(project / out / name).astype(float) for out in ("one", "two"))
        np.testing.assert_allclose(together, alone, atol=tolerance, err_msg=name)
    assert not list((project / ".ckpt").glob("*-*")), "finished runs leave no checkpoint"


def test_where_several_gpus_are_visible_a_stage_starts_itself_once_for_each(monkeypatch):
    started = []
    monkeypatch.setattr(processes.torch.cuda, "device_count", lambda: 4)
    monkeypatch.setattr(processes.os, "execv", lambda program, command: started.append((program, command)))
    monkeypatch.setattr(sys.modules["__main__"], "__spec__", types.SimpleNamespace(name="stages.pretext"))
    monkeypatch.setattr(sys, "argv", ["stages/pretext.py", "--out", "data/pretext"])
    for name in ("DEVICE", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    called = []
    processes.run(lambda: called.append("here"))
    [(program, command)] = started
    assert program == sys.executable
    assert command[1:4] == ["-m", "torch.distributed.run", "--standalone"]
    assert command[4:] == ["--nproc-per-node=4", "-m", "stages.pretext", "--out", "data/pretext"]
    assert not called
    monkeypatch.setenv("DEVICE", "cpu")
    processes.run(lambda: called.append("here"))
    assert called == ["here"], "DEVICE is one device"
    assert len(started) == 1


def test_under_torchrun_an_error_is_said_once(tmp_path):
    project = make_project(tmp_path / "project")
    set_params(project, {"pretext": {"lr": 1.0e30}})
    run(sys.executable, "-m", "stages.download", cwd=project)
    command = [*TORCHRUN, "-m", "stages.pretext"]
    result = run(*command, cwd=project, check=False, DEVICE="cpu")
    assert result.returncode
    assert result.stderr.count("pretext: the loss of pretext is") == 1
    assert not (project / "data/pretext").exists()
