"""Reading the bits of a header."""


class Bits:
    """Bits of some bytes, the highest of each first."""

    def __init__(self, data: bytes):
        self.value, self.left = int.from_bytes(data), 8 * len(data)

    def read(self, count: int) -> int:
        """The next bits; ones after the end, where nothing must look unused and no loop must go on."""
        self.left -= count
        return self.value >> self.left & (1 << count) - 1 if self.left >= 0 else (1 << count) - 1

    def golomb(self) -> int:
        """The next Exp-Golomb number (ITU-T H.264, 9.1)."""
        zeros = 0
        while not self.read(1):
            zeros += 1
        return (1 << zeros) - 1 + self.read(zeros)
