"""Tasks: one module each, found by its name on the Hub. Modules import no PyTorch until a reference is computed.

What each offers is `fastserve_converters.checkpoints.task.Task`. Third parties add theirs by the entry-point group
`fastserve.tasks`.
"""
