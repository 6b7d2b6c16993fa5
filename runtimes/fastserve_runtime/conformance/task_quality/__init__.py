"""How good a variant is at its task: one module a task, for export, conform and bench alike.

Each has `quality(compared)`, by which variants are ranked: with labels, where the data has some. Most also have
`task_metric(compared)`, which conform judges on the samples that ship with a bundle: without labels, so that few
samples tell. The converters' tasks and the runtime's pipelines refer to these.
"""
