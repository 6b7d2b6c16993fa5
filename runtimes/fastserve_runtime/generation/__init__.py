"""What text generation needs beside an engine: prompts, sampling, text from tokens, and when to stop.

Nothing here knows an engine or a model; each module does one of these and can be used alone.
"""
