"""Interactive evaluation: the click protocol, metrics, reports and pictures."""
