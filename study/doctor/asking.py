"""Where checks run: on this machine, or on every node of a Ray cluster at once."""

from __future__ import annotations

import socket
from collections import Counter
from collections.abc import Callable
from threading import Thread
from typing import Any

Ask = Callable[..., dict[str, Any]]
"""Calls a function with arguments on every machine; by machine what it returned, or the exception that it raised."""

ANSWER_SECONDS = 60.0  # for a machine to answer; a storage that does not exist can keep one waiting for ever


def here(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """An :data:`Ask` of this machine alone."""
    answers: list[Any] = [TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")]
    thread = Thread(target=lambda: answers.append(outcome(function, *arguments)), daemon=True)
    thread.start()
    thread.join(ANSWER_SECONDS)
    return {socket.gethostname(): answers[-1]}


def on_every_node(function: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
    """An :data:`Ask` of every living node of the Ray that was joined, all at once."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerHostname"] for node in ray.nodes() if node["Alive"]}
    hosts = Counter(nodes.values())
    task = ray.remote(num_cpus=0, max_retries=0)(outcome)
    asked = {
        (host if hosts[host] == 1 else f"{host} {node[:6]}"): task.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)
        ).remote(function, *arguments)
        for node, host in nodes.items()
    }
    done, _ = ray.wait(list(asked.values()), num_returns=len(asked), timeout=ANSWER_SECONDS)
    late = TimeoutError(f"no answer within {ANSWER_SECONDS:g} s")
    return {name: outcome(ray.get, answer) if answer in done else late for name, answer in asked.items()}


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What a function returns, or the exception that it raises."""
    try:
        return function(*arguments)
    except Exception as error:
        return error
