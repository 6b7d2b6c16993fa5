"""How each kind of step is done: jobs of the converter process, compiling, measuring and judging."""
