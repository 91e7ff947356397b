"""What habitat-baselines finds before `dreamer_nav.habitat.config` where habitat_sim is not installed."""
