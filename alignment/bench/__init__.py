"""Measurements on labels that people gave: the replay of sparse review, the critic's tests, the raters."""
