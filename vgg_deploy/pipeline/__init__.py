"""The stages of the main job, each one call: what the commands do."""
