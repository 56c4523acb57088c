"""What a kill, a full disk, damage or a second run may do to a run, and what they must not."""
