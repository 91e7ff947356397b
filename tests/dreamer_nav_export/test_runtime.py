from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dreamer_nav_export.contract import Golden
from dreamer_nav_export.errors import InferenceError, SelfTestError
from dreamer_nav_export.golden import NoiseStream
from dreamer_nav_export.runtime import Policy
from tests.dreamer_nav_export.agents import assert_same, frames
from tests.dreamer_nav_export.conftest import Exported

ROOT = Path(__file__).parents[2]
EXPORT = ROOT / "export"
# What a robot imports; the other modules need torch.
ROBOT_MODULES = (
    "__init__",
    "cli",
    "contract",
    "errors",
    "fuzz",
    "golden",
    "inspect_text",
    "json_fields",
    "latency",
    "observation_check",
    "policy_file",
    "runtime",
    "session",
)


class Spoiled:
    """A session whose outputs are changed on the way."""

    def __init__(self, session: Any, change: Callable[[dict[str, np.ndarray]], None]) -> None:
        self.contract, self._session, self._change = session.contract, session, change
        self.broken = True

    def run(
        self, feeds: Mapping[str, np.ndarray], names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        outputs = {k: v.copy() for k, v in self._session.run(feeds, names).items()}
        if self.broken:
            self._change(outputs)
        return outputs


def put(name: str, value: Any) -> Callable[[dict[str, np.ndarray]], None]:
    def change(outputs: dict[str, np.ndarray]) -> None:
        outputs[name][...] = value

    return change


# -- acting --------------------------------------------------------------------------------------


def test_an_action_is_one_of_the_contracts(policy: Policy) -> None:
    (frame,) = frames(policy.spec, 1)
    action = policy.act(frame)
    assert action.index in range(4)
    assert action.name == ("stop", "forward", "left", "right")[action.index]
    assert action.probs is not None
    assert action.probs.shape == (4,)
    assert float(action.probs.sum()) == pytest.approx(1.0)
    assert action.index == int(action.probs.argmax())
    assert (action.values, action.ok) == (None, True)


def test_the_same_seed_gives_the_same_actions_and_state_matters(policy: Policy) -> None:
    seen = frames(policy.spec, 6)
    twin = policy.fork(0)
    for frame in seen:
        assert_same(policy.act(frame), twin.act(frame))
    fresh = policy.fork(0)
    assert not np.array_equal(fresh.act(seen[-1]).probs, policy.act(seen[-1]).probs)


def test_what_the_graph_is_told_is_what_it_gave_the_step_before(session: Any) -> None:
    spy = Spoiled(session, lambda outputs: None)
    fed: list[dict[str, np.ndarray]] = []
    given: list[dict[str, np.ndarray]] = []
    run = spy.run

    def recorded(
        feeds: Mapping[str, np.ndarray], names: Sequence[str] | None = None
    ) -> dict[str, np.ndarray]:
        fed.append(dict(feeds))
        given.append(run(feeds, names))
        return given[-1]

    spy.run = recorded  # type: ignore[method-assign]
    policy = Policy(spy, 0)  # type: ignore[arg-type]
    seen = frames(policy.spec, 5)
    for step, frame in enumerate(seen):
        if step == 3:
            policy.reset(1)
        policy.act(frame)
    assert [bool(f["is_first"][0]) for f in fed] == [True, False, False, True, False]
    for before, after in ((0, 1), (1, 2), (3, 4)):
        for state in policy.spec.state:
            np.testing.assert_array_equal(fed[after][state.input], given[before][state.output])
    noise = NoiseStream(0)
    for feeds in fed[:3]:
        np.testing.assert_array_equal(feeds["latent_noise"][0], noise.uniform((4,)))
        noise.uniform(())  # the action's, which this variant does not use


def test_forks_do_not_touch_each_other(policy: Policy) -> None:
    seen = frames(policy.spec, 4)
    alone = [policy.fork(5).act(seen[0])]
    one, two = policy.fork(5), policy.fork(6)
    together = []
    for frame in seen:
        together.append(one.act(frame))
        two.act(frame)
    assert_same(together[0], alone[0])
    again = policy.fork(5)
    for frame, action in zip(seen, together, strict=True):
        assert_same(again.act(frame), action)


def test_reset_forgets(policy: Policy) -> None:
    seen = frames(policy.spec, 5)
    first = [policy.act(f) for f in seen]
    policy.reset(0)
    for frame, action in zip(seen, first, strict=True):
        assert_same(policy.act(frame), action)


def test_reset_gets_rid_of_nan(policy: Policy) -> None:
    (frame,) = frames(policy.spec, 1)
    expected = policy.fork(0).act(frame)
    policy._memory["deter"] = np.full_like(policy._memory["deter"], np.nan)
    policy._is_first = False
    with pytest.raises(InferenceError, match="not finite"):
        policy.act(frame)
    policy.reset(0)
    assert_same(policy.act(frame), expected)


def test_the_graph_itself_forgets_a_nan_state_on_is_first(policy: Policy) -> None:
    (frame,) = frames(policy.spec, 1)
    expected = policy.fork(0).act(frame)
    for name, value in policy._memory.items():
        policy._memory[name] = np.full_like(value, np.nan if value.dtype.kind == "f" else 3)
    assert policy._is_first
    assert_same(policy.act(frame), expected)


@pytest.mark.parametrize("seed", [-1, 2**32, 1.5, True, float("nan")])
def test_a_wrong_seed_changes_nothing(policy: Policy, seed: Any) -> None:
    seen = frames(policy.spec, 2)
    policy.act(seen[0])
    twin = policy.fork(0)
    twin.act(seen[0])
    with pytest.raises(ValueError, match="seed"):
        policy.reset(seed)
    assert_same(policy.act(seen[1]), twin.act(seen[1]))


def test_a_seed_is_drawn_and_told(policy: Policy) -> None:
    policy.reset()
    first = policy.seed
    policy.reset()
    assert policy.seed != first  # 1 in 2^32
    (frame,) = frames(policy.spec, 1)
    assert_same(policy.act(frame), policy.fork(policy.seed).act(frame))


@pytest.mark.parametrize("seed", [0, 1, 4_000_000_001, 2**32 - 1])
def test_noise_is_what_torch_draws(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    stream = NoiseStream(seed)
    for shape in [(1, 4), (1,), (1, 32), (3, 700), (1,)]:
        expected = torch.rand(shape, generator=generator).numpy()
        np.testing.assert_array_equal(stream.uniform(shape), expected)


def test_velocities_come_with_their_meaning(export: Callable[..., Exported]) -> None:
    from dreamer_nav_export.session import PolicySession

    session = PolicySession(export("pointgoal velocities").data)
    policy = Policy(session, 0)
    (frame,) = frames(policy.spec, 1)
    action = policy.act(frame)
    assert (action.index, action.probs) == (None, None)
    assert action.values is not None
    assert action.values.dtype == np.float32
    assert action.name == "move"
    # -2/3 is 0 m/s where v runs from -0.1 to 0.5.
    standing = Policy(Spoiled(session, put("action", [[-2 / 3, 0.0]])), 0)  # type: ignore[arg-type]
    assert standing.act(frame).name == "stop"
    turning = Policy(Spoiled(session, put("action", [[-2 / 3, 0.1]])), 0)  # type: ignore[arg-type]
    assert turning.act(frame).name == "move"
    too_fast = Policy(Spoiled(session, put("action", [[1.01, 0.0]])), 0)  # type: ignore[arg-type]
    with pytest.raises(InferenceError, match=r"allowed is \[-1.0, 1.0\]"):
        too_fast.act(frame)


# -- a network that fails ------------------------------------------------------------------------

BROKEN = {
    "not ok": put("ok", False),
    "a NaN state": put("next_deter", np.nan),
    "an infinite state": put("next_deter", np.inf),
    "an action beyond the last": put("action", 4),
    "a negative action": put("action", -1),
    "NaN probabilities": put("probs", np.nan),
    "probabilities that are none": put("probs", 0.5),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_output_is_raised_and_never_remembered(session: Any, name: str) -> None:
    spoiled = Spoiled(session, BROKEN[name])
    spoiled.broken = False
    policy, twin = Policy(spoiled, 1), Policy(session, 1)  # type: ignore[arg-type]
    seen = frames(policy.spec, 4)
    policy.act(seen[0])
    twin.act(seen[0])
    spoiled.broken = True
    for _ in range(2):
        with pytest.raises(InferenceError):
            policy.act(seen[1])
    spoiled.broken = False
    for frame in seen[1:]:
        assert_same(policy.act(frame), twin.act(frame))


def test_onnx_runtimes_own_errors_become_ours(session: Any) -> None:
    with pytest.raises(InferenceError, match="ONNX Runtime failed"):
        session.run({"depth": np.zeros(3, np.float32)})


@pytest.mark.parametrize("name", ["depth", "pointgoal", "deter"])
def test_the_graph_says_when_a_number_is_not_finite(policy: Policy, name: str) -> None:
    """The likeliest class of NaN logits is a class like any other: only `ok` tells."""
    (frame,) = frames(policy.spec, 1)
    policy.act(frame)
    feeds = {**{k: v[None] for k, v in frame.items()}, **policy._own_inputs()}
    assert policy._session.run(feeds)["ok"].all()
    feeds[name] = feeds[name].copy()
    feeds[name].ravel()[0] = np.nan
    outputs = policy._session.run(feeds)
    assert not outputs["ok"].any()
    assert outputs["action"][0] in range(4)


# -- self-test -----------------------------------------------------------------------------------


def test_the_selftest_leaves_the_policy_where_it_was(policy: Policy) -> None:
    seen = frames(policy.spec, 2)
    twin = policy.fork(0)
    policy.act(seen[0])
    twin.act(seen[0])
    result = policy.selftest()
    assert result.steps == 8
    assert result.max_error < 1e-4
    assert_same(policy.act(seen[1]), twin.act(seen[1]))


@pytest.mark.parametrize("part", ["actions", "probs", "final_state", "resets", "noise_seed"])
def test_the_selftest_notices_another_outcome(policy: Policy, part: str) -> None:
    from dataclasses import replace

    golden = policy.spec.golden
    assert golden is not None
    changes: dict[str, Callable[[Golden], Any]] = {
        "actions": lambda g: tuple(((a[0] + 1) % 4,) for a in g.actions),
        "probs": lambda g: tuple(p[::-1] for p in g.probs),
        "final_state": lambda g: {k: tuple(x + 0.01 for x in v) for k, v in g.final_state.items()},
        "resets": lambda g: (0,),
        "noise_seed": lambda g: g.noise_seed + 1,
    }
    wrong = replace(policy.spec, golden=replace(golden, **{part: changes[part](golden)}))
    policy._session = Spoiled(policy._session, put("ok", True))  # type: ignore[assignment]
    policy._session.contract = wrong
    with pytest.raises(SelfTestError, match="golden vectors"):
        policy.selftest()


def test_without_golden_vectors_there_is_no_selftest(policy: Policy) -> None:
    from dataclasses import replace

    policy._session = Spoiled(policy._session, put("ok", True))  # type: ignore[assignment]
    policy._session.contract = replace(policy.spec, golden=None)
    with pytest.raises(SelfTestError, match="no golden vectors"):
        policy.selftest()


# -- where it runs -------------------------------------------------------------------------------


def test_the_runtime_imports_neither_torch_nor_the_agent(policy_file: Path) -> None:
    code = (
        "import sys\n"
        f"sys.path.insert(0, {str(EXPORT)!r})\n"
        "import dreamer_nav_export\n"
        "assert not {'numpy', 'onnxruntime'} & set(sys.modules)\n"
        "from dreamer_nav_export import Policy\n"
        f"Policy.load({str(policy_file)!r}).selftest()\n"
        "print(*sorted({m.partition('.')[0] for m in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split())
    assert {"numpy", "onnxruntime", "dreamer_nav_export"} <= loaded
    assert not loaded & {"torch", "dreamer_nav", "sim_adapters", "gymnasium", "onnx", "jaxtyping"}


@pytest.mark.parametrize("name", ROBOT_MODULES)
def test_what_a_robot_imports_is_python_38(name: str) -> None:
    import ast

    path = EXPORT / "dreamer_nav_export" / f"{name}.py"
    tree = ast.parse(path.read_text(encoding="utf-8"), str(path), feature_version=(3, 8))
    assert any(isinstance(n, ast.ImportFrom) and n.module == "__future__" for n in tree.body)


def test_every_module_is_either_a_robots_or_needs_torch() -> None:
    import ast

    for path in (EXPORT / "dreamer_nav_export").glob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        tops = {
            (node.module if isinstance(node, ast.ImportFrom) else node.names[0].name) or ""
            for node in tree.body
            if isinstance(node, (ast.Import, ast.ImportFrom))
        }
        tops = {t.partition(".")[0] for t in tops}
        if path.stem in ROBOT_MODULES:
            assert not tops & {"torch", "dreamer_nav", "onnx", "onnxruntime"}, path.name
