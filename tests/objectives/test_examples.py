"""The examples in the docstrings of objectives run, and every public function of tensors has one."""

import doctest
import inspect
import pkgutil
from importlib import import_module

import pytest
import torch

import avlearn.objectives

MODULES = [f"avlearn.objectives.{module.name}" for module in pkgutil.iter_modules(avlearn.objectives.__path__)]


@pytest.mark.parametrize("name", ["avlearn.objectives", *MODULES])
def test_examples_print_what_they_say(name):
    torch.manual_seed(0)
    names = {"torch": torch}
    assert doctest.testmod(import_module(name), extraglobs=names).failed == 0


def test_every_loss_has_an_example():
    public = [
        function
        for name in MODULES
        for function in vars(import_module(name)).values()
        if inspect.isfunction(function) and function.__module__ == name and not function.__name__.startswith("_")
    ]
    assert len(public) > 20
    without = {function.__name__ for function in public if ">>>" not in (function.__doc__ or "")}
    assert without == {"cam", "clip_vectors", "time_means", "zero_gradient", "register"}
