//! Converts flags that several commands share to the library's options.

use crate::cli::{ComputeArgs, MeasureArgs, ModelArgs, OutputNames, PickArgs, PositionsArgs};
use crate::inference::MeasureOptions;
use crate::outputs::Naming;
use crate::run::{Compute, ModelChoice, Pick};

impl From<ComputeArgs> for Compute {
    fn from(ComputeArgs { device, threads }: ComputeArgs) -> Self {
        Self { device, threads }
    }
}

impl From<ModelArgs> for (ModelChoice, Compute) {
    fn from(ModelArgs { checkpoint, weights, precision, compute }: ModelArgs) -> Self {
        (ModelChoice { checkpoint, weights, precision, positions: None }, compute.into())
    }
}

/// How a tokenizer is used by the commands that choose its positions, and where.
pub(super) fn chosen(model: ModelArgs, args: PositionsArgs) -> (ModelChoice, Compute) {
    let (choice, compute) = model.into();
    (ModelChoice { positions: args.positions, ..choice }, compute)
}

impl From<PickArgs> for Pick {
    fn from(PickArgs { split, image_column }: PickArgs) -> Self {
        Self { split, image_column }
    }
}

impl From<MeasureArgs> for MeasureOptions {
    fn from(args: MeasureArgs) -> Self {
        let MeasureArgs { metrics, lpips_weights, fid_weights, stability, prefixes } = args;
        Self { metrics, lpips_weights, fid_weights, stability, prefixes }
    }
}

impl From<OutputNames> for Naming {
    fn from(names: OutputNames) -> Self {
        match names {
            OutputNames::Original => Self::Original,
            OutputNames::Png => Self::Png,
        }
    }
}
