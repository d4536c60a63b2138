from __future__ import annotations

from dataclasses import replace

import pytest

from vgg_deploy.train.recipes import RECIPES, learning_rate


def test_the_book_is_the_book() -> None:
    book = RECIPES["book"]
    assert (book.init, book.lr, book.batch) == ("xavier-uniform", 0.05, 128)
    assert (book.schedule, book.momentum, book.weight_decay) == ("constant", 0, 0)
    assert (book.dropout, book.normalise, book.label_smoothing) == (0.5, False, 0)


def test_names_are_keys() -> None:
    assert [recipe.name for recipe in RECIPES.values()] == list(RECIPES)


def test_constant() -> None:
    assert {learning_rate(RECIPES["book"], 0.3, p / 10) for p in range(11)} == {0.3}


def test_one_cycle() -> None:
    recipe = replace(RECIPES["book"], schedule="one-cycle", warm_up=0.25)
    rates = [learning_rate(recipe, 0.4, p / 100) for p in range(101)]
    assert rates[0] == 0
    assert rates[25] == max(rates) == pytest.approx(0.4)
    assert rates[:26] == sorted(rates[:26])
    assert rates[25:] == sorted(rates[25:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


def test_one_cycle_without_warm_up() -> None:
    recipe = replace(RECIPES["book"], schedule="one-cycle", warm_up=0.0)
    assert learning_rate(recipe, 0.4, 0.0) == pytest.approx(0.4)
