"""The command `dreamer-nav`: train, eval, export, envs, bench.

Each verb imports what it needs when it runs, so that help and mistakes are answered at once.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dreamer_nav import __version__
from dreamer_nav.atomic import write_report
from dreamer_nav.command_line import Parser, option_value, settings_help, split_settings
from dreamer_nav.config import Config
from dreamer_nav.failures import UsageError, one_line
from dreamer_nav.presets import DEFAULT_PRESET, load_config, override, to_dict
from dreamer_nav.run_choice import (
    check_device,
    check_environment,
    check_output,
    new_run,
    require,
    resumed_run,
)
from dreamer_nav.settings import nearest

__all__ = ["main"]

_EXPORT_INSTALL = "pip install 'dreamer-nav-export[writer]'"


class _Interrupted(Exception):
    """Ctrl-C; the message says how to go on."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status: 0, 1 for a failure, 130 when interrupted."""
    words = list(sys.argv[1:] if argv is None else argv)
    show_traceback = os.environ.get("DREAMER_NAV_TRACEBACK", "0") not in ("", "0")
    if "--traceback" in words:
        words.remove("--traceback")
        show_traceback = True
    try:
        return _dispatch(words)
    except SystemExit as leaving:  # argparse, after --help
        return int(leaving.code or 0)
    except BrokenPipeError:  # `dreamer-nav envs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (KeyboardInterrupt, _Interrupted) as interruption:
        _say(str(interruption) or "interrupted")
        return 130
    except Exception as error:
        line = one_line(error)
        if line is None:
            raise
        if show_traceback:
            traceback.print_exc()
        _say(f"error: {line}")
        return 1


def _say(text: str) -> None:
    print(f"dreamer-nav: {text}", file=sys.stderr)


def _dispatch(words: list[str]) -> int:
    if not words or words[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    if words[0] == "--version":
        print(f"dreamer-nav {__version__}")
        return 0
    verb = _VERBS.get(words[0])
    if verb is None:
        close = nearest(words[0], _VERBS)
        hint = f" Did you mean '{close}'?" if close else ""
        raise UsageError(f"unknown verb '{words[0]}'.{hint} Verbs: {', '.join(_VERBS)}")
    verb.run(words[1:])
    return 0


def _overview() -> str:
    verbs = "\n".join(f"  {name:<8} {verb.summary}" for name, verb in _VERBS.items())
    return (
        "usage: dreamer-nav VERB [options]\n\n"
        "DreamerV2, a world-model agent, for robots that must find their way.\n\n"
        f"verbs:\n{verbs}\n\n"
        "options:\n"
        "  --help       this text; after a verb, that verb's options and settings\n"
        "  --version    the version\n"
        "  --traceback  show where a failure came from (or DREAMER_NAV_TRACEBACK=1)\n\n"
        "first steps:\n"
        "  dreamer-nav train                 learn to cross furnished rooms, on any laptop\n"
        "  dreamer-nav eval runs/NAME        success and path lengths in rooms never seen before"
    )


def _parse(parser: Parser, words: list[str]) -> tuple[argparse.Namespace, list[str]]:
    """The verb's own options, and the dotted settings."""
    parser.add_argument("--traceback", action="store_true", help="show where a failure came from")
    own, settings = split_settings(words, parser.options())
    return parser.parse_args(own), settings


def _wants_help(words: list[str]) -> bool:
    return "--help" in words or "-h" in words


def _settings_epilog(words: list[str]) -> str:
    return settings_help(option_value(words, "--preset")) if _wants_help(words) else ""


# -- train ---------------------------------------------------------------------------------------


def _train(words: list[str]) -> None:
    parser = Parser("train", "Train an agent.", _settings_epilog(words))
    parser.add_argument(
        "--preset", metavar="P", help=f"a preset's name or a YAML file [{DEFAULT_PRESET}]"
    )
    parser.add_argument(
        "--run", type=Path, metavar="DIR", help="the run's folder [runs/PRESET-DATE-TIME]"
    )
    parser.add_argument("--resume", action="store_true", help="go on with the run in --run DIR")
    parser.add_argument(
        "--resume-from",
        type=Path,
        metavar="CHECKPOINT",
        help="go on from this checkpoint of a run instead of its newest",
    )
    args, settings = _parse(parser, words)
    resume = args.resume or args.resume_from is not None
    if resume and args.preset is not None:
        raise UsageError("--preset does not go with --resume: a run keeps its own configuration")
    if resume:
        config, run_dir = resumed_run(args.run, args.resume_from, settings)
    else:
        config, run_dir = new_run(args.preset, args.run, settings)
    check_environment(config)
    check_device(config.device)
    _run_training(config, run_dir, resume, args.resume_from)


def _run_training(config: Config, run_dir: Path, resume: bool, checkpoint: Path | None) -> None:
    from dreamer_nav.train import train

    try:
        train(config, run_dir, resume=resume, checkpoint=checkpoint)
    except KeyboardInterrupt:
        raise _Interrupted(_how_to_go_on(run_dir)) from None
    print(f"The run is in {run_dir}; evaluate it with: dreamer-nav eval {run_dir}")


def _how_to_go_on(run_dir: Path) -> str:
    from dreamer_nav.checkpoint import latest_checkpoint

    if latest_checkpoint(run_dir / "checkpoints") is None:
        return f"interrupted before the first checkpoint; {run_dir} can be deleted"
    return f"interrupted; go on with: dreamer-nav train --run {run_dir} --resume"


# -- eval ----------------------------------------------------------------------------------------


def _eval(words: list[str]) -> None:
    parser = Parser(
        "eval",
        "Evaluate a run's newest checkpoint, one checkpoint, or a policy file, beside the baselines.\n"
        "Or put the evaluations of several Atari or DeepMind Control runs beside the published\n"
        "scores: dreamer-nav eval --report RUN [RUN ...]",
        "--env.KEY VALUE changes an option of the environment (--env.split val); the rest of the\n"
        "configuration is the run's. `dreamer-nav envs NAME` lists the options.",
    )
    parser.add_argument("paths", type=Path, nargs="*", metavar="RUN_OR_CHECKPOINT")
    parser.add_argument(
        "--policy", type=Path, metavar="FILE", help="an exported policy (.onnx) instead of a run"
    )
    parser.add_argument(
        "--preset",
        metavar="P",
        help="the baselines alone, in the evaluation of a preset or YAML file",
    )
    parser.add_argument(
        "--report",
        action="store_true",
        help="normalised scores of evaluations made before, beside the published ones",
    )
    parser.add_argument(
        "--episodes", type=_count, metavar="N", help="episodes evaluated [the run's eval.episodes]"
    )
    parser.add_argument(
        "--episodes-file",
        type=Path,
        metavar="FILE",
        help="a PointNav-v1 episode file (json.gz) [the environment's own episodes]",
    )
    parser.add_argument(
        "--scenes",
        nargs="+",
        default=[],
        metavar="SCENE",
        help="play the episodes in each of these scenes; figures of each and of all",
    )
    parser.add_argument("--video", action="store_true", help="write videos with a top-down map")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument(
        "--baselines",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="random, greedy and shortest path on the same episodes [--baselines]",
    )
    parser.add_argument("--device", metavar="DEVICE", help="cpu, cuda, cuda:N, mps [the run's]")
    args, settings = _parse(parser, words)
    check_output(args.json)
    if args.report:
        _report(parser, args, settings)
        return
    if len(args.paths) > 1:
        raise UsageError(
            f"eval plays one run, got {len(args.paths)}; evaluate each, then put them beside each "
            f"other: dreamer-nav eval --report {' '.join(map(str, args.paths))}"
        )
    if [bool(args.paths), args.policy is not None, args.preset is not None].count(True) != 1:
        raise UsageError("eval needs one of RUN_OR_CHECKPOINT, --policy FILE and --preset P")
    env = _env_settings(settings)
    if args.episodes_file is not None:
        require(args.episodes_file, "episode file")
    _check_scenes(args, env)
    options = {
        "episodes": args.episodes,
        "env_overrides": env,
        "episodes_file": args.episodes_file,
        "scenes": args.scenes,
        "video": args.video,
        "json_path": args.json,
        "baselines": args.baselines,
    }
    if args.policy is not None:
        _eval_policy_file(args.policy, args.device, options)
        return
    if args.preset is not None:
        _eval_preset(args, options)
        return
    (path,) = args.paths
    require(path, "run or checkpoint")
    if args.device is not None:
        check_device(args.device)
    from dreamer_nav.evaluate import evaluate_policy, run_subject

    evaluate_policy(run_subject(path, args.device), **options)


def _check_scenes(args: argparse.Namespace, env: dict[str, object]) -> None:
    if not args.scenes:
        return
    if args.episodes_file is not None or "scene" in env:
        other = "--env.scene" if "scene" in env else "--episodes-file"
        raise UsageError(f"--scenes draws episodes in each scene, so {other} does not go with it")
    if len(set(args.scenes)) < len(args.scenes):
        raise UsageError("--scenes was given the same scene twice")


def _eval_preset(args: argparse.Namespace, options: dict[str, Any]) -> None:
    if args.device is not None or not args.baselines:
        raise UsageError("--preset plays the baselines alone, which no device computes")
    from dreamer_nav.evaluate import baselines_subject, evaluate_policy

    evaluate_policy(baselines_subject(args.preset, load_config(args.preset)), **options)


def _eval_policy_file(path: Path, device: str | None, options: dict[str, Any]) -> None:
    require(path, "policy file")
    if device is not None:
        raise UsageError("--device does not go with --policy: a policy file runs on the CPU")
    if importlib.util.find_spec("dreamer_nav_export") is None:
        raise UsageError(f"--policy needs the package dreamer-nav-export: {_EXPORT_INSTALL}")
    from dreamer_nav.evaluate import evaluate_policy
    from dreamer_nav_export.evaluation import file_subject

    evaluate_policy(file_subject(path), **options)


def _report(parser: Parser, args: argparse.Namespace, settings: list[str]) -> None:
    names = (
        "policy",
        "preset",
        "episodes",
        "episodes_file",
        "scenes",
        "video",
        "baselines",
        "device",
    )
    for name in names:
        if getattr(args, name) != parser.get_default(name):
            settings = [*settings, f"--{name.replace('_', '-')}"]
    if settings:
        raise UsageError(f"--report plays no episodes, so {settings[0]} does not go with it")
    if not args.paths:
        raise UsageError("--report needs RUN [RUN ...]")
    for path in args.paths:
        require(path, "run")
    if len({path.resolve() for path in args.paths}) < len(args.paths):
        raise UsageError("--report was given the same run twice")
    from dreamer_nav.run_scores import read_score
    from dreamer_nav.score_report import format_report, score_report

    report = score_report([read_score(path) for path in args.paths])
    print(format_report(report))
    if args.json is not None:
        write_report(args.json, report)
        print(f"\nWritten: {args.json}")


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a count of at least 1, got {text!r}")
    return int(text)


def _env_settings(settings: list[str]) -> dict[str, object]:
    """The environment's options among dotted settings; any other is refused."""
    for word in settings:
        name = word.partition("=")[0]
        if word.startswith("--") and not name.startswith("--env."):
            raise UsageError(
                f"eval changes --env.KEY settings only, got {name}: the run has the rest"
            )
    if not settings:
        return {}
    keep_name = {"env.name": "unchanged"}
    env = to_dict(override(override(Config(), keep_name), settings))["env"]
    return {key: value for key, value in env.items() if (key, value) != ("name", "unchanged")}


# -- envs, bench, export -------------------------------------------------------------------------


def _envs(words: list[str]) -> None:
    parser = Parser("envs", "Which simulators can be used here, and how to install the others.")
    parser.add_argument("name", nargs="?", metavar="NAME", help="list this environment's options")
    args, settings = _parse(parser, words)
    if settings:
        raise UsageError(f"envs takes no settings, got {settings[0]}")
    from dreamer_nav.envs_report import option_report, report

    print(option_report(args.name) if args.name else report())


def _bench(words: list[str]) -> None:
    parser = Parser(
        "bench",
        "Measure updates and environment steps per second, alone and together.",
        _settings_epilog(words),
    )
    parser.add_argument(
        "--preset", metavar="P", help=f"a preset's name or a YAML file [{DEFAULT_PRESET}]"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures to a file")
    parser.add_argument(
        "--seconds", type=_count, default=20, metavar="S", help="length of a measurement [20]"
    )
    parser.add_argument(
        "--profile", type=_count, default=0, metavar="N", help="show an update's N costliest steps"
    )
    args, settings = _parse(parser, words)
    config = load_config(args.preset or DEFAULT_PRESET, settings)
    check_output(args.json)
    check_device(config.device)
    from dreamer_nav.bench import bench

    bench(config, json_path=args.json, seconds=float(args.seconds), profile=args.profile)


def _export(words: list[str]) -> None:
    if importlib.util.find_spec("dreamer_nav_export") is not None:
        from dreamer_nav_export.cli import main as export_main

        status = export_main(words)
        if status:
            raise SystemExit(status)
        return
    parser = Parser("export", "Write a run's policy as an ONNX file that needs no torch.")
    parser.add_argument("path", type=Path, metavar="RUN_OR_CHECKPOINT")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True)
    _parse(parser, words)
    raise UsageError(f"export needs the package dreamer-nav-export: {_EXPORT_INSTALL}")


class _Verb(NamedTuple):
    run: Callable[[list[str]], None]
    summary: str


_VERBS = {
    "train": _Verb(_train, "train an agent, or go on with a run"),
    "eval": _Verb(_eval, "evaluate a run beside the baselines, as a table, JSON and videos"),
    "export": _Verb(_export, "write a policy file that runs on a robot without torch"),
    "envs": _Verb(_envs, "which simulators are installed, and how to install the others"),
    "bench": _Verb(_bench, "measure updates and environment steps per second"),
}
