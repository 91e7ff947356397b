"""The command line's grammar: dotted settings beside each verb's options, suggestions, help."""

from __future__ import annotations

import argparse
import shutil
import textwrap
from collections.abc import Iterable, Sequence
from itertools import groupby
from typing import Any, NoReturn

from dreamer_nav.failures import UsageError
from dreamer_nav.presets import DEFAULT_PRESET, load_config
from dreamer_nav.settings import Setting, find_setting, flatten_fields, nearest, type_text

__all__ = ["Parser", "option_value", "settings_help", "split_settings"]


class Parser(argparse.ArgumentParser):
    """One verb's options; mistakes are raised as `UsageError` instead of printed with the usage."""

    def __init__(self, verb: str, description: str, epilog: str = "") -> None:
        super().__init__(
            prog=f"dreamer-nav {verb}",
            description=description,
            epilog=epilog,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )

    def error(self, message: str) -> NoReturn:
        """Raise instead of leaving the process with argparse's status 2."""
        raise UsageError(f"{message} (`{self.prog} --help`)")

    def options(self) -> set[str]:
        """Every option string of the verb."""
        return {text for action in self._actions for text in action.option_strings}


def option_value(words: Sequence[str], option: str) -> str | None:
    """The value of `option` in unparsed words, if it is there."""
    for i, word in enumerate(words):
        if word.startswith(f"{option}="):
            return word.partition("=")[2]
        if word == option and i + 1 < len(words):
            return words[i + 1]
    return None


def split_settings(words: Sequence[str], options: set[str]) -> tuple[list[str], list[str]]:
    """Part a verb's words into its own and the dotted settings with their values.

    Raises:
        UsageError: an option that is neither; names the nearest one.
    """
    own: list[str] = []
    settings: list[str] = []
    waiting = list(words)
    while waiting:
        word = waiting.pop(0)
        name = word.partition("=")[0]
        if not word.startswith("--") or word == "--" or name in options:
            own.append(word)
        elif _is_setting(name):
            settings.append(word)
            if "=" not in word and _takes_next(name, waiting):
                settings.append(waiting.pop(0))
        else:
            raise UsageError(_unknown_option(name, options))
    return own, settings


def _is_setting(option: str) -> bool:
    """Dotted words are settings, known or not: the schema answers the unknown ones."""
    return "." in option or find_setting(option[2:]) is not None


def _takes_next(option: str, waiting: list[str]) -> bool:
    if not waiting or waiting[0].startswith("--"):
        return False
    setting = find_setting(option[2:])
    is_switch = setting is not None and setting.type is bool
    return not is_switch or waiting[0].lower() in ("true", "false")


def _unknown_option(option: str, options: set[str]) -> str:
    by_last: dict[str, list[str]] = {}
    for setting in flatten_fields():
        by_last.setdefault(setting.name.rpartition(".")[2], []).append(setting.name)
    word = option[2:].replace("-", "_")
    last = word if word in by_last else None
    close = nearest(option, options) if last is None else None
    if close is None:
        last = last or nearest(word, by_last)
    if last is not None:
        close = " or ".join(f"--{name}" for name in by_last[last][:3])
    return f"unknown option '{option}'." + (f" Did you mean {close}?" if close else "")


def settings_help(preset: str | None) -> str:
    """Every setting with its value in the preset, grouped by section."""
    preset = preset or DEFAULT_PRESET
    width = max(60, min(shutil.get_terminal_size().columns, 110))
    lines = [
        f"settings, with [their values in the preset {preset}]; change one with --NAME VALUE or in",
        "a preset file; `--preset P --help` shows another preset's values:",
    ]
    by_section = groupby(flatten_fields(load_config(preset)), lambda s: s.name.rpartition(".")[0])
    for section, settings in by_section:
        lines += ["", f"{section or 'general'}:"]
        for setting in settings:
            lines += _setting_lines(setting, width)
    return "\n".join(lines)


def _setting_lines(setting: Setting, width: int) -> Iterable[str]:
    kind = type_text(setting.type)
    head = f"  --{setting.name} {kind}"
    if kind == "MAPPING":
        head = f"  --{setting.name}.KEY VALUE"
    body = textwrap.wrap(f"{setting.help} [{_shown(setting.default)}]", width - 6)
    return [head, *(f"      {line}" for line in body)]


def _shown(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{k}: {_shown(v)}" for k, v in value.items()) or "none"
    if isinstance(value, (tuple, list)):
        return ",".join(str(v) for v in value)
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value) or "empty"
