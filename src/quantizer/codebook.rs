//! What quantizers with a table of codes share.

use tch::{Kind, Tensor};

use super::entropy::row_bytes;
use super::memory::{MemoryBudget, mebibytes};
use super::vectors::{MIN_NORM, grid_from_vectors};
use super::{MAX_CODES, QuantizerError, require, require_weight};

/// Refuses sizes that no codebook can have.
pub fn check_sizes(size: i64, dim: i64) -> Result<(), QuantizerError> {
    require((2..=MAX_CODES).contains(&size), "codebook_size", size, "it must be from 2 to 2^31")?;
    require((1..=65536).contains(&dim), "codebook_dim", dim, "it must be from 1 to 65536")
}

/// Refuses an entropy loss over `codes` codes that is out of range or does not fit the budget.
pub fn check_entropy(weight: f64, codes: i64, budget: MemoryBudget) -> Result<(), QuantizerError> {
    require_weight("entropy_weight", weight)?;
    let needed = row_bytes(codes);
    require(
        weight == 0.0 || needed <= budget.bytes(),
        "memory_budget",
        budget,
        &format!(
            "the entropy loss over {codes} codes needs {} MiB for a single vector; raise it or set \
             quantizer.entropy_weight = 0",
            mebibytes(needed)
        ),
    )
}

/// Rows of `table [K, D]` that `indices [B, h, w]` name, out-of-range ones clamped, `[B·h·w, D]`; with the table's
/// gradient and never −0.0.
pub fn rows(table: &Tensor, indices: &Tensor) -> Tensor {
    let clamped = indices.clamp(0, table.size()[0] - 1).view([-1]);
    table.index_select(0, &clamped) + 0.0
}

/// [`rows`] as a grid, `[B, D, h, w]`.
pub fn codes(table: &Tensor, indices: &Tensor) -> Tensor {
    grid_from_vectors(&rows(table, indices), &indices.size())
}

/// Each row at length 1.
pub fn unit_rows(rows: &Tensor) -> Tensor {
    let lengths = rows.square().sum_dim_intlist(-1, true, Kind::Float).sqrt();
    rows / lengths.clamp_min(MIN_NORM)
}
