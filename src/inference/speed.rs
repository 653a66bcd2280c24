//! The speeds of several tokenizers, measured in turn, so that whatever else the machine does slows
//! all of them alike.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::evaluation::protocol;
use crate::batches::Loader;
use crate::checkpoint::write_atomic;
use crate::config::Config;
use crate::evaluate::timed;
use crate::model::size_of;
use crate::run::{Compute, Found, ModelChoice, Opened, Tell, validation_set};
use crate::world::World;
use pixtok_base::Misuse;
use pixtok_images::data::Dataset;

/// The number of turns of each tokenizer.
const TURNS: usize = 10;
/// The least seconds of a turn. With this and at least one batch a turn, a tokenizer works for two
/// seconds and ten batches or more.
const TURN_SECS: f64 = 0.2;
/// Batches before the first turn. They allocate memory and choose kernels; libtorch optimises a
/// script after its first runs.
const WARM_UP: usize = 2;

/// The options of a measurement of speeds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedOptions {
    /// Runs, model folders and adapters.
    pub tokenizers: Vec<PathBuf>,
    /// The config that states which images are used, how they are prepared, and the batch size.
    pub protocol: PathBuf,
    /// Where and how to compute.
    pub compute: Compute,
    /// Stands in the file, for whoever reads it.
    pub fingerprint: String,
    /// The file for the [`SpeedRecord`].
    pub out: PathBuf,
}

/// The content of the file that a measurement writes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SpeedRecord {
    /// The fingerprint of the options.
    pub fingerprint: String,
    /// The speeds of each tokenizer, in order; absent for one that failed.
    pub speeds: Vec<Option<Speeds>>,
}

/// The speeds of a tokenizer in images per second.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Speeds {
    /// Images to tokens.
    pub encode: Spread,
    /// Tokens to images.
    pub decode: Spread,
}

/// Values of several turns.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Spread {
    /// The smallest one.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The largest one.
    pub greatest: f64,
}

impl Spread {
    /// The spread of these values; `None` if there are none.
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let (&least, &greatest) = (values.first()?, values.last()?);
        let middle = values.len() / 2;
        let upper = values[middle];
        let lower = if values.len().is_multiple_of(2) { values[middle - 1] } else { upper };
        Some(Self { least, median: f64::midpoint(lower, upper), greatest })
    }
}

/// Encodes and decodes one batch over and over: each tokenizer in its turn, until each has had all
/// its turns. All of them are in memory at the same time. Writes the record; a tokenizer that fails
/// is told of.
///
/// # Errors
/// When there are no images, or the file cannot be written.
pub fn measure_speeds(options: &SpeedOptions, tell: Tell) -> Result<()> {
    let device = options.compute.start(tell)?;
    let config = protocol(&options.protocol)?;
    let (words, dataset) = validation_set(&config)?;
    let images = first_batch(&Arc::new(dataset), &config, device)?;
    let images = images.with_context(|| format!("no image of {words} can be read"))?;
    let mut runners: Vec<Option<Runner>> = vec![];
    for path in &options.tokenizers {
        let ready = open(path, &images, config.eval.batch_size, device).and_then(|opened| {
            let runner = Runner { opened, encode: vec![], decode: vec![] };
            for _ in 0..WARM_UP {
                runner.pass(&images, device)?;
            }
            Ok(runner)
        });
        runners.push(unless_failed(ready, path, tell));
    }
    for _ in 0..TURNS {
        for (slot, path) in runners.iter_mut().zip(&options.tokenizers) {
            let Some(runner) = slot else { continue };
            let turn = runner.turn(&images, device);
            if unless_failed(turn, path, tell).is_none() {
                *slot = None;
            }
        }
    }
    let speeds = runners.into_iter().map(|runner| runner?.speeds()).collect();
    let record = SpeedRecord { fingerprint: options.fingerprint.clone(), speeds };
    let json = serde_json::to_string_pretty(&record)? + "\n";
    Ok(write_atomic(&options.out, json.as_bytes())?)
}

/// The first batch of a config's evaluation that has images, `[B, 3, H, W]` uint8 on the `device`.
///
/// # Errors
/// When the images cannot be loaded.
pub fn first_batch(dataset: &Arc<Dataset>, config: &Config, device: Device) -> Result<Option<Tensor>> {
    let (batch_size, bound) = (config.eval.batch_size, config.eval.bound());
    let loader =
        Loader::eval(Arc::clone(dataset), &config.data, batch_size, bound, device, &World::single())?;
    for batch in loader {
        let batch = batch?;
        if !batch.names.is_empty() {
            return Ok(Some(batch.images.to_device(device)));
        }
    }
    Ok(None)
}

/// Opens a tokenizer. An evaluation has told what there is to tell about it.
fn open(path: &Path, images: &Tensor, batch_size: usize, device: Device) -> Result<Opened> {
    match Found::open(path, ModelChoice::default(), device, Tell::to(&|_| ()))? {
        Found::Tokenizer(mut opened) => {
            if let Opened::Foreign(pair) = &mut opened {
                pair.try_on(images, batch_size)?;
            }
            Ok(opened)
        }
        Found::Reconstructions(folder) => {
            Err(Misuse(format!("{} holds images, which have no speed", folder.display())).into())
        }
    }
}

fn unless_failed<T>(made: Result<T>, path: &Path, tell: Tell) -> Option<T> {
    match made {
        Ok(made) => Some(made),
        Err(error) => {
            tell.say(&format!("the speeds of {} cannot be measured: {error:#}", path.display()));
            None
        }
    }
}

/// A tokenizer with the speeds of its turns.
struct Runner {
    opened: Opened,
    encode: Vec<f64>,
    decode: Vec<f64>,
}

impl Runner {
    /// The seconds for encoding and decoding the images once.
    fn pass(&self, images: &Tensor, device: Device) -> Result<[f64; 2]> {
        let codec = self.opened.codec();
        let (indices, encode_secs) = timed(device, || codec.encode(images))?;
        let (_, decode_secs) = timed(device, || codec.decode(&indices, size_of(images)))?;
        Ok([encode_secs, decode_secs])
    }

    /// One turn.
    fn turn(&mut self, images: &Tensor, device: Device) -> Result<()> {
        let (passes, [encode_secs, decode_secs]) = repeated(|| self.pass(images, device))?;
        let count = passes as f64 * images.size()[0] as f64;
        self.encode.push(count / encode_secs);
        self.decode.push(count / decode_secs);
        Ok(())
    }

    fn speeds(self) -> Option<Speeds> {
        Some(Speeds { encode: Spread::of(self.encode)?, decode: Spread::of(self.decode)? })
    }
}

/// Repeats a pass until a turn's seconds are over. Returns the number of passes, and the seconds
/// for encoding and decoding in all of them.
fn repeated(pass: impl Fn() -> Result<[f64; 2]>) -> Result<(usize, [f64; 2])> {
    let (mut passes, mut secs) = (0, [0.0; 2]);
    loop {
        let [encode, decode] = pass()?;
        passes += 1;
        secs = [secs[0] + encode, secs[1] + decode];
        if secs[0] + secs[1] >= TURN_SECS {
            return Ok((passes, secs));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_both_ends() {
        let spread = |values: &[f64]| Spread::of(values.to_vec());
        assert_eq!(spread(&[]), None);
        assert_eq!(spread(&[3.0]), Some(Spread { least: 3.0, median: 3.0, greatest: 3.0 }));
        assert_eq!(spread(&[9.0, 1.0, 2.0]), Some(Spread { least: 1.0, median: 2.0, greatest: 9.0 }));
        assert_eq!(spread(&[9.0, 1.0, 4.0, 2.0]), Some(Spread { least: 1.0, median: 3.0, greatest: 9.0 }));
    }

    #[test]
    fn a_turn_has_a_batch_and_a_share_of_the_seconds() {
        let calls = Cell::new(0);
        let pass = |secs: [f64; 2]| {
            calls.set(calls.get() + 1);
            Ok(secs)
        };
        assert_eq!(repeated(|| pass([7.0, 5.0])).unwrap(), (1, [7.0, 5.0]));
        calls.set(0);
        // Binary fractions, which add up exactly.
        let (passes, secs) = repeated(|| pass([1.0 / 32.0, 1.0 / 64.0])).unwrap();
        assert_eq!((passes, calls.get(), secs), (5, 5, [5.0 / 32.0, 5.0 / 64.0]));
        assert!(TURNS as f64 * TURN_SECS >= 2.0 && TURNS >= 10);
    }
}
