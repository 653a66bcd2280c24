//! Runs an export from its options to the end.

use std::path::PathBuf;

use anyhow::{Context, Result};
use tch::Device;

use super::plan::{EncodeOptions, KEY_PREFIX, Plan, TakeOptions};
use super::{Feed, Finished, Job, Output, Part, Progress, Stopped, check_keys, verify};
use crate::run::{Opened, Tell};
use crate::train::Signals;
use pixtok_base::Misuse;
use pixtok_images::data::{Classes, SampleSet, Selection};
use pixtok_torch::keep_freed_memory;

/// Follows the progress of an export.
pub trait Watch {
    /// The export starts, at `done` of `total` samples.
    fn begin(&mut self, total: u64, done: u64);

    /// A batch is complete.
    fn show(&mut self, progress: &Progress);

    /// The export has finished or was stopped.
    fn end(&mut self);
}

/// How an export ended.
#[derive(Debug)]
pub enum Encoded {
    /// With a complete set.
    Whole {
        /// The finished export.
        finished: Box<Finished>,
        /// The folder of the set.
        folder: PathBuf,
        /// The path of the sidecar.
        sidecar: PathBuf,
    },
    /// Early, because of this signal; finished shards stay.
    Stopped(Option<i32>),
}

/// Encodes what has not been encoded yet.
///
/// # Errors
/// Before the long work: whatever is wrong with the options, the images or the folder. Later: what
/// stops the export.
pub fn encode(options: &EncodeOptions, tell: Tell, watch: &mut dyn Watch) -> Result<Encoded> {
    let part = part(options, tell)?;
    let device = options.compute.start(tell)?;
    if !device.is_cuda() {
        keep_freed_memory()?;
    }
    let opened = Opened::open(&options.tokenizer, options.choice, options.batch_size, device, tell)?;
    if let Opened::Own(trained) = &opened {
        trained.better.iter().for_each(|text| tell.note(text));
    }
    encode_by(&opened, part, device, options, tell, watch)
}

/// Encodes the images of `part` with a tokenizer that is open on `device`.
///
/// # Errors
/// The same as [`encode`].
pub fn encode_by(
    opened: &Opened,
    part: Part,
    device: Device,
    options: &EncodeOptions,
    tell: Tell,
    watch: &mut dyn Watch,
) -> Result<Encoded> {
    let out = part.folder().map_or_else(|| options.out.clone(), |folder| options.out.join(folder));
    let set = input(options)?;
    set.notes().iter().for_each(|text| tell.say(text));
    let plan = Plan::new(options, opened, &set, part, device)?;
    let advice = options.format.format().advice(&options.out, &plan.sidecar.layout(), plan.ids_of_reader);
    advice.iter().for_each(|text| tell.say(text));
    let (sidecar, map) = (plan.sidecar.clone(), plan.map.as_deref());
    let mut output = Output::open(&out, &plan.job, sidecar, map, Some(&set))?;
    output.note().iter().for_each(|text| tell.say(text));
    let codec = opened.codec();
    let (dtype, views) = (plan.sidecar.dtype, plan.sidecar.views);
    let job = Job { codec: &*codec, coder: plan.coder, device, dtype, views };
    let finished = match output.finished()? {
        Some(finished) => {
            tell.note(&format!("{} is finished already; nothing is encoded again", out.display()));
            Box::new(finished)
        }
        None => {
            if output.images() > 0 {
                tell.note(&format!("{} images are in finished shards; going on after them", output.images()));
            }
            let samples = check_keys(&set, part, options.flip)?;
            output.state_samples(samples)?;
            // From here on, there may be an unfinished shard, so signals are caught.
            let signals = Signals::listen().context("cannot listen for signals")?;
            let feed = Feed::start(&set, plan.prepare.clone(), plan.batching.clone(), output.input_end())?;
            watch.begin(samples, output.input_end());
            let stopped = job.run(feed, &mut output, &mut |progress| {
                watch.show(progress);
                signals.came().is_none()
            })?;
            watch.end();
            match stopped {
                Stopped::Finished(finished) => finished,
                Stopped::Early => return Ok(Encoded::Stopped(signals.came())),
            }
        }
    };
    finished.remarks.iter().for_each(|text| tell.say(text));
    if options.verify {
        let rows = verify(&job, &set, &plan.prepare, &plan.batching, &output, &finished.sidecar)?;
        let all = output.rows();
        tell.note(&format!(
            "verified: {rows} of {all} rows, read back from the files, are what their images give"
        ));
    }
    let (folder, sidecar) = (output.folder().to_owned(), output.sidecar_path());
    Ok(Encoded::Whole { finished, folder, sidecar })
}

/// The images, with keys as the options ask for.
fn input(options: &EncodeOptions) -> Result<SampleSet> {
    let mut set = SampleSet::select(&options.data, &selection(&options.take)?)?;
    if options.prefix_keys && !set.prefix_keys() {
        let (data, kind) = (options.data.display(), set.kind());
        return Err(Misuse(format!(
            "--key-prefix {KEY_PREFIX} is for keys of tars, and {data} is read as a {kind}; leave it out"
        ))
        .into());
    }
    Ok(set)
}

fn selection(take: &TakeOptions) -> Result<Selection> {
    Ok(Selection {
        label: take.label_column.clone(),
        text: take.text_column.clone(),
        classes: take.classes.as_deref().map(Classes::read).transpose()?,
        ..take.pick.selection()
    })
}

/// The part from the options, or else from a launcher's environment.
fn part(options: &EncodeOptions, tell: Tell) -> Result<Part> {
    if let Some(part) = options.part {
        return Ok(part);
    }
    let variable = |name: &str| std::env::var(name).ok();
    match Part::from_environment(variable).map_err(Misuse)? {
        Some((part, launcher)) if part.count > 1 => {
            tell.note(&format!(
                "part {part}, as the environment of {launcher} says (--shard 0/1 takes everything)"
            ));
            Ok(part)
        }
        _ => Ok(Part::ALL),
    }
}
