"""Makes this folder importable, so that every test may say ``from builders import …``."""
