//! From the flags of a measurement to metrics with their networks.

use std::path::PathBuf;

use anyhow::Result;
use tch::Device;

use super::weights::{self, FOLDER};
use super::{Misuse, note};
use crate::cli::MeasureArgs;
use crate::evaluate::{ENOUGH_FID_IMAGES, Measures, Metric, Networks};
use crate::nets::{Backbone, Inception, Lpips};

/// With fewer there is no covariance.
const LEAST_FID_IMAGES: usize = 2;

/// What the flags ask for, on a set of `images`. A metric that is asked for by name, or by its weights, and cannot be had
/// is an error; one that is only part of the default is absent with its reason.
pub(super) fn measures(args: &MeasureArgs, images: usize, device: Device) -> Result<Measures> {
    let wanted = wanted(args);
    let mut networks = Networks::default();
    for path in lpips_files(args)? {
        let lpips = Lpips::load(&path, device)?;
        if networks.lpips.iter().any(|other: &Lpips| other.backbone() == lpips.backbone()) {
            let path = path.display();
            return Err(Misuse(format!("{path} has the weights of a network that is given already")).into());
        }
        networks.lpips.push(lpips);
    }
    if images >= LEAST_FID_IMAGES {
        let path = fid_file(args)?;
        networks.inception = path.map(|path| Inception::load(&path, device)).transpose()?;
    } else if args.metrics.contains(&Metric::Rfid) || args.fid_weights.is_some() {
        return Err(Misuse(format!(
            "rfid compares distributions and needs {LEAST_FID_IMAGES} images or more, and there is {images}; give more, or \
             leave rfid out"
        ))
        .into());
    }
    let mut measures = Measures::of(&wanted, networks);
    for (name, reason) in &mut measures.missing {
        if *name == Metric::Rfid.name() && images < LEAST_FID_IMAGES {
            *reason = format!("it needs {LEAST_FID_IMAGES} images or more");
        }
        if args.metrics.iter().any(|metric| metric.name() == *name) {
            return Err(Misuse(format!(
                "{name} was asked for and has {reason}, or a folder that {FOLDER} names (see docs/evaluation.md)"
            ))
            .into());
        }
    }
    if measures.inception.is_some() && images < ENOUGH_FID_IMAGES {
        note(&format!(
            "rfid of {images} images is biased upwards: compare it with that of as many images alone, or give \
             {ENOUGH_FID_IMAGES} and more"
        ));
    }
    Ok(measures)
}

/// Refuses a metric that is requested by name if images of this (height, width) are too small for
/// it.
pub(super) fn check_size(args: &MeasureArgs, (height, width): (i64, i64)) -> Result<()> {
    let side = height.min(width);
    let Some(metric) = args.metrics.iter().find(|metric| side < metric.least_side()) else { return Ok(()) };
    let least = metric.least_side();
    Err(Misuse(format!(
        "--metrics has {metric}, which needs images of {least} pixels a side or more, and these are \
         prepared at {height}×{width}; leave it out, or prepare larger ones"
    ))
    .into())
}

/// The files whose weights a measurement takes.
pub(super) fn weight_files(args: &MeasureArgs) -> Result<Vec<PathBuf>> {
    Ok(lpips_files(args)?.into_iter().chain(fid_file(args)?).collect())
}

/// The metrics, each once.
fn wanted(args: &MeasureArgs) -> Vec<Metric> {
    let mut wanted = if args.metrics.is_empty() { Metric::ALL.to_vec() } else { args.metrics.clone() };
    let mut seen = vec![];
    wanted.retain(|metric| {
        !seen.contains(metric) && {
            seen.push(*metric);
            true
        }
    });
    wanted
}

/// Whether a metric is asked for that takes weights of LPIPS.
pub(super) fn wants_lpips(args: &MeasureArgs) -> bool {
    [Metric::LpipsAlex, Metric::LpipsVgg].iter().any(|metric| wanted(args).contains(metric))
}

fn lpips_files(args: &MeasureArgs) -> Result<Vec<PathBuf>> {
    let lpips = [Metric::LpipsAlex, Metric::LpipsVgg].map(|metric| found(args, metric));
    if args.lpips_weights.is_empty() {
        return lpips.into_iter().filter_map(Result::transpose).collect();
    }
    unused("--lpips-weights", wants_lpips(args))?;
    Ok(args.lpips_weights.clone())
}

fn fid_file(args: &MeasureArgs) -> Result<Option<PathBuf>> {
    let Some(given) = &args.fid_weights else { return found(args, Metric::Rfid) };
    unused("--fid-weights", wanted(args).contains(&Metric::Rfid))?;
    Ok(Some(given.clone()))
}

/// Refuses weights that no metric takes.
fn unused(flag: &str, wanted: bool) -> Result<()> {
    if wanted {
        return Ok(());
    }
    Err(Misuse(format!("{flag} is given and --metrics has no metric for it; leave one of them out")).into())
}

/// A wanted metric's file in the folder of weights, if it is there.
fn found(args: &MeasureArgs, metric: Metric) -> Result<Option<PathBuf>> {
    let file = match metric {
        Metric::LpipsAlex => weights::lpips_file(Backbone::Alex),
        Metric::LpipsVgg => weights::lpips_file(Backbone::Vgg),
        Metric::Rfid => weights::INCEPTION_FILE,
        _ => return Ok(None),
    };
    if wanted(args).contains(&metric) { weights::in_folder(file) } else { Ok(None) }
}
