"""The command `dreamer-nav export`, and `dreamer-nav-export` for where only this is installed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, List, NoReturn, Optional, Sequence

from dreamer_nav_export.errors import PolicyError

__all__ = ["main", "tool"]


class _UsageError(PolicyError):
    """A command line that cannot be understood."""


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        raise _UsageError("{} (`{} --help`)".format(message, self.prog))


# -- dreamer-nav export --------------------------------------------------------------------------


def main(words: Sequence[str]) -> int:
    """Run `dreamer-nav export`; failures are raised, for that command to put into a line."""
    args = _export_parser().parse_args(list(words))
    from dreamer_nav_export.export_command import run

    run(args)
    return 0


def _export_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dreamer-nav export",
        description="Write a run's policy as one ONNX file that runs without torch, and check it against torch.",
    )
    parser.add_argument("path", type=Path, metavar="RUN_OR_CHECKPOINT")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", required=True)
    parser.add_argument(
        "--variant",
        choices=("mode", "sample", "deterministic"),
        default="mode",
        help="mode: latents sampled, likeliest action, as evaluations play; sample: actions sampled too; "
        "deterministic: neither sampled [mode]",
    )
    parser.add_argument("--batch", type=_count, metavar="N", help="a fixed batch size [any]")
    parser.add_argument(
        "--control-hz", type=float, metavar="HZ", help="[1 / the action's duration]"
    )
    parser.add_argument(
        "--max-staleness-s",
        type=float,
        metavar="S",
        help="age of an observation beyond which a robot must not act on it [a control period, or 0.5]",
    )
    parser.add_argument("--no-parity", action="store_true", help="do not compare with torch")
    parser.add_argument(
        "--int8",
        action="store_true",
        help="also write FILE's .int8.onnx, play episodes with both, and keep it only within --int8-max-loss",
    )
    parser.add_argument("--int8-episodes", type=_count, default=100, metavar="N", help="[100]")
    parser.add_argument(
        "--int8-max-loss",
        type=float,
        default=0.02,
        metavar="X",
        help="of mean success and of mean SPL (of the return, where there are none, as a share) [0.02]",
    )
    parser.add_argument("--traceback", action="store_true", help="show where a failure came from")
    return parser


def _count(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError("must be a count of at least 1, got {!r}".format(text))
    return int(text)


# -- dreamer-nav-export --------------------------------------------------------------------------


def tool(argv: Optional[Sequence[str]] = None) -> int:
    """Run `dreamer-nav-export`; returns its exit status."""
    words: List[str] = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _tool_parser().parse_args(words)
        args.run(args)
        return 0
    except SystemExit as leaving:  # argparse, after --help
        return int(leaving.code or 0)
    except KeyboardInterrupt:
        return _fail("interrupted", 130)
    except BrokenPipeError:  # `dreamer-nav-export inspect FILE | head`
        sys.stderr.close()
        return 1
    except PolicyError as error:
        return _fail("error: {}".format(error), 1)


def _fail(text: str, status: int) -> int:
    print("dreamer-nav-export: {}".format(" ".join(text.split())), file=sys.stderr)
    return status


def _tool_parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="dreamer-nav-export", description="Look at, check and time a policy file."
    )
    verbs = parser.add_subparsers(metavar="VERB", parser_class=_Parser)
    for name, run, summary in (
        (
            "inspect",
            _inspect,
            "what the policy takes and gives, where it comes from, how good it is",
        ),
        ("selftest", _selftest, "run the file's golden vectors on this machine"),
        ("bench", _bench, "latency of a step on one thread"),
    ):
        verb = verbs.add_parser(name, help=summary, description=summary)
        verb.add_argument("file", type=Path, metavar="FILE")
        verb.add_argument("--sha256", metavar="HEX", help="the hash the file must have")
        verb.set_defaults(run=run)
        if name == "inspect":
            verb.add_argument("--json", action="store_true", help="the whole contract as JSON")
        if name == "bench":
            verb.add_argument("--steps", type=_count, default=500, metavar="N", help="[500]")
            verb.add_argument(
                "--checkpoint", type=Path, metavar="RUN", help="beside torch on this run's agent"
            )
    parser.set_defaults(run=_no_verb)
    return parser


def _no_verb(args: Any) -> None:
    raise _UsageError("say what to do: inspect, selftest or bench (`dreamer-nav-export --help`)")


def _load(args: Any) -> Any:
    from dreamer_nav_export.runtime import Policy

    return Policy.load(args.file, expected_sha256=args.sha256)


def _inspect(args: Any) -> None:
    from dreamer_nav_export.inspect_text import describe

    spec = _load(args).spec
    print(spec.dumps() if args.json else describe(spec))


def _selftest(args: Any) -> None:
    result = _load(args).selftest()
    print(
        "{}: {} golden steps, largest difference {:.2g}: ok".format(
            args.file, result.steps, result.max_error
        )
    )


def _bench(args: Any) -> None:
    from dreamer_nav_export.latency import bench_policy

    print(bench_policy(_load(args), args.steps, args.checkpoint))
