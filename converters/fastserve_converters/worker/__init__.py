"""The converter process, and the jobs that it does on a loaded model."""
