"""A device that is not there: finds tensors that are made on, or left on, the wrong one, on a machine without a GPU.

Within `pretend_device`, ``cuda`` exists. Its tensors lie in the memory of the processor, and everything is computed
there, but a function that is given tensors of both devices fails as on a GPU, and so does NumPy.
"""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from unittest import mock

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode, get_default_nowrap_functions
from torch.utils._pytree import tree_leaves, tree_map

CUDA = torch.device("cuda", 0)
_GET_DEVICE = Tensor.device.__get__
# What PyTorch allows of tensors on the processor: to index by them, and to copy from and to them.
_MIXING = {Tensor.__getitem__, Tensor.__setitem__, Tensor.copy_, torch.nn.init.uniform_}


class Pretended(Tensor):
    """A tensor on the device that is not there."""

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function == _GET_DEVICE:
            return CUDA
        if function in (Tensor.numpy, Tensor.__array__):
            raise TypeError("can't convert a tensor of cuda:0 to numpy: copy it to the processor first")
        tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        strays = [tensor for tensor in tensors if not isinstance(tensor, Pretended) and tensor.dim()]
        if strays and function not in _MIXING:
            raise RuntimeError(f"{function.__name__}: tensors on cuda:0 and on cpu: {list(strays[0].shape)}")
        with torch._C.DisableTorchFunctionSubclass():
            found = function(*args, **kwargs)
        if function in get_default_nowrap_functions() or function is Tensor.tolist:
            return found
        return tree_map(lambda leaf: _wrapped(leaf) if type(leaf) is Tensor else leaf, found)


def _wrapped(tensor: Tensor) -> Tensor:
    return tensor.as_subclass(Pretended)


def _plain(tensor: Tensor) -> Tensor:
    with torch._C.DisableTorchFunctionSubclass():
        return tensor.as_subclass(Tensor)


def _is_cuda(value: object) -> bool:
    return isinstance(value, (str, torch.device)) and torch.device(value).type == "cuda"


class _Mode(TorchFunctionMode):
    """Sends what is made on, or moved to, the device there and back."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if function in (Tensor.to, Tensor.cpu, Tensor.cuda):
            return self._moved(function, args, kwargs)
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = "cpu"
            made = function(*args, **kwargs)
            return tree_map(lambda leaf: _wrapped(leaf) if isinstance(leaf, Tensor) else leaf, made)
        return function(*args, **kwargs)

    def _moved(self, function, args: tuple, kwargs: dict) -> Tensor:
        tensor, *others = args
        if function is Tensor.cpu:
            return _plain(tensor)
        targets = [*others, *kwargs.values()]
        like = next((target for target in targets if isinstance(target, Tensor)), None)
        named = next((target for target in targets if isinstance(target, (str, torch.device))), None)
        there = isinstance(tensor, Pretended)
        if function is Tensor.cuda or like is not None or named is not None:
            there = function is Tensor.cuda or isinstance(like, Pretended) or (like is None and _is_cuda(named))
        others = ["cpu" if _is_cuda(one) else _plain(one) if isinstance(one, Tensor) else one for one in others]
        kwargs = {key: "cpu" if _is_cuda(one) else one for key, one in kwargs.items()}
        with torch._C.DisableTorchFunctionSubclass():
            moved = tensor.as_subclass(Tensor)
            if function is not Tensor.cuda:
                moved = moved.to(*others, **kwargs)
        return _wrapped(moved) if there else moved


def _move(module: nn.Module, device: object = None, *args: object, **kwargs: object) -> nn.Module:
    """`nn.Module.to` for a device."""
    there = _is_cuda(device)
    for part in module.modules():
        for kept in (part._parameters, part._buffers):
            for name, tensor in kept.items():
                if tensor is None:
                    continue
                plain = _plain(tensor.detach())
                moved = _wrapped(plain) if there else plain
                if isinstance(tensor, nn.Parameter):
                    moved = nn.Parameter(moved, tensor.requires_grad)
                kept[name] = moved
    return module


def _at_once(pool: ThreadPoolExecutor, work: Callable, *args: object, **kwargs: object) -> Future:
    """`ThreadPoolExecutor.submit` in the caller's thread: the mode is that thread's alone."""
    future: Future = Future()
    try:
        future.set_result(work(*args, **kwargs))
    except Exception as error:
        future.set_exception(error)
    return future


@contextmanager
def pretend_device() -> Iterator[torch.device]:
    """The device, which is there within."""
    with (
        mock.patch.object(nn.Module, "to", _move),
        mock.patch.object(ThreadPoolExecutor, "submit", _at_once),
        mock.patch("torch.cuda.is_available", lambda: True),
        _Mode(),
    ):
        yield CUDA
