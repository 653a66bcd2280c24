//! From the flags of a measurement to metrics with their networks.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::Result;
use tch::Device;

use super::{Misuse, note};
use crate::cli::MeasureArgs;
use crate::evaluate::{ENOUGH_FID_IMAGES, Measures, Metric, Networks};
use crate::nets::{Inception, Lpips};

/// A folder with weights, for those who do not want to name them each time.
const FOLDER: &str = "PIXTOK_WEIGHTS";
/// The names that `scripts/convert_weights.py` gives.
const LPIPS: [&str; 2] = ["lpips-alex.safetensors", "lpips-vgg.safetensors"];
const INCEPTION: &str = "inception-fid.safetensors";
/// With fewer there is no covariance.
const LEAST_FID_IMAGES: usize = 2;

/// What the flags ask for, on a set of `images`. A metric that is asked for by name, or by its weights, and cannot be had
/// is an error; one that is only part of the default is absent with its reason.
pub(super) fn measures(args: &MeasureArgs, images: usize, device: Device) -> Result<Measures> {
    let wanted = if args.metrics.is_empty() { Metric::ALL.to_vec() } else { args.metrics.clone() };
    let asked = |metric: Metric| args.metrics.contains(&metric);
    let mut networks = Networks::default();
    for path in given_or_found(&args.lpips_weights, &LPIPS) {
        let lpips = Lpips::load(&path, device)?;
        if networks.lpips.iter().any(|other: &Lpips| other.backbone() == lpips.backbone()) {
            return Err(Misuse(format!(
                "{} has the weights of a network that is given already",
                path.display()
            ))
            .into());
        }
        networks.lpips.push(lpips);
    }
    let fid = args.fid_weights.as_ref().map(|path| vec![path.clone()]).unwrap_or_default();
    if images >= LEAST_FID_IMAGES {
        let path = given_or_found(&fid, &[INCEPTION]).into_iter().next();
        networks.inception = path.map(|path| Inception::load(&path, device)).transpose()?;
    } else if asked(Metric::Rfid) || args.fid_weights.is_some() {
        return Err(Misuse(format!(
            "rfid compares distributions and needs {LEAST_FID_IMAGES} images or more, and there is {images}; give more, or \
             leave rfid out"
        ))
        .into());
    }
    let measures = Measures::of(&wanted, networks);
    if let Some((name, reason)) =
        measures.missing.iter().find(|(name, _)| args.metrics.iter().any(|m| m.name() == *name))
    {
        return Err(Misuse(format!(
            "{name} was asked for and has {reason}, or a folder that {FOLDER} names (see README.md)"
        ))
        .into());
    }
    if measures.inception.is_some() && images < ENOUGH_FID_IMAGES {
        note(&format!(
            "rfid of {images} images is biased upwards: compare it with nothing but itself, or give {ENOUGH_FID_IMAGES} and more"
        ));
    }
    Ok(measures)
}

/// The files that the flags name, else those of these names in the folder of weights.
fn given_or_found(given: &[PathBuf], names: &[&str]) -> Vec<PathBuf> {
    if !given.is_empty() {
        return given.to_vec();
    }
    let Some(folder) = env::var_os(FOLDER) else { return vec![] };
    let paths = names.iter().map(|name| Path::new(&folder).join(name));
    paths.filter(|path| path.exists()).collect()
}
