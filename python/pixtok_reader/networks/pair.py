"""The encoder of one network and the decoder of another (`kind = "pair"`)."""

from math import lcm
from typing import TYPE_CHECKING

from torch import nn

if TYPE_CHECKING:
    from . import Network


class Plan:
    """Two networks whose tokens and latents agree."""

    def __init__(self, encoding: "Network", decoding: "Network") -> None:
        self.encoding, self.decoding = encoding, decoding
        self.latent_channels, self.tokens = encoding.latent_channels, encoding.tokens
        self.side_multiple = lcm(encoding.side_multiple, decoding.side_multiple)
        self.only_size = encoding.only_size or decoding.only_size
        self.tail_drop = decoding.tail_drop

    def encoder(self) -> nn.Module:
        return self.encoding.encoder()

    def decoder(self) -> nn.Module:
        return self.decoding.decoder()
