from __future__ import annotations

import errno
import importlib
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dreamer_nav import cli
from dreamer_nav.checkpoint import CheckpointError
from dreamer_nav.command_line import split_settings
from dreamer_nav.config import Config
from dreamer_nav.failures import USER_ERRORS, UsageError, one_line
from dreamer_nav.presets import flatten_fields, load_config, load_yaml, save_yaml
from tests.dreamer_nav.scored_runs import write_run

ROOT = Path(__file__).parents[2]
Calls = list[dict[str, Any]]
Run = Callable[..., "Outcome"]


class Outcome:
    """Exit status and output of one command in this process."""

    def __init__(self, status: int, out: str, err: str) -> None:
        self.status, self.out, self.err = status, out, err

    def complaint(self) -> str:
        """The one line on stderr of a user's mistake."""
        assert self.status == 1, (self.status, self.out, self.err)
        lines = self.err.splitlines()
        assert len(lines) == 1, self.err
        assert lines[0].startswith("dreamer-nav: error: ")
        return lines[0].removeprefix("dreamer-nav: error: ")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """`main` in an empty working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DREAMER_NAV_TRACEBACK", raising=False)

    def command(*words: str) -> Outcome:
        status = cli.main(words)
        captured = capsys.readouterr()
        return Outcome(status, captured.out, captured.err)

    return command


def _replace(monkeypatch: pytest.MonkeyPatch, name: str, **members: Any) -> None:
    module = types.ModuleType(name)
    for key, value in members.items():
        setattr(module, key, value)
    monkeypatch.setitem(sys.modules, name, module)


@pytest.fixture
def trainings(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Records what would be trained."""
    calls: Calls = []

    def train(config: Config, run_dir: Path, **options: Any) -> Path:
        calls.append({"config": config, "run_dir": run_dir, **options})
        return run_dir

    _replace(monkeypatch, "dreamer_nav.train", train=train)
    return calls


@pytest.fixture
def evaluations(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """Records what would be evaluated."""
    calls: Calls = []

    def evaluate_run(path: Path, **options: Any) -> dict[str, Any]:
        calls.append({"path": path, **options})
        return {}

    _replace(monkeypatch, "dreamer_nav.evaluate", evaluate_run=evaluate_run)
    return calls


def _saved_run(folder: Path, *overrides: str) -> Path:
    folder.mkdir(parents=True)
    save_yaml(load_config("debug", overrides), folder / "config.yaml")
    return folder


def _process(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "dreamer_nav", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.run(command, capture_output=True, text=True, env=env, timeout=120, **options)


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
        (["eval"], "eval needs either RUN_OR_CHECKPOINT or --policy FILE"),
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


# -- train ---------------------------------------------------------------------------------------


def test_train_hands_over_the_preset_with_overrides(run: Run, trainings: Calls) -> None:
    outcome = run("train", "--preset", "debug", "--run", "r", "--train.steps", "1e3", "--seed=7")
    assert outcome.status == 0, outcome.err
    (call,) = trainings
    assert call["config"] == load_config("debug", ["train.steps=1000", "seed=7"])
    assert call["run_dir"] == Path("r")
    assert (call["resume"], call["checkpoint"]) == (False, None)


def test_train_without_arguments_uses_the_default_preset_in_a_dated_folder(
    run: Run, trainings: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "check_environment", lambda config: None)  # needs no simulator
    assert run("train").status == 0
    (call,) = trainings
    assert call["config"] == load_config("pointgoal_room")
    assert call["run_dir"].parent == Path("runs")
    assert call["run_dir"].name.startswith("pointgoal_room-2")


def test_resume_takes_the_runs_own_configuration(run: Run, trainings: Calls) -> None:
    _saved_run(Path("r"), "seed=5")
    assert run("train", "--run", "r", "--resume").status == 0
    (call,) = trainings
    assert call["config"] == load_config("debug", ["seed=5"])
    assert (call["run_dir"], call["resume"]) == (Path("r"), True)


def test_resume_may_train_longer(run: Run, trainings: Calls) -> None:
    _saved_run(Path("r"))
    assert run("train", "--run", "r", "--resume", "--train.steps", "900").status == 0
    assert trainings[0]["config"] == load_config("debug", ["train.steps=900"])


def test_resume_refuses_changes_that_would_make_it_another_run(run: Run, trainings: Calls) -> None:
    _saved_run(Path("r"))
    words = ["--agent.rssm.deter", "32", "--train.steps", "900", "--seed", "3"]
    complaint = run("train", "--run", "r", "--resume", *words).complaint()
    assert "cannot change seed (0 -> 3), agent.rssm.deter (16 -> 32);" in complaint
    assert not trainings


def test_resume_accepts_a_setting_repeated_unchanged(run: Run, trainings: Calls) -> None:
    _saved_run(Path("r"))
    assert run("train", "--run", "r", "--resume", "--agent.rssm.deter", "16").status == 0


def test_resume_from_an_older_checkpoint_finds_its_run(run: Run, trainings: Calls) -> None:
    checkpoint = _saved_run(Path("r")) / "checkpoints" / "step-000000100"
    checkpoint.mkdir(parents=True)
    assert run("train", "--resume-from", str(checkpoint)).status == 0
    (call,) = trainings
    assert call["run_dir"].resolve() == Path("r").resolve()
    assert (call["resume"], call["checkpoint"]) == (True, checkpoint)
    _saved_run(Path("other"))
    complaint = run("train", "--run", "other", "--resume-from", str(checkpoint)).complaint()
    assert "is not a checkpoint of the run other" in complaint


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--preset", "debgu"], "Unknown preset 'debgu'. Did you mean 'debug'? Presets: atari"),
        (["--preset", "no.yaml"], "there is no preset file"),
        (["--agent.rsm.deter", "3"], "'agent.rsm.deter'. Did you mean 'agent.rssm.deter'?"),
        (["--agent.horizon", "x"], "'agent.horizon' must be an integer"),
        (["--agent.horizon"], "'--agent.horizon' needs a value"),
        (["--resume"], "--resume needs the run's folder"),
        (["--resume", "--run", "none"], "there is no run none"),
        (["--resume", "--run", "taken"], "taken holds no config.yaml"),
        (["--resume", "--run", "takne"], "there is no run takne. Did you mean taken?"),
        (["--resume", "--run", "taken", "--preset", "debug"], "--preset does not go with --resume"),
        (["--resume-from", "taken/checkpoints/step-000000001"], "there is no checkpoint"),
        (["--preset", "debug", "--run", "taken"], "taken exists already; it is not"),
        (["--preset", "debug", "--run", "a"], "a exists already; go on with it (--run a --resume)"),
        (["--preset", "debug", "--run", "file"], "file is a file; --run names a folder"),
        (["--preset", "debug", "--env.name", "dumy"], "no environment is called 'dumy'. Did you"),
        (["--preset", "debug", "--env.tsk", "x"], "dummy has no option 'tsk'. Did you mean 'task'"),
        (["--preset", "debug", "--env.task", "x"], "env: task must be one of bandit"),
        (["--preset", "debug", "--eval.env.task", "x"], "eval.env: task must be one of bandit"),
        (
            ["--preset", "debug", "--train.env_processes=true", "--eval.env.task", "x"],
            "task must be one of bandit",
        ),
        (["--preset", "debug", "--device", "cuda:99"], "cuda:99"),
    ],
)
def test_wrong_input_to_train_is_one_line(
    run: Run, trainings: Calls, words: list[str], message: str
) -> None:
    _saved_run(Path("a"))
    Path("taken").mkdir()
    Path("taken/notes.txt").touch()
    Path("file").touch()
    assert message in run("train", *words).complaint()
    assert not trainings


def test_an_empty_folder_can_become_a_run(run: Run, trainings: Calls) -> None:
    Path("r").mkdir()
    assert run("train", "--preset", "debug", "--run", "r").status == 0


def test_a_missing_simulator_is_answered_with_its_install_line(
    run: Run, trainings: Calls, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sim_adapters import registry

    line = "pip install 'dreamer-nav[surely]'"
    entry = registry.Entry("surely_missing:Env", line, "not there", ("surely_missing",))
    monkeypatch.setitem(registry._ENTRIES, "surely", entry)
    complaint = run("train", "--preset", "debug", "--env.name", "surely").complaint()
    assert complaint.endswith(line)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run that a command made; tests copy it."""
    folder = tmp_path_factory.mktemp("trained") / "r"
    done = _process("train", "--preset", "debug", "--run", str(folder))
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1].endswith(f"dreamer-nav eval {folder}")
    return folder


def test_a_run_is_taken_up_again_and_keeps_its_configuration(trained: Path, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "r")
    again = _process("train", "--run", "r", "--resume", "--train.steps", "400", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert load_yaml(tmp_path / "r" / "config.yaml") == load_config("debug", ["train.steps=400"])
    rows = [json.loads(x) for x in (tmp_path / "r" / "metrics.jsonl").read_text().splitlines()]
    assert rows[0]["step"] < 300
    assert rows[-1]["step"] == 400


def test_a_damaged_checkpoint_is_one_line_naming_the_file_and_an_intact_one(
    trained: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    older, newest = sorted((tmp_path / "r" / "checkpoints").glob("step-*"))
    damaged = newest / "state.safetensors"
    content = bytearray(damaged.read_bytes())
    content[-1] ^= 1
    damaged.write_bytes(content)
    again = _process("train", "--run", "r", "--resume", cwd=tmp_path)
    assert again.returncode == 1
    assert again.stderr.startswith("dreamer-nav: error: ")
    assert len(again.stderr.splitlines()) == 1
    assert f"r/checkpoints/{newest.name}/state.safetensors" in again.stderr
    assert f"r/checkpoints/{older.name}" in again.stderr
    earlier = _process("train", "--resume-from", f"r/checkpoints/{older.name}", cwd=tmp_path)
    assert earlier.returncode == 0, earlier.stderr


def test_ctrl_c_stops_with_130_and_says_how_to_go_on(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dreamer_nav", "train", "--preset", "debug", "--run", "r"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, "--train.steps=1e6"],
        env=env,
        cwd=tmp_path,
        text=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )
    try:
        deadline = time.monotonic() + 60
        while not (tmp_path / "r" / "checkpoints").exists() and time.monotonic() < deadline:
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert process.returncode == 130, err
    assert err.splitlines()[-1] == (
        "dreamer-nav: interrupted; go on with: dreamer-nav train --run r --resume"
    )
    assert "Traceback" not in err


def test_an_interruption_before_the_first_checkpoint_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    _replace(monkeypatch, "dreamer_nav.train", train=train)
    outcome = run("train", "--preset", "debug", "--run", "r")
    assert outcome.status == 130
    assert "interrupted before the first checkpoint; r can be deleted" in outcome.err


@pytest.mark.skipif(sys.platform != "linux", reason="/sys refuses new folders, to root too")
def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    done = _process("train", "--preset", "debug", "--run", "/sys/run", cwd=tmp_path)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert done.stderr.startswith("dreamer-nav: error: /sys/run: ")


# -- eval ----------------------------------------------------------------------------------------


def test_eval_hands_over_what_was_asked_for(run: Run, evaluations: Calls) -> None:
    _saved_run(Path("r"))
    Path("e.json.gz").touch()
    words = ["--env.task", "memory", "r", "--episodes", "7", "--video", "--no-baselines"]
    words += ["--json", "out.json", "--episodes-file", "e.json.gz", "--device", "cpu"]
    assert run("eval", *words).status == 0
    assert evaluations == [
        {
            "path": Path("r"),
            "episodes": 7,
            "env_overrides": {"task": "memory"},
            "episodes_file": Path("e.json.gz"),
            "video": True,
            "json_path": Path("out.json"),
            "baselines": False,
            "device": "cpu",
        }
    ]


def test_eval_leaves_the_rest_to_the_run(run: Run, evaluations: Calls) -> None:
    _saved_run(Path("r"))
    assert run("eval", "r").status == 0
    (call,) = evaluations
    assert call["env_overrides"] == {}
    assert call["episodes"] is call["device"] is call["json_path"] is None
    assert (call["video"], call["baselines"]) == (False, True)


def test_eval_hands_over_the_types_of_environment_options(run: Run, evaluations: Calls) -> None:
    _saved_run(Path("r"))
    assert (
        run("eval", "r", "--env.length", "5", "--env.image=false", "--env.vector=true").status == 0
    )
    assert evaluations[0]["env_overrides"] == {"length": 5, "image": False, "vector": True}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["none"], "there is no run or checkpoint none"),
        (["rum"], "there is no run or checkpoint rum. Did you mean run?"),
        (["run", "--json", "nowhere/out.json"], "there is no folder"),
        (["run", "--json", "run"], "run is a folder; --json names a file"),
        (["run", "--episodes-file", "e.json.gz"], "there is no episode file e.json.gz"),
        (["run", "--device", "gpu"], "gpu"),
        (["run", "run"], "eval plays one run, got 2; .*: dreamer-nav eval --report run run"),
    ],
)
def test_wrong_input_to_eval_is_one_line(
    run: Run, evaluations: Calls, words: list[str], message: str
) -> None:
    _saved_run(Path("run"))
    assert re.search(message, run("eval", *words).complaint())
    assert not evaluations


def test_a_run_is_evaluated_and_wrong_environments_are_one_line(
    trained: Path, run: Run, tmp_path: Path
) -> None:
    shutil.copytree(trained, tmp_path / "r")
    done = _process("eval", "r", "--episodes", "3", "--json", "out.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "3 episodes" in done.stdout
    assert json.loads((tmp_path / "out.json").read_text())
    assert "dummy has no option 'tsk'" in run("eval", "r", "--env.tsk=x").complaint()
    assert "task must be one of bandit" in run("eval", "r", "--env.task=x").complaint()
    shutil.rmtree(tmp_path / "r" / "checkpoints")
    assert "holds no checkpoint" in run("eval", "r").complaint()


def test_a_report_puts_runs_beside_the_published_scores(run: Run, evaluations: Calls) -> None:
    for seed in (0, 1):
        write_run(Path(f"pong{seed}"), training={2_500_000: 10.0 + seed}, seed=seed)
    done = run("eval", "--report", "pong0", "pong1", "--json", "out.json")
    assert done.status == 0, done.err
    assert "10.5 [10.0, 11.0]" in done.out
    assert "Written: out.json" in done.out
    report = json.loads(Path("out.json").read_text())
    assert [(r["run"], r["seed"]) for r in report["runs"]] == [("pong0", 0), ("pong1", 1)]
    assert report["tasks"]["atari"]["pong"]["frames"] == [10_000_000, 10_000_000]
    assert not evaluations


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["rnu"], "there is no run rnu. Did you mean run?"),
        (["run"], "run is a run of dummy; published scores are of atari and dmc only"),
        (["pong"], "pong has no evaluation yet; make one: dreamer-nav eval pong"),
        (["pong", "./pong"], "--report was given the same run twice"),
        (["pong", "--video"], "--report plays no episodes, so --video does not go with it"),
        (["pong", "--episodes", "3"], "so --episodes does not go with it"),
        (["pong", "--episodes-file", "x"], "so --episodes-file does not go with it"),
        (["pong", "--no-baselines"], "so --baselines does not go with it"),
        (["pong", "--device", "cpu"], "so --device does not go with it"),
        (["pong", "--env.game=x"], "so --env.game=x does not go with it"),
        (["pong", "--json", "nowhere/out.json"], "there is no folder"),
    ],
)
def test_wrong_input_to_a_report_is_one_line(run: Run, words: list[str], message: str) -> None:
    _saved_run(Path("run"))
    write_run(Path("pong"))
    assert message in run("eval", "--report", *words).complaint()


def test_a_report_needs_no_torch(tmp_path: Path) -> None:
    write_run(tmp_path / "pong", training={2_500_000: 10.0})
    code = (
        "import sys\nfrom dreamer_nav.cli import main\n"
        "main(['eval', '--report', 'pong'])\nprint('MODULES', *sys.modules)"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    words = [sys.executable, "-c", code]
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=env, cwd=tmp_path)
    table, _, modules = done.stdout.rpartition("MODULES ")
    assert "human-normalised" in table
    assert "torch" not in modules.split()


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

    _replace(monkeypatch, "dreamer_nav.bench", bench=bench)
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

    _replace(monkeypatch, "dreamer_nav_export", __path__=[], __spec__=object())
    _replace(monkeypatch, "dreamer_nav_export.cli", main=export)
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

    _replace(monkeypatch, "dreamer_nav.train", train=train)
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
