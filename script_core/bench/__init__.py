"""What selection, prefill and decoding cost on this machine: `python -m script_core.bench`.

Every figure is measured here and now: a warm-up, then the median of several runs with the quartiles beside it. What
this machine cannot measure is left out and said to be left out.
"""
