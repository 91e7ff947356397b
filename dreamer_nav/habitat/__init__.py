"""The agent inside habitat-baselines: its trainer, policy and configurations. Imports nothing by itself."""
