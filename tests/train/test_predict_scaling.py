from __future__ import annotations

from pathlib import Path

import pytest

from scripts.predict_scaling import Scaling, fitted, main, predict, ring
from vgg_deploy import jsonio


def test_the_fit_finds_what_the_model_was_made_of() -> None:
    times = {size: ring(2, size, 1e-4, 5e9) for size in (1 << 12, 1 << 20, 1 << 25)}
    assert fitted(times, 2) == pytest.approx((1e-4, 5e9))


def test_bounds() -> None:
    rows = predict(step=1.0, backward=0.5, size=1e9, latency=0.0, bandwidth=1e9)
    assert (rows[0].speedup_nothing_hidden, rows[0].speedup_all_hidden) == (1, 1)
    two = rows[1]
    assert two.speedup_nothing_hidden == pytest.approx(2 / 2)  # 1 s of exchange beside 1 s
    assert two.speedup_all_hidden == pytest.approx(2 / 1.5)
    assert all(r.speedup_nothing_hidden <= r.speedup_all_hidden <= r.processes for r in rows)


@pytest.mark.slow
def test_it_measures(tmp_path: Path) -> None:
    small = ["--width", "0.02", "--size", "32", "--batch", "4", "--steps", "2"]
    main([*small, "-o", str(tmp_path / "s.json")])
    found = jsonio.load(Scaling, tmp_path / "s.json")
    assert found.step_ms > found.backward_ms > 0
    assert found.two_processes_speedup > 0
    assert found.beside_step_ms
    assert found.beside_step_ms > 0


def test_the_file_on_record_is_read() -> None:
    """Older files do not tell of two processes that exchange nothing."""
    record = Path(__file__).parents[2] / "docs" / "results" / "scaling.json"
    found = jsonio.load(Scaling, record)
    assert found.two_processes_step_ms > found.step_ms
