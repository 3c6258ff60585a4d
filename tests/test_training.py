"""The loop: schedule, order, history, skipped steps, resuming to the same bytes, checkpoints of other work."""

import contextlib
import math

import numpy as np
import pytest
import torch
from torch import nn

from stages.plumbing import progress
from stages.plumbing.errors import UserError
from stages.plumbing.params import Block
from stages.training import checkpoint as checkpoints
from stages.training.checkpoint import Checkpoint, fingerprint
from stages.training.loop import Plan, batches, fit, learning_rate
from stages.training.mean_teacher import MeanTeacher

PLAN = Plan(epochs=4, batch_size=8, lr=0.1, warmup_epochs=1)
DATA = torch.randn(50, 3, generator=torch.Generator().manual_seed(5))


class StopNow(Exception):
    pass


class Steps:
    """A task without data."""

    def __init__(self, step):
        self.step = step

    def prepare(self, rows, generator):
        return ()


def train(root, stop_after=None, plan=PLAN, seed=0, fingerprint="a", lose_outputs=False):
    """A little regression with noise in every step; optionally dies in the middle of an epoch, or after the last."""
    torch.manual_seed(seed)
    module = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 1))
    optimizer = torch.optim.SGD(module.parameters(), lr=1.0, momentum=0.9)
    steps = []

    class Toy:
        def prepare(self, rows, generator):
            steps.append(rows.copy())
            if stop_after is not None and len(steps) > stop_after:
                raise StopNow
            return (DATA[torch.from_numpy(rows)] + 0.1 * torch.randn(len(rows), 3, generator=generator),)

        def step(self, batch):
            return {"loss": module(batch).square().mean()}

    with Checkpoint(root, "toy", fingerprint) as checkpoint:
        history = fit("toy", Toy(), module, optimizer, len(DATA), plan, seed, checkpoint)
        if lose_outputs:
            raise StopNow
    return module, history, steps


def weights(module):
    return torch.cat([value.flatten().double() for value in module.state_dict().values()])


def test_an_interrupted_run_continues_after_its_last_finished_epoch_and_ends_the_same(tmp_path):
    expected, history, steps = train(tmp_path / "whole")
    assert len(steps) == 4 * 6
    with pytest.raises(StopNow):
        train(tmp_path / "broken", stop_after=2 * 6 + 3)
    module, resumed, steps = train(tmp_path / "broken")
    assert len(steps) == 2 * 6, "two of four epochs were finished"
    assert torch.equal(weights(module), weights(expected))
    assert resumed == history


def test_a_finished_training_whose_outputs_were_not_written_trains_nothing_again(tmp_path):
    expected, history, _ = train(tmp_path / "whole")
    with pytest.raises(StopNow):
        train(tmp_path, lose_outputs=True)
    module, again, steps = train(tmp_path)
    assert not steps
    assert torch.equal(weights(module), weights(expected))
    assert again == history


def test_a_checkpoint_of_other_work_is_never_picked_up(tmp_path):
    with pytest.raises(StopNow):
        train(tmp_path, stop_after=15, fingerprint="a")
    _, _, steps = train(tmp_path, fingerprint="b")
    assert len(steps) == 4 * 6


class Knobs(Block):
    knob: int


def test_the_fingerprint_follows_params_inputs_and_code(tmp_path, monkeypatch):
    inputs = tmp_path / "inputs"
    inputs.mkdir()
    (inputs / "x.npy").write_bytes(b"1")
    first = fingerprint(Knobs(knob=1), inputs)
    assert first == fingerprint(Knobs(knob=1), inputs)
    assert first != fingerprint(Knobs(knob=2), inputs)
    (inputs / "x.npy").write_bytes(b"2")
    second = fingerprint(Knobs(knob=1), inputs)
    assert first != second
    edited = tmp_path / "progress.py"
    edited.write_text("# another version\n")
    monkeypatch.setattr(progress, "__file__", str(edited))
    assert second != fingerprint(Knobs(knob=1), inputs)


def unfinished(root, stage, fingerprint):
    """What a run leaves behind that was stopped after an epoch."""
    checkpoint = Checkpoint(root, stage, fingerprint)
    with contextlib.suppress(StopNow), checkpoint:
        checkpoint.save("phase", {"x": 1})
        raise StopNow


def test_only_the_newest_unfinished_runs_are_kept(tmp_path):
    for name in "abcdef":
        unfinished(tmp_path, "toy", name)
    unfinished(tmp_path, "other", "a")
    assert len(list(tmp_path.glob("toy-*"))) == checkpoints.KEPT
    assert len(list(tmp_path.glob("other-*"))) == 1


def test_two_runs_of_the_same_work_do_not_write_over_each_other(tmp_path, monkeypatch):
    monkeypatch.setattr(checkpoints, "LOCK_PATIENCE", 0.3)
    with Checkpoint(tmp_path, "toy", "a"), pytest.raises(UserError, match="another run of toy"):
        Checkpoint(tmp_path, "toy", "a").__enter__()
    with Checkpoint(tmp_path, "toy", "a"):
        pass


def test_a_finished_run_leaves_nothing_and_whoever_waited_for_it_starts_afresh(tmp_path, monkeypatch):
    waited = []
    monkeypatch.setattr(checkpoints.time, "sleep", lambda _: waited.append(first.__exit__(None, None, None)))
    first = Checkpoint(tmp_path, "toy", "a").__enter__()
    first.save("phase", {"x": 1})
    with Checkpoint(tmp_path, "toy", "a") as second:  # waits, and meanwhile the first ends and removes the folder
        assert len(waited) == 1
        assert second.load("phase") is None
        second.save("phase", {"x": 2})
        assert second.load("phase") == {"x": 2}
    assert not list(tmp_path.iterdir())


def test_every_epoch_has_its_own_order_and_each_image_once():
    seen = [np.concatenate([index for index, _ in batches(50, 8, seed=0, epoch=epoch)]) for epoch in (0, 1)]
    for order in seen:
        assert len(order) == 48
        assert len(set(order)) == 48
    assert not np.array_equal(*seen)
    other = np.concatenate([index for index, _ in batches(50, 8, seed=1, epoch=0)])
    assert not np.array_equal(seen[0], other)


def test_fewer_images_than_a_batch_are_one_batch(tmp_path):
    _, history, steps = train(tmp_path, plan=Plan(epochs=2, batch_size=512, lr=0.1))
    assert [len(index) for index in steps] == [50, 50]
    assert len(history) == 2


def test_learning_rate_warms_up_and_follows_a_cosine():
    plan = Plan(epochs=10, batch_size=1, lr=0.4, warmup_epochs=2)
    assert learning_rate(plan, 1) == pytest.approx(0.2, rel=0.01)
    assert learning_rate(plan, 2) == pytest.approx(0.4)
    assert learning_rate(plan, 6) == pytest.approx(0.4 * (0.001 + 0.999 * 0.5))
    assert learning_rate(plan, 10) == pytest.approx(0.0004)
    assert learning_rate(plan._replace(schedule="constant"), 9) == 0.4
    assert 0 < learning_rate(plan, 0) < 0.001, "the first step must not be lost"


def test_history_has_a_row_per_epoch_with_means_over_heads_and_skipped_steps(tmp_path):
    module = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.0)
    calls = []

    def step():
        calls.append(len(calls))
        if calls[-1] % 2:
            return {"skipped": torch.ones(())}
        return {
            "loss": torch.stack([module.weight.sum() * 0 + 1, module.weight.sum() * 0 + 3]),
            "skipped": torch.zeros(()),
        }

    with Checkpoint(tmp_path, "toy", "a") as checkpoint:
        history = fit("toy", Steps(step), module, optimizer, 40, Plan(2, 10, 0.1), 0, checkpoint)
    assert [row["epoch"] for row in history] == [1, 2]
    assert history[0]["loss"] == 2.0
    assert history[0]["skipped"] == 0.5


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_no_number_stops_with_the_way_out(tmp_path, bad):
    module = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)

    def step():
        return {"loss": module.weight.sum() * bad}

    with Checkpoint(tmp_path, "toy", "a") as checkpoint, pytest.raises(UserError, match=r"loss of toy.*epoch 1.*lower"):
        fit("toy", Steps(step), module, optimizer, 40, Plan(2, 10, 0.1), 0, checkpoint)
    assert not list(tmp_path.rglob("*.pt")), "a broken state must not be continued"


def test_the_teacher_averages_the_student_and_never_flows_back():
    torch.manual_seed(0)
    student = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    pair = MeanTeacher(student, 0.9)
    average = {name: value.double().clone() for name, value in student.state_dict().items()}
    for _ in range(5):
        student(torch.randn(4, 2))
        with torch.no_grad():
            student[0].weight.add_(torch.randn(2, 2))
        before = weights(student)
        pair.follow()
        assert torch.equal(weights(student), before)
        average = {n: 0.9 * a + 0.1 * student.state_dict()[n].double() for n, a in average.items()}
    for name, value in pair.teacher.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value.double(), average[name], atol=1e-6, rtol=0)
        else:
            assert value == student.state_dict()[name]
    assert MeanTeacher(student, 0.0).teacher is student


class Clock:
    """A clock that goes on when it is told to."""

    now = 0.0

    def monotonic(self):
        return self.now


@pytest.mark.parametrize(
    ("expected", "whole"), [({}, ""), ({"embed": 5, "mine": 60, "scan": 240}, ", 6:00 for all stages")]
)
def test_plain_lines_tell_the_remaining_time_after_a_warm_up_only(capsys, monkeypatch, tmp_path, expected, whole):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setenv("LIVE", str(tmp_path))
    monkeypatch.setenv("DVC_STAGE", "embed")
    if expected:
        progress.live.expect(expected)
    with progress.Progress("work", total=1000) as bar:
        for seconds, images in ((16, 10), (20, 200), (15, 150), (64, 640)):
            clock.now += seconds
            bar.advance(images, "loss 1.0")
    assert capsys.readouterr().out.splitlines() == [
        "work ·   1 % · loss 1.0",  # the first step took 16 s, which says nothing of the others
        f"work ·  21 % · 10 images/s · 1:19 left{whole.replace('6:00', '6:19')} · loss 1.0",
        f"work ·  36 % · 10 images/s · 1:04 left{whole.replace('6:00', '6:04')} · loss 1.0",
        "work · 100 % · 10 images/s · done",
    ]


def test_bytes_are_told_as_megabytes_also_where_nobody_knows_how_many_come(capsys, monkeypatch, tmp_path):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    monkeypatch.setenv("LIVE", str(tmp_path))
    with progress.Progress("a.gz", total=0, unit="bytes") as bar:
        for _ in range(2):
            clock.now += 16
            bar.advance(32_000_000)
    first, *_, last = capsys.readouterr().out.splitlines()
    assert first.startswith("a.gz · 32 MB")
    assert last == "a.gz · 64 MB · 2 MB/s · done"


def test_work_that_breaks_off_is_not_called_done(capsys):
    with progress.Progress("work", total=10) as bar:
        bar.advance(4)
    assert capsys.readouterr().out.endswith("broke off\n")
    with pytest.raises(OSError, match="gone"), progress.Progress("work", total=10) as bar:
        raise OSError("gone")
    assert capsys.readouterr().out == ""
