import numpy as np
import pytest
import torch
from PIL import Image, ImageEnhance, ImageOps
from pydantic import ValidationError

from stages.images.strong import OPERATIONS, RECOLOURINGS, StrongSettings, StrongViews, apply

NAMES = list(OPERATIONS)
MOVES = ["rotate", "shear_x", "shear_y", "translate_x", "translate_y"]
MIXES = ["colour", "contrast", "brightness", "sharpness"]
SIZES = [(32, 32), (28, 28), (17, 40), (5, 3), (2, 7), (1, 1)]


@pytest.fixture(autouse=True, scope="module")
def _one_thread():
    # Tensors here are small: on a busy machine, threads would wait for each other far longer than they work.
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def warp(image, *coefficients):
    return image.transform(image.size, Image.Transform.AFFINE, coefficients)


PILLOW = {
    "identity": lambda image, m: image,
    "autocontrast": lambda image, m: ImageOps.autocontrast(image),
    "equalize": lambda image, m: ImageOps.equalize(image),
    "solarize": ImageOps.solarize,
    "colour": lambda image, m: ImageEnhance.Color(image).enhance(m),
    "contrast": lambda image, m: ImageEnhance.Contrast(image).enhance(m),
    "brightness": lambda image, m: ImageEnhance.Brightness(image).enhance(m),
    "sharpness": lambda image, m: ImageEnhance.Sharpness(image).enhance(m),
    "posterize": lambda image, m: ImageOps.posterize(image, int(m)),
    "rotate": lambda image, m: image.rotate(m),
    "shear_x": lambda image, m: warp(image, 1, m, 0, 0, 1, 0),
    "shear_y": lambda image, m: warp(image, 1, 0, 0, m, 1, 0),
    "translate_x": lambda image, m: warp(image, 1, 0, m * image.width, 0, 1, 0),
    "translate_y": lambda image, m: warp(image, 1, 0, 0, 0, 1, m * image.height),
}


def to_pillow(image):
    return Image.fromarray(np.ascontiguousarray(image.permute(1, 2, 0).squeeze(2).numpy()))


def from_pillow(image):
    return torch.from_numpy(np.array(image)).view(image.height, image.width, -1).permute(2, 0, 1)


def pictures(n, channels, height, width, seed=0):
    """Noise of every contrast and brightness, per channel; among them constants and two-valued images."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.rand(n, channels, height, width, generator=generator)
    contrast = torch.rand(n, 1, 1, 1, generator=generator)
    base = torch.rand(n, channels, 1, 1, generator=generator) * (1 - contrast)
    images = (256 * (base + contrast * noise)).floor().clamp(0, 255).to(torch.uint8)
    images[0] = 77
    images[1, -1] = 200
    images[2] = images[2] // 128 * 255
    return images


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def make(channels=3, flip=0.0, padding=0, operations=0, cutout=0):
    """Views in units of pixel values: (x / 255 - mean) / std is x for mean 0 and std 1 / 255."""
    settings = StrongSettings(flip=flip, padding=padding, operations=operations, cutout=cutout)
    return StrongViews(settings, [0.0] * channels, [1 / 255] * channels)


def operate(name, images, magnitude):
    """Images by one operation, at a magnitude each."""
    return apply(images, torch.full((len(images), 1), NAMES.index(name)), magnitude[:, None])


# Each operation against Pillow


def test_reference_covers_the_fourteen_operations():
    assert set(PILLOW) == set(OPERATIONS)
    assert len(OPERATIONS) == 14
    assert list(RECOLOURINGS) == NAMES[: -len(MOVES)]


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", NAMES)
def test_operation_gives_pillows_pixels(name, channels):
    low, high = OPERATIONS[name]
    for height, width in SIZES:
        images = pictures(21, channels, height, width)
        # Both ends of the range are included; shuffled, as magnitudes in order would fit images in order too well.
        magnitude = torch.linspace(low, high, 21)[torch.randperm(21, generator=seeded())]
        if (height, width) == (5, 3):
            magnitude = (
                magnitude * 0.99
            )  # a tenth of five pixels is half a pixel: which one is nearest is anyone's guess
        before = images.clone()
        mine = operate(name, images, magnitude)
        assert mine.dtype == torch.uint8
        assert mine.shape == images.shape
        assert torch.equal(images, before)
        theirs = torch.stack([from_pillow(PILLOW[name](to_pillow(i), m.item())) for i, m in zip(images, magnitude)])
        difference = (mine.int() - theirs.int()).abs()
        if name in MOVES:  # where a sine ends half-way between two fixed-point numbers, libraries may differ
            assert (difference > 0).float().mean() <= 0.001
        elif name in MIXES:  # Pillow's compiler may fuse multiply and add
            assert difference.max() <= 1
            assert (difference > 0).float().mean() <= 0.0003
        else:
            assert difference.max() == 0


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("identity", "colour")])
def test_operation_changes_the_image(name):
    low, high = OPERATIONS[name]
    images = pictures(8, 1, 32, 32)[3:]
    assert (operate(name, images, torch.full((5,), low + 0.1 * (high - low))) != images).flatten(1).any(1).all()


def test_colour_changes_three_channels_and_leaves_one():
    rgb, grey = pictures(8, 3, 9, 9)[3:], pictures(8, 1, 9, 9)
    assert (operate("colour", rgb, torch.full((5,), 0.5)) != rgb).flatten(1).any(1).all()
    assert torch.equal(operate("colour", grey, torch.full((8,), 0.5)), grey)


@pytest.mark.parametrize("name", ["autocontrast", "equalize", "contrast", "sharpness", "colour"])
def test_constant_image_stays_as_it_is(name):
    images = torch.arange(0, 256, 15, dtype=torch.uint8).view(-1, 1, 1, 1).repeat(1, 3, 11, 6)
    assert torch.equal(operate(name, images, torch.full((len(images),), 0.3)), images)


# Several rounds


@pytest.mark.parametrize(("channels", "height", "width"), [(1, 28, 28), (3, 32, 32), (3, 17, 40)])
def test_rounds_agree_with_pillow_one_after_the_other(channels, height, width):
    images = pictures(160, channels, height, width)
    views = make(channels, flip=0.5, padding=3, operations=4)
    draws = views.draw(160, seeded())
    theirs = []
    for image, flip, (x, y), operation, magnitude, *_ in zip(images, *draws):
        image = to_pillow(image)
        if flip:
            image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
        image = image.crop((x.item(), y.item(), x.item() + width, y.item() + height))
        for place, m in zip(operation, magnitude):
            image = PILLOW[NAMES[place]](image, m.item())
        theirs.append(from_pillow(image))
    mine = views(images, draws)
    # The tolerances above may grow when an operation meets another's result; on most machines all pixels are equal.
    assert ((mine - torch.stack(theirs)).abs() > 0.01).float().mean() <= 0.005


def test_slices_of_draws_are_slices_of_the_result():
    images = pictures(50, 3, 16, 16)
    views = make(flip=0.5, padding=2, operations=4, cutout=8)
    draws = views.draw(50, seeded())
    whole = views(images, draws)
    for start, stop in [(0, 25), (25, 50), (7, 8), (0, 50)]:
        assert torch.equal(views(images[start:stop], draws.slice(start, stop)), whole[start:stop])


# Randomness


def test_equal_images_get_different_views():
    images = pictures(4, 3, 32, 32)[3:].repeat(60, 1, 1, 1)
    views = make(operations=4)
    assert len(views(images, views.draw(60, seeded())).unique(dim=0)) >= 55


def test_views_follow_the_generator_and_nothing_else():
    images = pictures(30, 3, 16, 16)
    views = make(flip=0.5, padding=2, operations=4, cutout=8)
    torch.manual_seed(1)
    first = views(images, views.draw(30, seeded(5)))
    torch.manual_seed(2)
    assert torch.equal(views(images, views.draw(30, seeded(5))), first)
    assert not torch.equal(views(images, views.draw(30, seeded(6))), first)
    generator = seeded(5)
    views.draw(30, generator)
    assert not torch.equal(views(images, views.draw(30, generator)), first)


@pytest.mark.parametrize("operations", [0, 1, 4])
def test_draws_have_one_row_per_image_on_the_cpu(operations):
    draws = make(operations=operations).draw(9, seeded())
    assert all(len(part) == 9 and part.device.type == "cpu" for part in draws)
    assert draws.operation.shape == draws.magnitude.shape == (9, operations)
    assert all(len(part) == 3 for part in draws.slice(2, 5))


def test_operations_are_drawn_equally_often_and_with_replacement():
    operation = make(operations=4).draw(20_000, seeded()).operation
    for column in operation.T:
        share = column.bincount(minlength=14) / 20_000
        assert (share * 14 - 1).abs().max() < 0.12  # 4.5 standard deviations
    twice = (operation.sort(1).values.diff(dim=1) == 0).any(1).float().mean().item()
    assert twice == pytest.approx(1 - 13 * 12 * 11 / 14**3, abs=0.02)


@pytest.mark.parametrize("name", NAMES)
def test_magnitudes_cover_their_range_uniformly(name):
    low, high = OPERATIONS[name]
    draws = make(operations=4).draw(20_000, seeded())
    magnitude = draws.magnitude[draws.operation == NAMES.index(name)]
    assert low <= magnitude.min() <= low + 0.01 * (high - low)
    assert high - 0.01 * (high - low) <= magnitude.max() <= high
    if high > low:
        share = torch.histc(magnitude, bins=5, min=low, max=high) / len(magnitude)
        assert (share - 0.2).abs().max() < 0.03


def test_magnitudes_of_one_image_are_independent():
    draws = make(operations=2).draw(20_000, seeded())
    low, high = torch.tensor([*OPERATIONS.values()]).T
    ranged = (high > low)[draws.operation].all(1)
    share = ((draws.magnitude - low[draws.operation]) / (high - low)[draws.operation])[ranged]
    assert torch.corrcoef(share.T)[0, 1].abs() < 0.04


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [("rotate", -30, 30), ("solarize", 0, 256), ("posterize", 4, 8), ("sharpness", 0.05, 0.95), ("shear_y", -0.1, 0.1)],
)
def test_ranges_are_the_papers(name, low, high):
    assert OPERATIONS[name] == (low, high)


# Flip, crop and cutout


def test_flip_mirrors_its_share_of_images():
    images = pictures(2000, 3, 5, 4)
    assert torch.equal(make(flip=1.0)(images, make(flip=1.0).draw(2000, seeded())), images.flip(3).float())
    views = make(flip=0.25)
    draws = views.draw(2000, seeded())
    assert draws.flip.float().mean().item() == pytest.approx(0.25, abs=0.04)
    expected = torch.where(draws.flip.view(-1, 1, 1, 1), images.flip(3), images)
    assert torch.equal(views(images, draws), expected.float())


def test_padding_gives_every_window_of_the_padded_image():
    image = torch.arange(1, 31, dtype=torch.uint8).view(1, 1, 6, 5)
    padded = torch.zeros(10, 9)
    padded[2:-2, 2:-2] = image
    windows = {tuple(padded[y : y + 6, x : x + 5].flatten().tolist()): 0 for y in range(5) for x in range(5)}
    views = make(channels=1, padding=2)
    for view in views(image.repeat(1000, 1, 1, 1), views.draw(1000, seeded())):
        windows[tuple(view.flatten().tolist())] += 1  # fails for what is no window
    assert len(windows) == 25
    assert min(windows.values()) > 15  # 40 are expected


def test_padding_wider_than_the_image_may_leave_nothing():
    views = make(channels=1, padding=50)
    result = views(torch.full((200, 1, 4, 4), 9, dtype=torch.uint8), views.draw(200, seeded()))
    assert set(result.unique().tolist()) == {0.0, 9.0}


def test_cutout_cuts_squares_of_every_side_and_fills_with_the_mean():
    settings = StrongSettings(flip=0.0, padding=0, operations=0, cutout=6)
    views = StrongViews(settings, [0.5, 0.4, 0.3], [0.2, 0.2, 0.1])
    images = torch.full((3000, 3, 20, 23), 255, dtype=torch.uint8)
    draws = views.draw(3000, seeded())
    result = views(images, draws)
    plain = torch.tensor([2.5, 3.0, 7.0]).view(3, 1, 1).expand_as(result)
    hole = result == 0
    assert torch.allclose(result[~hole], plain[~hole])
    assert torch.equal(hole, hole[:, :1].expand_as(hole))
    rows, columns = hole[:, 0].any(2), hole[:, 0].any(1)
    assert torch.equal(hole[:, 0], rows[:, :, None] & columns[:, None, :])  # a rectangle
    height, width = rows.sum(1), columns.sum(1)
    inside = ~(rows[:, 0] | rows[:, -1] | columns[:, 0] | columns[:, -1])
    assert torch.equal(height[inside], width[inside])
    assert torch.equal(height[inside], draws.side[inside])
    assert inside.float().mean() > 0.5
    middle = (torch.arange(20) * rows[inside]).sum(1) / height[inside]
    assert (middle - (draws.centre[inside, 1] * 20).floor()).abs().max() <= 0.5
    share = draws.side.bincount(minlength=7) / 3000
    assert share[0] == 0
    assert len(share) == 7
    assert (share[1:] - 1 / 6).abs().max() < 0.03
    # Every pixel is the middle of a hole about equally often, the corners included.
    ones = hole[draws.side == 1, 0]
    assert (ones.flatten(1).sum(1) == 1).all()
    halves = ones.float().sum(0)
    assert halves[:10].sum().item() == pytest.approx(halves.sum().item() / 2, rel=0.2)
    assert hole[:, 0].any(0).all()


def test_cutout_larger_than_the_image():
    views = make(channels=1, cutout=40)
    result = views(torch.full((300, 1, 8, 8), 9, dtype=torch.uint8), views.draw(300, seeded()))
    emptied = (result == 0).flatten(1).all(1)
    assert emptied.any()
    assert not emptied.all()


# Form


@pytest.mark.parametrize("channels", [1, 3])
def test_nothing_to_do_is_the_normalised_image(channels):
    mean, std = [0.49, 0.48, 0.45][:channels], [0.2, 0.21, 0.22][:channels]
    views = StrongViews(StrongSettings(flip=0.0, padding=0, operations=0, cutout=0), mean, std)
    images = pictures(5, channels, 7, 9)
    expected = (images.double() / 255 - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    result = views(images, views.draw(5, seeded()))
    assert result.dtype == torch.float32
    assert torch.allclose(result.double(), expected, atol=1e-5)


@pytest.mark.parametrize(("batch", "channels", "height", "width"), [(1, 1, 28, 28), (1, 3, 9, 4), (40, 3, 33, 31)])
def test_views_are_float_of_the_same_shape_and_leave_the_images_alone(batch, channels, height, width):
    images = pictures(max(batch, 3), channels, height, width)[:batch]
    before = images.clone()
    views = make(channels, flip=0.5, padding=4, operations=4, cutout=16)
    draws = views.draw(batch, seeded())
    result = views(images, draws)
    assert result.dtype == torch.float32
    assert result.shape == images.shape
    assert torch.equal(images, before)
    assert torch.equal(views(images.contiguous(memory_format=torch.channels_last), draws), result)


@pytest.mark.parametrize(
    "change",
    [{"flip": 1.5}, {"flip": float("nan")}, {"padding": -1}, {"operations": 2.0}, {"cutout": "16"}, {"blur": 1}],
)
def test_settings_reject_what_makes_no_sense(change):
    good = {"flip": 0.5, "padding": 4, "operations": 4, "cutout": 16}
    StrongSettings(**good)
    with pytest.raises(ValidationError):
        StrongSettings(**{**good, **change})
