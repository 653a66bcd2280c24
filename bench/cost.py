"""How many operations a training step of the yardstick's network takes, counted from its convolutions."""

MULTIPLIERS = (1, 2, 4)
LATENT_CHANNELS = 4


def multiply_adds(channels: int, size: int) -> tuple[int, int]:
    """Of one image's forward pass: those of all convolutions, and those of the first alone."""
    widths = [channels * multiplier for multiplier in MULTIPLIERS]
    # Input channels, output channels, kernel, side of the output.
    first = (3, channels, 3, size)
    convolutions = [first]
    width, side = channels, size
    for stage, wider in enumerate(widths):
        convolutions += block(width, wider, side)
        width = wider
        if stage < len(widths) - 1:
            side //= 2
            convolutions.append((width, width, 3, side))
    convolutions += [(width, LATENT_CHANNELS, 1, side), (LATENT_CHANNELS, width, 3, side)]
    for stage in reversed(range(len(widths))):
        convolutions += block(width, widths[stage], side)
        width = widths[stage]
        if stage > 0:
            side *= 2
            convolutions.append((width, width, 3, side))
    convolutions.append((width, 3, 3, side))
    return sum(map(products, convolutions)), products(first)


def block(channels_in: int, channels_out: int, side: int) -> list[tuple[int, int, int, int]]:
    convolutions = [(channels_in, channels_out, 3, side), (channels_out, channels_out, 3, side)]
    return convolutions + ([(channels_in, channels_out, 1, side)] if channels_in != channels_out else [])


def products(convolution: tuple[int, int, int, int]) -> int:
    channels_in, channels_out, kernel, side = convolution
    return channels_in * channels_out * kernel**2 * side**2


def operations_per_image(channels: int, size: int = 64) -> int:
    """Forward, and backward to weights and to inputs, each as many products; the images themselves need no gradient."""
    everything, first = multiply_adds(channels, size)
    return 2 * (3 * everything - first)
