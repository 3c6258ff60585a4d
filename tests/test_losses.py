"""The losses against slow versions written straight from the formulas."""

import math

import pytest
import torch

from stages.losses.byol import byol_loss
from stages.losses.confident import Confident, confident_loss, pseudo_labels
from stages.losses.info_nce import info_nce
from stages.losses.nt_xent import nt_xent
from stages.losses.scan import dataset_scan_loss, scan_loss


def slow_nt_xent(a, b, temperature):
    """Equation 1 of arXiv 2002.05709, one pair at a time, averaged over both directions."""
    views = [v / v.norm() for v in torch.cat([a, b]).double()]
    n, total = len(a), 0.0
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        others = sum(math.exp(float(views[i] @ views[k]) / temperature) for k in range(2 * n) if k != i)
        total += -math.log(math.exp(float(views[i] @ views[partner]) / temperature) / others)
    return total / (2 * n)


@pytest.mark.parametrize("batch", [1, 2, 7])
@pytest.mark.parametrize("temperature", [0.1, 1.0])
def test_nt_xent_equals_its_formula(batch, temperature):
    a, b = torch.randn(2, batch, 5, generator=torch.Generator().manual_seed(batch))
    assert nt_xent(a, b, temperature).item() == pytest.approx(slow_nt_xent(a, b, temperature), abs=1e-5)


def test_nt_xent_takes_both_directions_and_any_length():
    a, b = torch.randn(2, 6, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(nt_xent(a, b, 0.2), nt_xent(b, a, 0.2))
    torch.testing.assert_close(nt_xent(3 * a, 0.1 * b, 0.2), nt_xent(a, b, 0.2))


def test_nt_xent_falls_when_partners_meet_and_reaches_every_view():
    a, b = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    assert nt_xent(a, a.clone(), 0.1) < nt_xent(a, b, 0.1)
    a.requires_grad_()
    b.requires_grad_()
    nt_xent(a, b, 0.1).backward()
    assert (a.grad.norm(dim=1) > 0).all()
    assert (b.grad.norm(dim=1) > 0).all()


def test_nt_xent_is_computed_in_float32_from_half_precision():
    a, b = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0)).bfloat16()
    assert nt_xent(a, b, 0.1).dtype == torch.float32
    assert nt_xent(a, b, 0.1).item() == pytest.approx(slow_nt_xent(a, b, 0.1), abs=1e-4)


def test_nt_xent_is_computed_in_float32_under_autocast():
    a, b = torch.randn(2, 8, 4, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert nt_xent(a, b, 0.1).item() == pytest.approx(slow_nt_xent(a, b, 0.1), abs=1e-4)


def test_info_nce_equals_its_formula_with_queue_and_own_key():
    generator = torch.Generator().manual_seed(0)
    queries, keys, queue = (torch.randn(n, 5, generator=generator) for n in (4, 4, 7))
    queue = queue / queue.norm(dim=1, keepdim=True)
    total = 0.0
    for query, key in zip(queries.double(), keys.double(), strict=True):
        query, key = query / query.norm(), key / key.norm()
        others = sum(math.exp(float(query @ other) / 0.2) for other in queue.double())
        own = math.exp(float(query @ key) / 0.2)
        total -= math.log(own / (own + others)) / 4
    assert info_nce(queries, keys, queue, 0.2).item() == pytest.approx(total, abs=1e-5)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert info_nce(queries, keys, queue, 0.2).item() == pytest.approx(total, abs=1e-5)


def test_byol_loss_is_the_squared_distance_of_unit_vectors():
    a, b = torch.randn(2, 6, 2, 5, generator=torch.Generator().manual_seed(0))
    unit = (v / v.norm(dim=-1, keepdim=True) for v in (a.double(), b.double()))
    expected = torch.sub(*unit).square().sum(-1).mean()
    assert byol_loss(a, b).item() == pytest.approx(expected.item(), abs=1e-6)
    assert byol_loss(a, 3 * a).item() == pytest.approx(0, abs=1e-6)


def slow_scan(anchors, neighbors, weight):
    """Equation 2 of arXiv 2005.12320 for one head: -mean log <p, p'> + weight * sum p̄ log p̄."""
    p = [row.double().exp() / row.double().exp().sum() for row in anchors]
    q = [row.double().exp() / row.double().exp().sum() for row in neighbors]
    consistency = -sum(math.log(float(i @ j)) for i, j in zip(p, q, strict=True)) / len(p)
    mean = sum(p) / len(p)
    spread = -sum(float(m) * math.log(float(m)) for m in mean)
    return consistency - weight * spread, consistency, spread


@pytest.mark.parametrize(("batch", "clusters"), [(1, 2), (5, 2), (16, 10)])
def test_scan_loss_equals_its_formula(batch, clusters):
    a, b = 3 * torch.randn(2, batch, clusters, generator=torch.Generator().manual_seed(batch))
    terms = scan_loss(a, b, 5.0)
    expected = slow_scan(a, b, 5.0)
    assert [terms[name].item() for name in ("loss", "consistency", "entropy")] == pytest.approx(expected, abs=1e-5)


def test_scan_loss_of_several_heads_is_each_heads_own():
    a, b = torch.randn(2, 3, 6, 4, generator=torch.Generator().manual_seed(0))
    together = scan_loss(a, b, 2.0)
    assert together["loss"].shape == (3,)
    for head in range(3):
        torch.testing.assert_close(together["loss"][head], scan_loss(a[head], b[head], 2.0)["loss"])


def test_scan_loss_has_its_least_value_at_sure_even_clusters():
    sure = 100 * torch.eye(4)
    assert scan_loss(sure, sure, 5.0)["loss"].item() == pytest.approx(-5 * math.log(4), abs=1e-4)
    collapsed = 100 * torch.eye(4)[[0, 0, 0, 0]]
    assert scan_loss(collapsed, collapsed, 5.0)["loss"].item() == pytest.approx(0, abs=1e-4)


def test_scan_loss_and_gradient_stay_finite_for_certain_disagreement():
    a = torch.tensor([[200.0, 0.0]], requires_grad=True)
    b = torch.tensor([[0.0, 200.0]], requires_grad=True)
    loss = scan_loss(a, b, 5.0)["loss"]
    loss.backward()
    assert loss.item() > 50
    assert torch.isfinite(a.grad).all()
    assert a.grad.abs().sum() > 0, "an image that disagrees with its neighbour still has to learn"
    assert b.grad.abs().sum() > 0


def test_dataset_loss_is_the_loss_of_all_pairs_at_once():
    generator = torch.Generator().manual_seed(1)
    logits, neighbors = torch.randn(50, 4, generator=generator), torch.randint(50, (50, 6), generator=generator)
    anchors = logits.repeat_interleave(6, dim=0)
    expected = scan_loss(anchors, logits[neighbors.flatten()], 5.0)
    got = dataset_scan_loss(logits.softmax(dim=1), neighbors.numpy(), 5.0, at_once=7 * 6 * 4)
    for name, value in expected.items():
        assert got[name] == pytest.approx(value.item(), abs=1e-5)


def slow_confident(logits, confident, weighted):
    """Cross-entropy over the confident rows, each weighing n / count of its label, normalised by the weights."""
    rows = [i for i in range(len(logits)) if confident.mask[i]]
    labels = [int(confident.labels[i]) for i in rows]
    total = norm = 0.0
    for i, label in zip(rows, labels, strict=True):
        weight = len(rows) / labels.count(label) if weighted else 1.0
        p = logits[i].double().softmax(0)[label]
        total, norm = total - weight * math.log(float(p)), norm + weight
    return total / norm


@pytest.mark.parametrize("weighted", [True, False])
@pytest.mark.parametrize("clusters", [2, 5])
def test_confident_loss_equals_its_formula(weighted, clusters):
    generator = torch.Generator().manual_seed(clusters)
    weak, strong = torch.randn(2, 40, clusters, generator=generator)
    confident = pseudo_labels(weak.softmax(dim=1), 0.6)
    assert 0 < confident.mask.sum() < 40
    expected = slow_confident(strong, confident, weighted)
    assert confident_loss(strong, confident, weighted).item() == pytest.approx(expected, abs=1e-5)


def test_only_confident_images_teach():
    strong = torch.randn(4, 3, requires_grad=True)
    confident = Confident(torch.tensor([True, False, True, False]), torch.tensor([0, 1, 2, 0]))
    confident_loss(strong, confident, True).backward()
    assert (strong.grad.abs().sum(dim=1) > 0).tolist() == [True, False, True, False]


def test_pseudo_labels_need_more_than_the_threshold():
    confident = pseudo_labels(torch.tensor([[0.5, 0.5], [0.9, 0.1], [0.0, 1.0]]), 0.9)
    assert confident.mask.tolist() == [False, False, True]
    assert confident.labels[1:].tolist() == [0, 1]
    assert not pseudo_labels(torch.tensor([[0.0, 1.0]]), 1.0).mask.any()
