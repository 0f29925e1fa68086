"""The main job on real HTTP: the same prompts to a server that starts cold, through llm_guard and through a plain pool.

    python examples/demo/main.py

Starts a fresh server for each run, shows how each gets on, prints both side by side as the server itself counted them,
and draws them (needs matplotlib). Ends with status 1 where llm_guard did not answer every prompt.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import runs
from watch import Stats, refused

from llm_guard.errors import ConfigError
from llm_guard.testing.cold_server import cold_server_process


def main() -> int:
    chosen = options()
    prompts = [f"What is {n} squared?" for n in range(chosen.items)]
    print(f"{chosen.items} prompts to a server that starts cold (scenario {chosen.scenario}, "
          f"{chosen.speed:g} times as fast), first through llm_guard, then through a plain thread pool.\n")
    seen: dict[str, Stats] = {}
    right: dict[str, int] = {}
    for name, send in (("llm_guard", runs.guarded), ("plain pool", runs.plain)):
        with cold_server_process(chosen.scenario, speed=chosen.speed, seed=chosen.seed) as url:
            answers, seen[name] = send(url, prompts)
        right[name] = sum(answers[prompt] == f"echo: {prompt}" for prompt in prompts)
    print()
    print(table(seen, chosen.items))
    print(f"\nAnswers that came back and belong to their prompt: llm_guard {right['llm_guard']} of {chosen.items}, "
          f"plain pool {right['plain pool']} of {chosen.items}.")
    draw(seen, chosen.items, chosen.picture)
    return 0 if right["llm_guard"] == chosen.items else 1


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="The same prompts through llm_guard and through a plain thread pool.")
    parser.add_argument("--items", type=int, default=300, help="how many prompts (default: 300)")
    parser.add_argument("--scenario", default="A", help="what the server is like (default: A)")
    parser.add_argument("--speed", type=float, default=2.5,
                        help="how much faster the server is, while clients wait in real seconds (default: 2.5)")
    parser.add_argument("--seed", type=int, default=0, help="fixes the server's chance (default: 0)")
    parser.add_argument("--picture", type=Path, default=Path("out/demo"), metavar="PATH",
                        help="where the picture goes, as PATH.png and PATH.svg (default: out/demo)")
    return parser.parse_args()


def table(seen: dict[str, Stats], items: int) -> str:
    """Both runs side by side, from the server's own counts."""
    rows = [["", *seen],
            ["answered", *(f"{stats['successes']} of {items}" for stats in seen.values())],
            ["calls per answer", *(f"{stats['calls'] / max(1, stats['successes']):.2f}" for stats in seen.values())],
            ["refusals", *(str(refused(stats)) for stats in seen.values())],
            ["seconds", *(f"{stats['seconds']:.1f}" for stats in seen.values())]]
    return "\n".join(f"{name:<18}" + "".join(f"{value:>14}" for value in values) for name, *values in rows)


def draw(seen: dict[str, Stats], items: int, path: Path) -> None:
    try:
        import picture
    except ImportError:
        print("No picture: matplotlib is missing; `pip install matplotlib` brings it.")
        return
    for file in picture.save(seen, items, path):
        print(f"Picture: {file}")


if __name__ == "__main__":
    try:
        sys.exit(main())
    except ConfigError as error:  # of the server's
        sys.exit(str(error))
