"""Whether outputs are right: measures, policies and verdicts."""
