"""SimCLR's views: every part against a slow or a well-known version, and a draw for every image."""

import colorsys

import numpy as np
import pytest
import torch
import torchvision.transforms.v2.functional as tv
from PIL import Image, ImageEnhance
from scipy import ndimage

from stages.images.views import PlainView, SimCLRViews, ViewSettings, blur, recolour, sample

NONE = {
    "crop_area": [1.0, 1.0], "crop_ratio": [1.0, 1.0], "zoom": [1.0, 1.0], "shift_x": 0.0, "shift_y": 0.0,
    "flip": 0.0, "jitter": 0.0, "brightness": 0.0, "contrast": 0.0, "saturation": 0.0, "hue": 0.0, "grayscale": 0.0,
    "blur": 0.0, "blur_sigma": [0.1, 1.0],
}  # fmt: skip
PAPER = {
    **NONE, "crop_area": [0.2, 1.0], "crop_ratio": [0.75, 1.3333], "flip": 0.5, "jitter": 0.8, "brightness": 0.4,
    "contrast": 0.4, "saturation": 0.4, "hue": 0.1, "grayscale": 0.2,
}  # fmt: skip
OBJECTS = {**NONE, "zoom": [0.8, 1.1], "shift_y": 0.07, "jitter": 1.0, "brightness": 0.5, "blur": 0.5}


def views(channels=3, **changes):
    return SimCLRViews(ViewSettings(**{**NONE, **changes}), [0.0] * channels, [1 / 255] * channels)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def pictures(n, channels=3, height=32, width=32, seed=0):
    """Smooth random pictures, as interpolation expects them; uint8 (n, C, H, W)."""
    noise = np.random.default_rng(seed).normal(size=(n, channels, height, width))
    smooth = ndimage.gaussian_filter(noise, (0, 0, 2, 2))
    smooth = (smooth - smooth.min()) / (smooth.max() - smooth.min())
    return torch.from_numpy((255 * smooth).astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("height", "width"), [(32, 32), (7, 7), (9, 13)])
def test_nothing_asked_is_nothing_done(channels, height, width):
    images = pictures(3, channels, height, width)
    view = views(channels)
    torch.testing.assert_close(view(images, view.draw(3, seeded())), images.float(), atol=2e-3, rtol=0)


@pytest.mark.parametrize("settings", [PAPER, OBJECTS])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("side", [5, 28, 33])
def test_views_have_shape_and_type_and_differ_per_image(settings, channels, side):
    images = pictures(1, channels, side, side).expand(16, -1, -1, -1)
    view = SimCLRViews(ViewSettings(**settings), [0.5] * channels, [0.25] * channels)
    out = view(images, view.draw(16, seeded()))
    assert out.shape == (16, channels, side, side)
    assert out.dtype == torch.float32
    assert torch.isfinite(out).all()
    distances = torch.cdist(out.flatten(1), out.flatten(1)) + torch.eye(16) * 1e9
    assert distances.min() > 0, "two images of a batch got the same view"


def test_views_come_from_the_generator_alone_and_can_be_drawn_for_all_and_applied_in_parts():
    images = pictures(10)
    view = SimCLRViews(ViewSettings(**PAPER), [0.5] * 3, [0.25] * 3)
    whole = view(images, view.draw(10, seeded(3)))
    torch.manual_seed(99)
    draws = view.draw(10, seeded(3))
    torch.testing.assert_close(view(images, draws), whole, rtol=0, atol=0)
    parts = [view(images[a:b], draws.slice(a, b)) for a, b in ((0, 4), (4, 10))]
    torch.testing.assert_close(torch.cat(parts), whole, rtol=0, atol=1e-4)
    assert not torch.equal(view(images, view.draw(10, seeded(4))), whole)


def test_images_are_left_as_they_were():
    images = pictures(4)
    before = images.clone()
    view = views(**{**PAPER, "blur": 1.0})
    view(images, view.draw(4, seeded()))
    assert torch.equal(images, before)


def test_a_crop_is_cut_and_stretched_as_torchvision_does():
    images = pictures(1, height=32, width=32)
    top, left, height, width = 4, 8, 16, 12
    window = torch.tensor([[(2 * left + width) / 32 - 1, (2 * top + height) / 32 - 1, width / 32, height / 32]])
    inside = torch.tensor(
        [[2 * left / 32 - 1, 2 * top / 32 - 1, 2 * (left + width) / 32 - 1, 2 * (top + height) / 32 - 1]]
    )
    expected = tv.resized_crop(images.float(), top, left, height, width, [32, 32], antialias=False)
    torch.testing.assert_close(sample(images.float(), window, inside), expected, atol=1e-2, rtol=0)


def test_crops_keep_the_asked_share_and_stay_inside():
    draws = views(crop_area=[0.2, 1.0], crop_ratio=[0.75, 1.3333]).draw(4000, seeded())
    x, y, width, height = draws.window.unbind(1)
    area = width * height
    assert 0.2 - 1e-6 <= area.min() < 0.22
    assert area.max() <= 1
    assert area.mean() == pytest.approx(0.6, abs=0.03)
    assert (x.abs() + width <= 1 + 1e-6).all()
    assert (y.abs() + height <= 1 + 1e-6).all()


def test_flip_mirrors_about_half_of_the_images():
    images = pictures(200)
    view = views(flip=0.5)
    out = view(images, view.draw(200, seeded()))
    same = (out - images).abs().amax(dim=(1, 2, 3)) < 0.01
    mirrored = (out - images.flip(3)).abs().amax(dim=(1, 2, 3)) < 0.01
    assert (same | mirrored).all()
    assert 70 < mirrored.sum() < 130


def test_zoom_below_one_shrinks_with_black_around():
    images = torch.full((1, 1, 20, 20), 200, dtype=torch.uint8)
    view = views(1, zoom=[0.5, 0.5])
    out = view(images, view.draw(1, seeded()))[0, 0]
    assert (out > 100).sum() == 100
    assert out[0].max() == 0
    assert out[10, 10] == pytest.approx(200, abs=1e-3)


def test_shift_moves_up_and_down_only_by_the_asked_share():
    images = torch.zeros(300, 1, 21, 21, dtype=torch.uint8)
    images[:, :, 10, 10] = 255
    view = views(1, shift_y=0.2)
    out = view(images, view.draw(300, seeded()))[:, 0]
    rows = (out.sum(2) * torch.arange(21)).sum(1) / out.sum((1, 2))
    columns = (out.sum(1) * torch.arange(21)).sum(1) / out.sum((1, 2))
    assert (columns - 10).abs().max() < 1e-3
    assert 3.8 < (rows - 10).abs().max() <= 0.2 * 21 + 1e-3


@pytest.mark.parametrize("channels", [1, 3])
def test_blur_is_a_gaussian_filter_for_each_image_of_its_own_sigma(channels):
    images = pictures(3, channels, 16, 19).float()
    sigma = torch.tensor([0.0, 0.6, 1.7])
    out = blur(images, sigma, largest=2.0)
    assert torch.equal(out[0], images[0])
    for row in (1, 2):
        expected = images[row].numpy()
        for axis in (1, 2):
            expected = ndimage.gaussian_filter1d(expected, float(sigma[row]), axis=axis, mode="nearest", radius=5)
        np.testing.assert_allclose(out[row].numpy(), expected, atol=1e-2)


def test_blur_of_images_smaller_than_its_kernel():
    out = blur(torch.full((2, 1, 3, 3), 7.0), torch.tensor([2.0, 2.0]), largest=2.0)
    torch.testing.assert_close(out, torch.full((2, 1, 3, 3), 7.0))


@pytest.mark.parametrize("position", [0, 1, 2])
@pytest.mark.parametrize("factor", [0.6, 1.0, 1.4])
def test_brightness_contrast_saturation_follow_pillow(position, factor):
    image = pictures(1)[0] // 2 + 40  # far from the ends, where Pillow would clip
    enhancer = [ImageEnhance.Brightness, ImageEnhance.Contrast, ImageEnhance.Color][position]
    expected = np.asarray(enhancer(Image.fromarray(image.permute(1, 2, 0).numpy())).enhance(factor), dtype=np.float32)
    colour = torch.ones(1, 3)
    colour[0, position] = factor
    got = recolour(image[None].float(), colour, torch.zeros(1))[0].permute(1, 2, 0).numpy()
    np.testing.assert_allclose(got, expected, atol=1.6)  # Pillow rounds grey and result to whole numbers


def test_contrast_and_brightness_of_one_channel():
    image = torch.tensor([[[[100.0, 200.0]]]])
    got = recolour(image, torch.tensor([[0.5, 0.8, 0.0]]), torch.zeros(1))
    torch.testing.assert_close(got, torch.tensor([[[[0.5 * (100 * 0.8 + 150 * 0.2), 0.5 * (200 * 0.8 + 150 * 0.2)]]]]))


def test_saturation_zero_is_grey():
    grey = recolour(pictures(2).float(), torch.tensor([[1.0, 1.0, 0.0]]).expand(2, 3), torch.zeros(2))
    torch.testing.assert_close(grey[:, 0], grey[:, 1], atol=1e-3, rtol=0)
    torch.testing.assert_close(grey[:, 0], grey[:, 2], atol=1e-3, rtol=0)


@pytest.mark.parametrize("turn", [-0.1, 0.05, 0.1])
def test_hue_turns_pure_colours_about_as_far_as_hsv_does(turn):
    image = torch.tensor([160.0, 90.0, 90.0]).view(1, 3, 1, 1)
    turned = recolour(image, torch.ones(1, 3), torch.tensor([turn]))[0, :, 0, 0] / 255
    before, after = colorsys.rgb_to_hsv(160, 90, 90)[0], colorsys.rgb_to_hsv(*turned.tolist())[0]
    moved = (after - before + 0.5) % 1 - 0.5
    assert abs(moved) == pytest.approx(abs(turn), abs=0.05)
    luma = torch.tensor([0.299, 0.587, 0.114])
    assert (turned @ luma).item() == pytest.approx(float(image.flatten() @ luma) / 255, abs=1e-3)


def test_colours_stay_in_range():
    view = views(**{**PAPER, "jitter": 1.0, "brightness": 1.0, "contrast": 1.0})
    out = view(pictures(32), view.draw(32, seeded()))
    assert out.min() >= 0
    assert out.max() <= 255.01


def test_probabilities_are_met():
    draws = views(jitter=0.8, brightness=0.4, grayscale=0.2, blur=0.5).draw(5000, seeded())
    assert (draws.colour[:, 0] != 1).float().mean() == pytest.approx(0.8, abs=0.02)
    assert (draws.colour[:, 2] == 0).float().mean() == pytest.approx(0.2, abs=0.02)
    assert (draws.sigma > 0).float().mean() == pytest.approx(0.5, abs=0.02)


def test_plain_view_normalises():
    images = pictures(2)
    mean, std = [0.5, 0.4, 0.3], [0.1, 0.2, 0.3]
    expected = (images.double() / 255 - torch.tensor(mean).view(3, 1, 1)) / torch.tensor(std).view(3, 1, 1)
    torch.testing.assert_close(PlainView(mean, std)(images).double(), expected, atol=1e-4, rtol=1e-4)
