"""The command's grammar, help and failures; the verbs without runs."""

from __future__ import annotations

import errno
import importlib
import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dreamer_nav.checkpoint import CheckpointError
from dreamer_nav.command_line import split_settings
from dreamer_nav.config import Config
from dreamer_nav.failures import USER_ERRORS, UsageError, one_line
from dreamer_nav.presets import flatten_fields, load_config
from tests.dreamer_nav.command import (
    ROOT,
    Calls,
    Run,
    replace_module,
)

# -- help and grammar ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["train", "--help"],
        ["eval", "--help"],
        ["envs", "--help"],
        ["bench", "--help"],
        ["export", "--help"],
        ["--version"],
        ["train", "--agent.rsm.deter", "3"],
        ["train", "--preset", "nowhere"],
        ["eval", "nowhere"],
        ["trian"],
    ],
)
def test_help_and_mistakes_import_nothing_heavy(words: list[str], tmp_path: Path) -> None:
    code = (
        "import sys\nfrom dreamer_nav.cli import main\n"
        f"main({words!r})\nprint('MODULES', *sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env=env,
        cwd=tmp_path,
    )
    modules = done.stdout.rpartition("MODULES ")[2].split()
    heavy = {"torch", "numpy", "gymnasium", "tensorboard", "av", "tqdm", "pybullet", "scipy"}
    assert "dreamer_nav.cli" in modules
    assert heavy.isdisjoint(modules)


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["help"]])
def test_the_overview_names_every_verb(run: Run, words: list[str]) -> None:
    outcome = run(*words)
    assert outcome.status == 0
    for verb in ("train", "eval", "export", "envs", "bench"):
        assert f"\n  {verb} " in outcome.out


def test_the_version_is_the_packages(run: Run) -> None:
    from dreamer_nav import __version__

    assert run("--version").out == f"dreamer-nav {__version__}\n"


@pytest.mark.parametrize("verb", ["train", "bench"])
def test_the_help_of_a_verb_lists_every_setting_with_its_real_default(run: Run, verb: str) -> None:
    outcome = run(verb, "--help")
    assert outcome.status == 0
    text = outcome.out
    for setting in flatten_fields():
        assert f"--{setting.name}" in text, setting.name
    deter = load_config("pointgoal_room").agent.rssm.deter
    assert f"--agent.rssm.deter INT\n      size of the deterministic (GRU) state [{deter}]" in text


def test_the_help_shows_the_values_of_the_preset_asked_for(run: Run) -> None:
    text = run("train", "--preset", "atari", "--help").out
    assert "size of the deterministic (GRU) state [600]" in text
    assert "kl: 0.1, reward: 1, discount: 5" in " ".join(text.split())


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "unknown verb 'trian'. Did you mean 'train'? Verbs: train, eval"),
        (["xyzzy"], "unknown verb 'xyzzy'. Verbs: train"),
        (["train", "--persist"], "unknown option '--persist'. Did you mean --preset?"),
        (["train", "--steps", "5"], "Did you mean --train.steps?"),
        (["train", "--num-envs", "5"], "Did you mean --train.num_envs?"),
        (["train", "--lr", "5"], "--agent.model_opt.lr or --agent.actor_opt.lr or --agent.critic"),
        (["train", "--pre", "debug"], "unknown option '--pre'"),
        (["train", "stray"], "unrecognized arguments: stray"),
        (["train", "--run"], "argument --run: expected one argument"),
        (["eval"], "eval needs one of RUN_OR_CHECKPOINT, --policy FILE and --preset P"),
        (["eval", "runs/a", "--preset", "debug"], "eval needs one of RUN_OR_CHECKPOINT"),
        (["eval", "--preset", "pointgoal_rom"], "Did you mean 'pointgoal_room'?"),
        (["eval", "--preset", "debug", "--no-baselines"], "--preset plays the baselines alone"),
        (["eval", "x", "--episdes", "3"], "unknown option '--episdes'. Did you mean --episodes?"),
        (["eval", "x", "--episodes", "0"], "must be a count of at least 1, got '0'"),
        (["eval", "x", "--train.steps", "3"], "eval changes --env.KEY settings only"),
        (["envs", "--env.tier", "room"], "envs takes no settings, got --env.tier"),
    ],
)
def test_a_wrong_command_line_is_one_line_with_the_nearest_right_one(
    run: Run, words: list[str], message: str
) -> None:
    assert message in run(*words).complaint()


def test_settings_stand_anywhere_among_the_options() -> None:
    words = ["--env.split", "val", "RUN", "--compile", "--x", "3", "--seed=4", "--agent.a", "-1"]
    own, settings = split_settings(words, {"--x"})
    assert own == ["RUN", "--x", "3"]
    assert settings == ["--env.split", "val", "--compile", "--seed=4", "--agent.a", "-1"]


def test_a_switch_takes_only_true_or_false_as_its_value() -> None:
    assert split_settings(["--compile", "RUN"], set()) == (["RUN"], ["--compile"])
    assert split_settings(["--compile", "false"], set()) == ([], ["--compile", "false"])


# -- envs, bench, export -------------------------------------------------------------------------


def test_envs_lists_what_is_installed_and_how_to_install_the_rest(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim_adapters import registry

    line = "pip install 'dreamer-nav[surely]'"
    entry = registry.Entry("surely_missing:Env", line, "not there", ("surely_missing",))
    monkeypatch.setitem(registry._ENTRIES, "surely", entry)
    lines = run("envs").out.splitlines()
    at = next(i for i, text in enumerate(lines) if text.startswith("surely "))
    assert "missing surely_missing" in lines[at]
    assert lines[at + 1].endswith(f"install it with: {line}")
    assert any(text.startswith("dummy ") and " installed " in text for text in lines)


def test_envs_lists_the_options_of_one(run: Run) -> None:
    out = run("envs", "dummy").out
    assert "--env.task" in out
    assert "'bandit'" in out
    assert "no environment is called 'dumy'" in run("envs", "dumy").complaint()


def test_bench_hands_over_the_configuration(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: Calls = []

    def bench(config: Config, **options: Any) -> None:
        calls.append({"config": config, **options})

    replace_module(monkeypatch, "dreamer_nav.bench", bench=bench)
    words = ["--preset", "atari", "--threads", "2", "--json", "b.json"]
    assert run("bench", *words).status == 0
    expected = {"config": load_config("atari", ["threads=2"]), "json_path": Path("b.json")}
    assert calls == [{**expected, "seconds": 20.0, "profile": 0}]
    assert run("bench", *words, "--seconds", "3", "--profile=9").status == 0
    assert calls[1] == {**expected, "seconds": 3.0, "profile": 9}


def test_bench_refuses_a_device_that_is_not_there(run: Run) -> None:
    assert "cuda:99" in run("bench", "--device", "cuda:99").complaint()


def test_export_without_its_package_is_answered_with_the_install_line(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = importlib.util.find_spec

    def without(name: str, package: str | None = None) -> Any:
        return None if name.startswith("dreamer_nav_export") else found(name, package)

    monkeypatch.setattr(importlib.util, "find_spec", without)
    complaint = run("export", "r", "-o", "policy.onnx").complaint()
    assert complaint.endswith("pip install 'dreamer-nav-export[writer]'")


def test_export_hands_its_words_to_its_package(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[list[str]] = []

    def export(words: list[str]) -> int:
        calls.append(words)
        return 3

    replace_module(monkeypatch, "dreamer_nav_export", __path__=[], __spec__=object())
    replace_module(monkeypatch, "dreamer_nav_export.cli", main=export)
    assert run("export", "r", "-o", "policy.onnx").status == 3
    assert calls == [["r", "-o", "policy.onnx"]]


# -- failures ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (CheckpointError("x/state is damaged"), "x/state is damaged"),
        (UsageError("wrong"), "wrong"),
        (PermissionError(errno.EACCES, "Permission denied", "r"), "r: Permission denied; choose a"),
        (OSError(errno.ENOSPC, "No space left on device"), "No space left on device; free some"),
        (
            OSError(errno.ENOSPC, "replay needs 9 bytes; free some", "f"),
            "f: replay needs 9 bytes; ",
        ),
        (FileNotFoundError(errno.ENOENT, "No such file", "f"), "f: No such file"),
        (FileNotFoundError("No run at x."), "No run at x."),
        (CheckpointError("first\n  second"), "first (--traceback shows all of it)"),
        (CheckpointError(""), "failed without a reason"),
    ],
)
def test_failures_of_the_user_or_the_machine_become_one_line(error: Exception, line: str) -> None:
    found = one_line(error)
    assert found is not None
    assert found.startswith(line)
    assert "\n" not in found


@pytest.mark.parametrize(
    "error", [ValueError("bug"), KeyError("bug"), OSError(errno.EBADF, "bug"), ImportError("bug")]
)
def test_bugs_are_not_hidden(error: Exception, run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise error

    replace_module(monkeypatch, "dreamer_nav.train", train=train)
    with pytest.raises(type(error)):
        run("train", "--preset", "debug", "--run", "r")


@pytest.mark.parametrize("words", [["--traceback"], []])
def test_a_traceback_is_shown_when_asked_for(
    run: Run, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    if not words:
        monkeypatch.setenv("DREAMER_NAV_TRACEBACK", "1")
    outcome = run("train", "--preset", "debgu", *words)
    assert outcome.status == 1
    assert "Traceback (most recent call last)" in outcome.err
    assert outcome.err.splitlines()[-1].startswith("dreamer-nav: error: Unknown preset 'debgu'")


@pytest.mark.parametrize(
    ("module", "name"), [(module, name) for module, names in USER_ERRORS.items() for name in names]
)
def test_every_failure_known_by_name_exists(module: str, name: str) -> None:
    assert issubclass(getattr(importlib.import_module(module), name), Exception)


def test_a_reader_that_stops_reading_is_no_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m dreamer_nav train --help | head -n 1"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, env=env, cwd=tmp_path
    )
    assert done.stdout.startswith("usage: dreamer-nav train")
    assert done.stderr == ""
