"""A step's arithmetic as one compiled call: optional, found or built by `build`, reached through `library`.

The kernels are C (`step.h` says what they offer). Without a compiler, without a prebuilt library, or with
`SLED_TTS_NATIVE=off` everything runs on torch's operators instead.
"""
