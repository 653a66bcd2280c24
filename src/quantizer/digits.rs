//! A token as digits: one small number for each latent dimension, in a mixed radix.

use std::collections::BTreeMap;

use strum::IntoStaticStr;
use tch::{Device, Kind, Tensor};

/// Which digit of an index is the least significant one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, IntoStaticStr)]
#[strum(serialize_all = "kebab-case")]
pub enum Order {
    /// The first dimension varies fastest (FSQ, LFQ).
    FirstFastest,
    /// The last dimension varies fastest (BSQ).
    LastFastest,
}

impl Order {
    /// The name in token files.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }
}

/// Converts between digits and indices: index = Σ digit_i · basis_i, in integers.
#[derive(Debug)]
pub struct MixedRadix {
    order: Order,
    levels: Vec<i64>,
    basis: Vec<i64>,
    /// The levels, `[D]`, which broadcast over `[…, D]`.
    level_tensor: Tensor,
    basis_tensor: Tensor,
}

impl MixedRadix {
    /// A mixed radix with `levels` digits L_i per dimension, whose product must fit an i64.
    #[must_use]
    pub fn new(levels: &[i64], order: Order, device: Device) -> Self {
        let running = |levels: &mut dyn Iterator<Item = &i64>| -> Vec<i64> {
            levels.scan(1, |product, &level| Some(std::mem::replace(product, *product * level))).collect()
        };
        let basis = match order {
            Order::FirstFastest => running(&mut levels.iter()),
            Order::LastFastest => running(&mut levels.iter().rev()).into_iter().rev().collect(),
        };
        let row = |values: &[i64]| Tensor::from_slice(values).to_device(device);
        let level_tensor = row(levels);
        Self { order, levels: levels.to_vec(), basis_tensor: row(&basis), basis, level_tensor }
    }

    /// L_i, the number of digits of each dimension.
    #[must_use]
    pub fn levels(&self) -> &[i64] {
        &self.levels
    }

    /// Which digit is the least significant one.
    #[must_use]
    pub fn order(&self) -> Order {
        self.order
    }

    /// K, the product of the levels.
    #[must_use]
    pub fn size(&self) -> i64 {
        self.levels.iter().product()
    }

    /// index = Σ digit_i · basis_i.
    ///
    /// # Shapes
    /// `[…, D]` int64 -> `[…]` int64.
    pub fn indices_from_digits(&self, digits: &Tensor) -> Tensor {
        (digits * &self.basis_tensor).sum_dim_intlist(-1, false, Kind::Int64)
    }

    /// digit_i = ⌊index / basis_i⌋ mod L_i. An index out of range is clamped.
    ///
    /// # Shapes
    /// `[…]` int64 -> `[…, D]` int64.
    pub fn digits_from_indices(&self, indices: &Tensor) -> Tensor {
        let clamped = indices.clamp(0, self.size() - 1).unsqueeze(-1);
        clamped.divide_tensor_mode(&self.basis_tensor, "floor").remainder_tensor(&self.level_tensor)
    }

    /// Counts the digits of each dimension from the counts of indices. Returns, for each dimension,
    /// the `(digit, count)` pairs of the digits that occur, sorted by digit.
    #[must_use]
    pub fn histograms(&self, counts: &[(i64, i64)]) -> Vec<Vec<(i64, i64)>> {
        let of = |(&level, &basis): (&i64, &i64)| {
            let mut totals = BTreeMap::new();
            for &(index, count) in counts {
                *totals.entry(index / basis % level).or_default() += count;
            }
            totals.into_iter().collect()
        };
        self.levels.iter().zip(&self.basis).map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(radix: &MixedRadix) -> Tensor {
        Tensor::arange(radix.size(), (Kind::Int64, Device::Cpu)).view([1, -1])
    }

    #[test]
    fn every_index_of_whole_codebooks_comes_back() {
        for order in [Order::FirstFastest, Order::LastFastest] {
            for levels in [&[5, 3][..], &[2; 12], &[8, 8, 8, 5, 5, 5], &[7], &[1000, 2]] {
                let radix = MixedRadix::new(levels, order, Device::Cpu);
                let (indices, digits) = (all(&radix), radix.digits_from_indices(&all(&radix)));
                assert_eq!(digits.size(), [1, radix.size(), levels.len() as i64]);
                assert_eq!(radix.indices_from_digits(&digits), indices, "{levels:?} {order:?}");
            }
        }
    }

    #[test]
    fn the_order_says_which_digit_counts_in_ones() {
        let digits = |order| {
            let radix = MixedRadix::new(&[2, 3, 4], order, Device::Cpu);
            Vec::<i64>::try_from(radix.digits_from_indices(&Tensor::from(5).view([1, 1])).view([-1])).unwrap()
        };
        assert_eq!(digits(Order::FirstFastest), [1, 2, 0]);
        assert_eq!(digits(Order::LastFastest), [0, 1, 1]);
    }

    #[test]
    fn histograms_add_up_over_the_other_dimensions() {
        let radix = MixedRadix::new(&[2, 3], Order::FirstFastest, Device::Cpu);
        // Index 1 is (1, 0), index 4 is (0, 2), index 5 is (1, 2).
        let histograms = radix.histograms(&[(1, 10), (4, 5), (5, 1)]);
        assert_eq!(histograms, [vec![(0, 5), (1, 11)], vec![(0, 10), (2, 6)]]);
    }
}
