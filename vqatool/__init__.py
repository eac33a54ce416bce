"""No-reference video quality, from the ladder to the audit.

    source --ladder--> encodes --label--> labels --train--> model --score--> report

Stages 1 and 2 (`ladder`, a package of its own) make encodes and measure their VMAF with ffmpeg;
stage 3 (`groups`) splits them by source into bitrate groups; stage 4 (`train`) learns by the recipe
of a published method (`recipes`); stage 5 (`score`) audits any videos; stage 6 (`report`) tells
people. Each stage leaves one CSV, and run again it does only what is missing.
"""

__version__ = "0.1.0"
