"""habitat-lab and habitat-baselines import without habitat-sim, in a bare Python started anywhere."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from sim_adapters.habitat import stand_ins

WITHOUT_SIM = pytest.mark.skipif(stand_ins.has_habitat_sim(), reason="habitat-sim is installed")
HOOKED = pytest.mark.skipif(
    importlib.util.find_spec("dreamer_nav_habitat_hook") is None,
    reason="dreamer-nav is not installed in this environment",
)
BARE = """
import multiprocessing, sys

def worker(pipe):
    import habitat
    from habitat.core.registry import registry
    pipe.send(registry.get_simulator("Bullet-v0").__name__)

if __name__ == "__main__":
    import habitat_baselines.run
    from habitat.core.registry import registry
    print(registry.get_simulator("Bullet-v0").__name__, "habitat_sim" in sys.modules)
    context = multiprocessing.get_context("forkserver")
    ours, theirs = context.Pipe()
    process = context.Process(target=worker, args=(theirs,))
    process.start()
    print(ours.recv())
    process.join()
"""


@HOOKED
@WITHOUT_SIM
def test_a_bare_import_and_its_workers_have_bullet_and_say_once_what_is_missing(
    tmp_path: Path,
) -> None:
    (tmp_path / "bare.py").write_text(BARE)
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", stand_ins._SAID)}
    done = subprocess.run(
        [sys.executable, "bare.py"],
        cwd=tmp_path,
        env=env,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-2:] == ["BulletSim False", "BulletSim"]
    assert done.stderr.count("habitat_sim is not installed") == 1


@HOOKED
def test_the_hook_costs_nothing_until_habitat_is_imported(tmp_path: Path) -> None:
    code = "import sys; print(sorted({m.partition('.')[0] for m in sys.modules}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "dreamer_nav_habitat_hook" in done.stdout
    for name in ("sim_adapters", "habitat", "numpy", "gymnasium"):
        assert f"'{name}'" not in done.stdout


@WITHOUT_SIM
def test_a_stand_in_can_be_imported_but_not_made() -> None:
    from habitat.tasks.rearrange.rearrange_sensors import GfxReplayMeasure

    assert isinstance(GfxReplayMeasure.cls_uuid, str)
    with pytest.raises(ImportError, match="GfxReplayMeasure is a stand-in"):
        GfxReplayMeasure()
    with pytest.raises(ModuleNotFoundError):
        import habitat_sim  # noqa: F401
