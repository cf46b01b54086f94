"""Loss, schedules, the loop and its checkpoints."""
