"""Steps of an export: what each reads, how it is done or found done, and how far the work is."""
