//! What a step reports besides its losses: statistics, so that one update sees all micro-batches of
//! all processes; monitors, only for the logs; and what such an update changed.

use tch::Tensor;

use crate::world::{World, WorldError};

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

/// One detached observation. The statistics of several micro-batches or processes are either summed
/// or pooled.
#[derive(Debug)]
pub enum Statistic {
    /// A sum over vectors: their counts, themselves.
    Sum {
        /// The name, unique among the statistics that are updated together.
        name: &'static str,
        /// The value, of any shape that is the same in every micro-batch.
        value: Tensor,
    },
    /// A random sample of vectors, made by [`Statistic::pool_of`]: those with the smallest keys.
    Pool {
        /// The name, unique among the statistics that are updated together.
        name: &'static str,
        /// `[rows]` int64, ascending.
        keys: Tensor,
        /// `[rows, D]`, in the order of their keys.
        vectors: Tensor,
        /// The largest number of rows.
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
                let value = same.iter().filter_map(Statistic::value).sum();
                Statistic::Sum { name, value }
            }
            Some(&Statistic::Pool { name, capacity, .. }) => {
                let (keys, vectors): (Vec<&Tensor>, Vec<&Tensor>) =
                    same.iter().filter_map(Statistic::sample).unzip();
                Statistic::pool_of(name, &Tensor::cat(&keys, 0), &Tensor::cat(&vectors, 0), capacity)
            }
            Some(Statistic::Part(_)) => {
                Statistic::Part(merge(same.into_iter().map(Statistic::part).collect()))
            }
        });
    }
}

/// The statistics of all processes, which have the same ones in the same order, from those of this
/// process: sums are added up, and pools are merged as those of micro-batches are. All processes
/// call it together, and each gets the same.
///
/// # Errors
/// [`WorldError`].
pub fn merge_over(mut own: Vec<Statistic>, world: &World) -> Result<Vec<Statistic>, WorldError> {
    if world.size() > 1 {
        make_room(&mut own, world)?;
        add_up(addends(&mut own), world)?;
    }
    Ok(own)
}

/// Gives each pool the keys of the pool of all processes, and puts its vectors at the places of
/// their keys, with zeros at the places of other processes' vectors. Then the pools need only be
/// added up: gathering the vectors of hundreds of processes would take much memory.
fn make_room(own: &mut [Statistic], world: &World) -> Result<(), WorldError> {
    for statistic in own {
        match statistic {
            Statistic::Sum { .. } => {}
            Statistic::Pool { keys, vectors, capacity, .. } => {
                // Each process has the same number of images, and so of vectors.
                let (all, _) = smallest(&world.gather_as_many(keys)?, *capacity);
                *vectors = at_places_of(&all, keys, vectors);
                *keys = all;
            }
            Statistic::Part(inside) => make_room(inside, world)?,
        }
    }
    Ok(())
}

/// The tensors to add up over the processes.
fn addends(own: &mut [Statistic]) -> Vec<&mut Tensor> {
    own.iter_mut()
        .flat_map(|statistic| match statistic {
            Statistic::Sum { value, .. } => vec![value],
            Statistic::Pool { vectors, .. } => vec![vectors],
            Statistic::Part(inside) => addends(inside),
        })
        .collect()
}

/// Replaces each tensor by its sum over the processes, all of one kind in one exchange.
fn add_up(mut tensors: Vec<&mut Tensor>, world: &World) -> Result<(), WorldError> {
    while let Some(kind) = tensors.first().map(|tensor| tensor.kind()) {
        let (same, others): (Vec<_>, Vec<_>) = tensors.into_iter().partition(|tensor| tensor.kind() == kind);
        let flat: Vec<Tensor> = same.iter().map(|tensor| tensor.reshape([-1])).collect();
        let sizes: Vec<i64> = flat.iter().map(|tensor| tensor.size()[0]).collect();
        let sums = world.sum(&Tensor::cat(&flat, 0))?.split_with_sizes(&sizes, 0);
        for (tensor, sum) in same.into_iter().zip(sums) {
            *tensor = sum.view_as(tensor);
        }
        tensors = others;
    }
    Ok(())
}

/// The `capacity` smallest of the keys, ascending, and their places.
fn smallest(keys: &Tensor, capacity: i64) -> (Tensor, Tensor) {
    keys.topk(capacity.min(keys.size()[0]), 0, /* largest */ false, /* sorted */ true)
}

/// The rows of `vectors` at the places that their keys have in `all`, and zeros at the places of
/// keys that others have. Both lists of keys are ascending.
///
/// # Shapes
/// `all [places]`, `keys [rows]`, `vectors [rows, D]` -> `[places, D]`.
fn at_places_of(all: &Tensor, keys: &Tensor, vectors: &Tensor) -> Tensor {
    let last = keys.size()[0] - 1;
    // The first own key that is not smaller.
    let rows = all.searchsorted(keys, false, false, "left", None::<&Tensor>).clamp_max(last);
    let own = keys.index_select(0, &rows).eq_tensor(all).unsqueeze(1);
    let rows = vectors.index_select(0, &rows);
    rows.where_self(&own, &rows.zeros_like())
}

impl Statistic {
    /// A pool of the `capacity` vectors with the smallest keys. Each vector of a step has a random
    /// key of its own ([`pixtok_torch::Noise::bits`]), whatever micro-batch and process it is in.
    /// So merged pools hold the same vectors in the same order, however the step was divided.
    ///
    /// # Shapes
    /// `keys [rows]` int64, `vectors [rows, D]`.
    #[must_use]
    pub fn pool_of(name: &'static str, keys: &Tensor, vectors: &Tensor, capacity: i64) -> Self {
        let (keys, places) = smallest(keys, capacity);
        Self::Pool { name, keys, vectors: vectors.index_select(0, &places), capacity }
    }

    /// The value of a sum.
    fn value(&self) -> Option<&Tensor> {
        match self {
            Self::Sum { value, .. } => Some(value),
            _ => None,
        }
    }

    /// The keys and vectors of a pool.
    fn sample(&self) -> Option<(&Tensor, &Tensor)> {
        match self {
            Self::Pool { keys, vectors, .. } => Some((keys, vectors)),
            _ => None,
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

    fn column(numbers: &[f32]) -> Tensor {
        Tensor::from_slice(numbers).view([-1, 1])
    }

    /// Counts, and a pool of the numbers from `first` on with these keys.
    fn micro_batch(first: f32, keys: [i64; 3]) -> Vec<Statistic> {
        let vectors = column(&[first, first + 1.0, first + 2.0]);
        vec![
            Statistic::Sum { name: "counts", value: Tensor::from_slice(&[first, 1.0]) },
            Statistic::pool_of("sample", &Tensor::from_slice(&keys), &vectors, 3),
        ]
    }

    fn parts() -> [Vec<Statistic>; 3] {
        [micro_batch(1.0, [5, -7, 9]), micro_batch(4.0, [8, 1, 6]), micro_batch(7.0, [2, 4, 7])]
    }

    #[test]
    fn sums_add_and_pools_keep_the_smallest_keys() {
        let merged = merge(parts().into());
        assert_eq!(*sum(&merged, "counts").unwrap(), Tensor::from_slice(&[12f32, 3.0]));
        assert_eq!(*pool(&merged, "sample").unwrap(), column(&[2.0, 5.0, 7.0]));
        assert!(merge(vec![]).is_empty());
        let nested = merge(parts().map(|part| vec![Statistic::Part(part)]).into());
        let inside = nested.into_iter().next().unwrap().part();
        assert_eq!(*sum(&inside, "counts").unwrap(), Tensor::from_slice(&[12f32, 3.0]));
    }

    #[test]
    fn pools_are_the_same_in_whatever_order_they_are_merged() {
        let [a, b, c] = parts();
        let in_turn = merge(vec![c, merge(vec![b, a])]);
        assert_eq!(pool(&in_turn, "sample").unwrap(), pool(&merge(parts().into()), "sample").unwrap());
    }

    #[test]
    fn a_single_process_keeps_its_statistics() {
        let own = merge_over(merge(parts().into()), World::alone()).unwrap();
        assert_eq!(*sum(&own, "counts").unwrap(), Tensor::from_slice(&[12f32, 3.0]));
        assert_eq!(*pool(&own, "sample").unwrap(), column(&[2.0, 5.0, 7.0]));
    }

    #[test]
    fn the_pools_of_processes_add_up_to_that_of_all() {
        let (all, _) = smallest(&Tensor::from_slice(&[5i64, -7, 9, 8, 1, 6, 2, 4, 7]), 3);
        assert_eq!(all, Tensor::from_slice(&[-7i64, 1, 2]));
        let placed = parts().map(|part| {
            let (keys, vectors) = part[1].sample().unwrap();
            at_places_of(&all, keys, vectors)
        });
        assert_eq!(placed[0], column(&[2.0, 0.0, 0.0]));
        let added: Tensor = placed.iter().sum();
        assert_eq!(added, *pool(&merge(parts().into()), "sample").unwrap());
    }
}
