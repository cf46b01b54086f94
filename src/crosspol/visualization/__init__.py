"""The one place that draws: colored maps, panels, contact sheets."""
