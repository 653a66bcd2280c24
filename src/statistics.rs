//! What a step reports besides its losses: statistics, so that one update sees all micro-batches;
//! monitors, only for the logs; and what such an update changed.

use tch::{Kind, Tensor};

/// A named scalar for the logs. It is detached and stays on its device until it is logged.
#[derive(Debug)]
pub struct Monitor {
    /// The name in the logs, for instance `codebook/restarts`.
    pub name: String,
    /// The scalar.
    pub value: Tensor,
}

/// The changes of an update that no optimizer makes.
#[derive(Debug, Default)]
pub struct UpdateReport {
    /// Rows of a trainable tensor that were overwritten. The training loop clears their optimizer
    /// moments and copies them into the weight average.
    pub replaced_rows: Vec<ReplacedRows>,
    /// Monitors, only for the logs.
    pub monitors: Vec<Monitor>,
}

/// Rows of one variable that have no relation to their earlier values.
#[derive(Debug)]
pub struct ReplacedRows {
    /// The full name of the variable, as in the checkpoint.
    pub variable: String,
    /// `[rows]` bool, on the variable's device.
    pub mask: Tensor,
}

/// One detached observation. The statistics of several micro-batches are either summed or pooled.
#[derive(Debug)]
pub enum Statistic {
    /// A sum over micro-batches: counts, sums of vectors.
    Sum {
        /// The name, unique among the statistics that are updated together.
        name: &'static str,
        /// The value, of any shape that is the same in every micro-batch.
        value: Tensor,
    },
    /// A sample of vectors; merged samples are thinned evenly to `capacity` rows.
    Pool {
        /// The name, unique among the statistics that are updated together.
        name: &'static str,
        /// `[rows, D]`, in random order.
        vectors: Tensor,
        /// The largest number of rows after merging.
        capacity: i64,
    },
    /// The statistics of one of several quantizers.
    Part(Vec<Statistic>),
}

/// Merges the lists of several micro-batches, which have the same statistics in the same order.
#[must_use]
pub fn merge(micro_batches: Vec<Vec<Statistic>>) -> Vec<Statistic> {
    let mut lists: Vec<_> = micro_batches.into_iter().map(Vec::into_iter).collect();
    let mut merged = vec![];
    loop {
        let same: Vec<Statistic> = lists.iter_mut().filter_map(Iterator::next).collect();
        merged.push(match same.first() {
            None => return merged,
            Some(Statistic::Sum { name, .. }) => {
                let value = tensors(&same).into_iter().sum();
                Statistic::Sum { name, value }
            }
            Some(&Statistic::Pool { name, capacity, .. }) => {
                let vectors = thinned(&Tensor::cat(&tensors(&same), 0), capacity);
                Statistic::Pool { name, vectors, capacity }
            }
            Some(Statistic::Part(_)) => {
                Statistic::Part(merge(same.into_iter().map(Statistic::part).collect()))
            }
        });
    }
}

fn tensors(same: &[Statistic]) -> Vec<&Tensor> {
    same.iter().filter_map(Statistic::tensor).collect()
}

impl Statistic {
    fn tensor(&self) -> Option<&Tensor> {
        match self {
            Self::Sum { value, .. } => Some(value),
            Self::Pool { vectors, .. } => Some(vectors),
            Self::Part(_) => None,
        }
    }

    /// The statistics of a part; empty for anything else.
    fn part(self) -> Vec<Statistic> {
        match self {
            Self::Part(statistics) => statistics,
            _ => vec![],
        }
    }
}

/// Keeps every n-th row, so that at most `capacity` rows remain.
fn thinned(rows: &Tensor, capacity: i64) -> Tensor {
    let n = rows.size()[0];
    if n <= capacity {
        return rows.shallow_clone();
    }
    let picked = Tensor::arange(capacity, (Kind::Int64, rows.device())) * n;
    rows.index_select(0, &picked.divide_scalar_mode(capacity, "floor"))
}

/// The sum called `name`, if there is one.
#[must_use]
pub fn sum<'a>(statistics: &'a [Statistic], name: &str) -> Option<&'a Tensor> {
    statistics.iter().find_map(|statistic| match statistic {
        Statistic::Sum { name: found, value } if *found == name => Some(value),
        _ => None,
    })
}

/// The pool called `name`, if there is one.
#[must_use]
pub fn pool<'a>(statistics: &'a [Statistic], name: &str) -> Option<&'a Tensor> {
    statistics.iter().find_map(|statistic| match statistic {
        Statistic::Pool { name: found, vectors, .. } if *found == name => Some(vectors),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_add_and_pools_are_thinned() {
        let micro_batch = |start: f32| {
            vec![
                Statistic::Sum { name: "counts", value: Tensor::from_slice(&[start, 1.0]) },
                Statistic::Pool {
                    name: "sample",
                    vectors: Tensor::from_slice(&[start, start + 1.0, start + 2.0]).view([3, 1]),
                    capacity: 3,
                },
            ]
        };
        let merged = merge(vec![micro_batch(0.0), micro_batch(3.0), micro_batch(6.0)]);
        assert_eq!(*sum(&merged, "counts").unwrap(), Tensor::from_slice(&[9f32, 3.0]));
        assert_eq!(*pool(&merged, "sample").unwrap(), Tensor::from_slice(&[0f32, 3.0, 6.0]).view([3, 1]));
        assert!(merge(vec![]).is_empty());
        let nested =
            merge(vec![vec![Statistic::Part(micro_batch(0.0))], vec![Statistic::Part(micro_batch(3.0))]]);
        let inside = nested.into_iter().next().unwrap().part();
        assert_eq!(*sum(&inside, "counts").unwrap(), Tensor::from_slice(&[3f32, 2.0]));
    }
}
