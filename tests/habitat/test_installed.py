from __future__ import annotations

import importlib.metadata

import pytest


def test_the_tested_release_of_habitat_lab_is_installed() -> None:
    pytest.importorskip("habitat", reason="habitat-lab is not installed: make test-habitat")
    from sim_adapters.habitat.versions import TESTED, check_versions

    assert importlib.metadata.version("habitat-lab") == TESTED
    check_versions()
