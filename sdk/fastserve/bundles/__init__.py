"""Writing bundles: the manifest, the files and the evidence beside them; taking parts out of one."""
