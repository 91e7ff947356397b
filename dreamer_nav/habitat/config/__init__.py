"""Hydra configurations for `python -m habitat_baselines.run --config-name=pointnav/...`."""
