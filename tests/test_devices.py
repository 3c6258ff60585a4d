"""Precision follows from what the processor is, and is said beside the results."""

import json

import pytest
import torch

from stages.plumbing.errors import UserError
from stages.training import devices, processes

WITHOUT = {"avx512_f": True, "avx512_bf16": False, "amx_bf16": False}


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    monkeypatch.delenv("PRECISION", raising=False)
    devices.precision.cache_clear()
    yield
    devices.precision.cache_clear()


@pytest.mark.parametrize(
    ("has", "expected"), [({}, "float32"), ({"avx512_bf16": True}, "bfloat16"), ({"amx_bf16": True}, "bfloat16")]
)
@pytest.mark.parametrize("count", [1, 2])
def test_it_follows_from_the_units_however_many_processes_there_are(monkeypatch, has, expected, count):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: WITHOUT | has, raising=False)
    for name, value in {"RANK": 0, "LOCAL_RANK": 0, "WORLD_SIZE": count, "MASTER_ADDR": "x", "MASTER_PORT": 1}.items():
        monkeypatch.setenv(name, str(value))
    assert devices.precision() == expected
    with devices.mixed_precision():
        assert (torch.ones(2, 2) @ torch.ones(2, 2)).dtype == getattr(torch, expected)
    assert devices.computed()["precision"] == expected
    units = [name for name in has if name in devices.computed()["processor"].split()]
    assert units == list(has), "units say of bfloat16 how it was computed"


def test_older_torch_is_asked_in_its_way(monkeypatch):
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert devices.bfloat16_units() == ["amx_bf16"]


@pytest.mark.parametrize("wanted", ["float32", "bfloat16"])
def test_the_environment_decides_where_it_is_set(monkeypatch, wanted):
    monkeypatch.setenv("PRECISION", wanted)
    assert devices.precision() == wanted


def test_a_misspelt_precision_is_told(monkeypatch):
    monkeypatch.setenv("PRECISION", "bf16")
    with pytest.raises(UserError, match="PRECISION=bf16: expected float32 or bfloat16, or unset it"):
        devices.precision()


def test_what_computes_is_said_before_anything_is_computed(monkeypatch, capsys):
    monkeypatch.setenv("PRECISION", "float32")
    processes.run(lambda: print("work"))
    first, *_, last = capsys.readouterr().out.splitlines()  # on a busy machine what helps is said, too
    assert first.startswith("computing in float32 on cpu (")
    assert last == "work"


@pytest.mark.parametrize(("load", "threads", "said"), [(9.0, 2, True), (0.5, 2, False), (9.0, 1, False)])
def test_a_busy_machine_is_told_what_helps(monkeypatch, capsys, load, threads, said):
    monkeypatch.setattr(processes.os, "getloadavg", lambda: (load, 0, 0))
    monkeypatch.setattr(processes.os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    monkeypatch.setattr(torch, "get_num_threads", lambda: threads)
    processes.run(lambda: None)
    assert ("OMP_NUM_THREADS=1 may be" in capsys.readouterr().out) == said


def test_what_computes_can_be_written_as_json():
    assert json.loads(json.dumps(devices.computed())) == devices.computed()
