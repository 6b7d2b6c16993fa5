"""Child processes: how they are talked to, limited, and ended."""
