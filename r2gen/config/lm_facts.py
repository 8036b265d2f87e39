"""What rules between groups must know of language-model families before any weight is read."""

# Of these, the encoder-decoders: the prompt is encoded, the report decoded.
ENCODER_DECODERS = frozenset({"t5"})
