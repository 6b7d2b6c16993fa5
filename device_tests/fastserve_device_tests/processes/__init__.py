"""Child processes of targets, with limits on what they may use."""
