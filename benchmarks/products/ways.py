"""The ways in which weights are stored, by the names of their files."""

FREE, PAIRS, HALF, UNSIGNED = "eight-bits", "pairs", "seven-bits", "unsigned"
WAYS = {
    FREE: "all eight bits, signed",
    PAIRS: "neighbours add up to 128 at most",
    HALF: "seven bits",
    UNSIGNED: "all eight bits, unsigned",
}
