//! The shared code of quantizers with a table of codes.

use tch::Tensor;

use super::entropy::least_bytes;
use super::memory::{MemoryBudget, mebibytes};
use super::search::{Nearness, nearest};
use super::vectors::{latent_from_vectors, mean_square, vectors_from_latent};
use super::{LossTerm, MAX_CODES, QuantizerError, Words, require, require_weight};

/// Checks the size of a codebook.
pub fn check_sizes(size: i64, dim: i64) -> Result<(), QuantizerError> {
    require((2..=MAX_CODES).contains(&size), "codebook_size", size, "it must be from 2 to 2^31")?;
    require((1..=65536).contains(&dim), "codebook_dim", dim, "it must be from 1 to 65536")
}

/// Checks the weight of an entropy loss over codes `[K, D]`, and that its tables fit the budget.
pub fn check_entropy(weight: f64, size: i64, dim: i64, budget: MemoryBudget) -> Result<(), QuantizerError> {
    require_weight("entropy_weight", weight)?;
    let needed = least_bytes(size, dim);
    require(
        weight == 0.0 || needed <= budget.bytes(),
        "memory_budget",
        budget,
        Words::from(format!(
            "the entropy loss over {size} codes of dimension {dim} needs {} MiB at least; raise it or set ",
            mebibytes(needed)
        ))
        .setting("entropy_weight")
        .text(" = 0"),
    )
}

/// The index of the nearest of `size` codes at each position. `codes` and the other arguments are
/// the same as for [`nearest`].
///
/// # Shapes
/// `z`: `[B, N, D]` -> `[B, N]` int64.
pub fn nearest_codes(
    z: &Tensor,
    size: i64,
    codes: impl Fn(i64, i64) -> Tensor,
    nearness: Nearness,
    budget: MemoryBudget,
) -> Tensor {
    let indices = nearest(&vectors_from_latent(&z.detach()), size, codes, nearness, budget);
    indices.view_as(&z.select(2, 0))
}

/// ‖z − sg[e]‖², which moves latents to their codes, and ‖sg[z] − e‖², which moves codes to their
/// latents. Both are means over elements.
pub fn distance_losses(z: &Tensor, codes: &Tensor, commitment: f64, codebook: Option<f64>) -> Vec<LossTerm> {
    let mut losses =
        vec![LossTerm { name: "commitment", value: mean_square(z, &codes.detach()), weight: commitment }];
    if let Some(weight) = codebook {
        losses.push(LossTerm { name: "codebook", value: mean_square(&z.detach(), codes), weight });
    }
    losses
}

/// Looks up the rows `indices [B, N]` of `table [K, D]`: `[B·N, D]`, with the table's gradient and
/// never −0.0. Indices out of range are clamped.
pub fn rows(table: &Tensor, indices: &Tensor) -> Tensor {
    let clamped = indices.clamp(0, table.size()[0] - 1).reshape([-1]);
    table.index_select(0, &clamped) + 0.0
}

/// [`rows`] in the shape of a latent, `[B, N, D]`.
pub fn latent_of_rows(table: &Tensor, indices: &Tensor) -> Tensor {
    latent_from_vectors(&rows(table, indices), indices)
}
