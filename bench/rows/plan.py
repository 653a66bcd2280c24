"""What all rows are told."""

from dataclasses import dataclass
from pathlib import Path


@dataclass
class Plan:
    # A folder of JPEGs.
    data: Path
    # For files that are thrown away at the end.
    scratch: Path
    # Of libtorch, ours and theirs, and so many workers of a DataLoader.
    threads: int
    # What `train.precision = "auto"` means here, "bf16" or "fp32". Both sides train in it unless a row sets another.
    precision: str
    # Only to try that everything runs.
    quick: bool

    def steps(self, count: int) -> int:
        """So many, or fewer to try; two are the least from which a speed comes."""
        return max(2, count // 10) if self.quick else count

    def folder(self, name: str, turn: int) -> Path:
        return self.scratch / f"{name}-{turn}"
