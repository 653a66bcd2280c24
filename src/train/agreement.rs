//! What several processes agree on in each step: the losses, and the signal that ends the training.

use tch::{Kind, Tensor};

use super::TrainError;
use super::finite::GroupTensors;
use super::signals::vote;
use super::task::GroupId;
use crate::world::{SumUnderWay, World};

/// An exchange under way; `None` in a single process. Nothing waits for the device.
pub(super) struct Agreement(Option<SumUnderWay>);

impl Agreement {
    /// Begins to exchange the losses of the groups and the vote on signals.
    pub fn begin(
        world: &World,
        learning: &[(GroupId, Tensor)],
        signal: Option<i32>,
    ) -> Result<Self, TrainError> {
        if world.size() == 1 {
            return Ok(Self(None));
        }
        let losses: Vec<&Tensor> = learning.iter().map(|(_, loss)| loss).collect();
        let losses = Tensor::stack(&losses, 0);
        let votes = Tensor::from_slice(&vote(signal)).to_kind(Kind::Float).to_device(losses.device());
        Ok(Self(Some(world.begin_sum(&Tensor::cat(&[&losses, &votes], 0))?)))
    }

    /// Makes the losses their means over all processes, and returns the sums of their votes.
    pub fn finish(self, world: &World, numbers: &mut [GroupTensors]) -> Result<Option<Tensor>, TrainError> {
        let Some(sum) = self.0 else { return Ok(None) };
        let (sums, groups) = (world.finish_sum(sum)?, numbers.len() as i64);
        for (own, sum) in numbers.iter_mut().zip(sums.narrow(0, 0, groups).unbind(0)) {
            own.loss = sum / f64::from(world.size());
        }
        Ok(Some(sums.narrow(0, groups, sums.size()[0] - groups)))
    }
}
