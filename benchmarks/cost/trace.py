"""The passes that a step really makes, recorded as they happen, and the same passes made again alone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

__all__ = ["Trace", "recorded", "replay"]


@dataclass
class _Forward:
    """One call of a network: what it was called with (detached), and whether a graph was built."""

    network: nn.Module
    arguments: tuple[Any, ...]
    options: dict[str, Any]
    graph: bool
    plain: bool
    """Whether attention had to be in its plain form, as a second derivative needs it."""
    ends: list[Any] = field(default_factory=list)


@dataclass
class _Backward:
    """One call of autograd: where it began, what it differentiated by, and the calls it went back through."""

    roots: list[Any]
    inputs: list[nn.Parameter]
    create_graph: bool
    seconds: float = 0.0
    through: list[int] = field(default_factory=list)


@dataclass
class Trace:
    """The events of one step in order; forwards and backwards are counted for the whole batch, as calls."""

    events: list[_Forward | _Backward] = field(default_factory=list)

    def calls(self, network: nn.Module) -> tuple[int, int]:
        """How often a network was run forwards, and backwards."""
        own = {
            i for i, each in enumerate(self.events) if isinstance(each, _Forward) and each.network is network
        }
        back = sum(bool(own & set(each.through)) for each in self.events if isinstance(each, _Backward))
        return len(own), back

    def settle(self) -> None:
        """Find out what each backward went through, and let the step's graphs go."""
        ends = {
            end: i for i, each in enumerate(self.events) if isinstance(each, _Forward) for end in each.ends
        }
        for each in self.events:
            if isinstance(each, _Backward):
                each.through = sorted({ends[node] for node in _reached(each.roots) if node in ends})
                each.roots = []
        for each in self.events:
            if isinstance(each, _Forward):
                each.ends = []


@contextmanager
def recorded(
    networks: Iterable[nn.Module], clock: Callable[[], float] = time.perf_counter
) -> Iterator[Trace]:
    """Record every call of the networks, and of autograd with its seconds, inside the block; call `settle`
    after it.
    """
    trace = Trace()
    networks = list(networks)
    trained = [parameter for network in networks for parameter in network.parameters()]
    grad, backward = torch.autograd.grad, torch.autograd.backward

    def forward_of(network: nn.Module, original: Callable[..., Any]) -> Callable[..., Any]:
        def forward(*arguments: Any, **options: Any) -> Any:
            event = _Forward(
                network,
                tuple(_detached(each) for each in arguments),
                {name: _detached(each) for name, each in options.items()},
                torch.is_grad_enabled(),
                not torch.backends.cuda.flash_sdp_enabled(),
            )
            trace.events.append(event)
            found = original(*arguments, **options)
            event.ends = [tensor.grad_fn for tensor in _tensors(found) if tensor.grad_fn is not None]
            return found

        return forward

    def timed(event: _Backward, call: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        trace.events.append(event)
        begun = clock()
        found = call(*arguments, **options)
        event.seconds = clock() - begun
        return found

    def watched_grad(outputs: Any, inputs: Any, *more: Any, **options: Any) -> Any:
        roots = [tensor.grad_fn for tensor in _tensors(outputs) if tensor.grad_fn is not None]
        leaves = [each for each in _tensors(inputs) if isinstance(each, nn.Parameter)]
        return timed(
            _Backward(roots, leaves, bool(options.get("create_graph"))),
            grad,
            outputs,
            inputs,
            *more,
            **options,
        )

    def watched_backward(tensors: Any, *more: Any, **options: Any) -> Any:
        roots = [tensor.grad_fn for tensor in _tensors(tensors) if tensor.grad_fn is not None]
        leaves = [parameter for parameter in trained if parameter.requires_grad]
        return timed(
            _Backward(roots, leaves, bool(options.get("create_graph"))), backward, tensors, *more, **options
        )

    try:
        for network in networks:
            network.forward = forward_of(network, network.forward)
        torch.autograd.grad, torch.autograd.backward = watched_grad, watched_backward
        yield trace
    finally:
        torch.autograd.grad, torch.autograd.backward = grad, backward
        for network in networks:
            vars(network).pop("forward", None)


def replay(trace: Trace) -> float:
    """Make a settled trace's passes again, with the same inputs and nothing in between.

    Every network is called as it was; each backward runs from the mean square of what those calls put out to
    the same parameters, and to their inputs where those carried a graph. Returned are the seconds that the
    step spent in backwards which have no such call: from what was taken out of a network's middle
    (attention maps), or to layers that are hung on it (adapters).
    """
    left_out = 0.0
    results: dict[int, tuple[Tensor, list[Tensor]]] = {}
    slopes: list[Tensor] = []
    for index, event in enumerate(trace.events):
        if isinstance(event, _Forward):
            with torch.set_grad_enabled(event.graph), _attention(event.plain):
                leaves: list[Tensor] = []
                arguments = [_leaf(each, leaves) for each in event.arguments]
                options = {name: _leaf(each, leaves) for name, each in event.options.items()}
                found = event.network(*arguments, **options)
                out = [tensor for tensor in _tensors(found) if tensor.grad_fn is not None]
                if out:
                    results[index] = torch.stack([each.float().square().mean() for each in out]).sum(), leaves
            continue
        met = [results[i] for i in event.through if i in results]
        again = bool(slopes) and not event.create_graph
        start = sum(((each * each.detach()).sum() for each in slopes), torch.zeros(())) if again else None
        if start is None and met:
            start = torch.stack([loss for loss, _ in met]).sum()
        inputs = [*event.inputs, *(leaf for _, leaves in met for leaf in leaves)]
        if start is None or not inputs or start.grad_fn is None:
            left_out += event.seconds
            continue
        plain = any(
            isinstance(each, _Forward) and each.plain for each in (trace.events[i] for i in event.through)
        )
        with torch.enable_grad(), _attention(plain):
            found = torch.autograd.grad(start, inputs, create_graph=event.create_graph, allow_unused=True)
        slopes = (
            [each for each in found if each is not None and each.requires_grad] if event.create_graph else []
        )
        if not event.create_graph:
            for i in event.through:
                results.pop(i, None)
    return left_out


def _attention(plain: bool) -> Any:
    return sdpa_kernel(SDPBackend.MATH) if plain else nullcontext()


def _reached(roots: Sequence[Any]) -> set[Any]:
    seen: set[Any] = set()
    waiting = list(roots)
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        waiting += [following for following, _ in node.next_functions]
    return seen


@dataclass
class _Held:
    """A tensor that a network was given, and whether it carried a graph."""

    value: Tensor
    graph: bool


def _detached(value: Any) -> Any:
    if isinstance(value, Tensor):
        return _Held(value.detach(), value.requires_grad)
    if isinstance(value, Mapping):
        return {name: _detached(each) for name, each in value.items()}
    return value


def _leaf(value: Any, leaves: list[Tensor]) -> Any:
    if isinstance(value, _Held):
        if not value.graph:
            return value.value
        leaf = value.value.detach().requires_grad_()
        leaves.append(leaf)
        return leaf
    if isinstance(value, Mapping):
        return {name: _leaf(each, leaves) for name, each in value.items()}
    return value


def _tensors(value: Any) -> list[Tensor]:
    if isinstance(value, Tensor):
        return [value]
    if isinstance(value, Mapping):
        return [tensor for each in value.values() for tensor in _tensors(each)]
    if isinstance(value, list | tuple):
        return [tensor for each in value for tensor in _tensors(each)]
    return []
