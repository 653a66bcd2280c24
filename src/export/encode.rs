//! `pixtok encode`: images to token files.

mod ids;
mod plan;
mod progress;

use anyhow::{Context, Result};

use plan::Plan;
use progress::Bar;

use super::usable::Usable;
use super::write::size_in_words;
use super::{Misuse, note, open, print};
use crate::cli::{EncodeArgs, TakeArgs};
use pixtok_images::data::{Classes, SampleSet, Selection};
use crate::export::{Feed, Finished, Job, Output, Part, Stopped, check_keys, verify};
use pixtok_torch::keep_freed_memory;
use crate::train::Signals;

/// Encodes what has not been encoded yet; the exit code.
pub(super) fn run(args: &EncodeArgs) -> Result<u8> {
    let part = part(args)?;
    let out = part.folder().map_or_else(|| args.out.clone(), |folder| args.out.join(folder));
    let device = open::compute(&args.model.compute)?;
    if !device.is_cuda() {
        keep_freed_memory()?;
    }
    let usable = Usable::open(&args.tokenizer, &args.model, args.batch_size, device)?;
    let set = input(args)?;
    set.notes().iter().for_each(|text| note(text));
    let plan = Plan::new(args, &usable, &set, part, device)?;
    let advice = args.format.format().advice(&args.out, &plan.sidecar.layout(), plan.ids_of_reader);
    advice.iter().for_each(|text| note(text));
    let (sidecar, map) = (plan.sidecar.clone(), plan.map.as_deref());
    let mut output = Output::open(&out, &plan.job, sidecar, map, Some(&set))?;
    output.note().iter().for_each(|text| note(text));
    let codec = usable.codec();
    let (dtype, views) = (plan.sidecar.dtype, plan.sidecar.views);
    let job = Job { codec: &*codec, coder: plan.coder, device, dtype, views };
    let finished = match output.finished()? {
        Some(finished) => {
            note(&format!("{} is finished already; nothing is encoded again", out.display()));
            finished
        }
        None => {
            if output.images() > 0 {
                note(&format!("{} images are in finished shards; going on after them", output.images()));
            }
            let samples = check_keys(&set, part, args.images.flip)?;
            output.state_samples(samples)?;
            // From here on, an interrupted job has a shard to finish.
            let signals = Signals::listen().context("cannot listen for signals")?;
            let feed = Feed::start(&set, plan.prepare.clone(), plan.batching.clone(), output.input_end())?;
            let mut bar = Bar::new(samples, output.input_end());
            let stopped = job.run(feed, &mut output, &mut |progress| {
                bar.show(progress);
                signals.came().is_none()
            })?;
            bar.end();
            match stopped {
                Stopped::Finished(finished) => *finished,
                Stopped::Early => {
                    note("stopped; the same command goes on after the last whole shard");
                    return Ok(signals.came().map_or(1, |signal| 128 + signal as u8));
                }
            }
        }
    };
    finished.remarks.iter().for_each(|text| note(text));
    if args.verify {
        let rows = verify(&job, &set, &plan.prepare, &plan.batching, &output, &finished.sidecar)?;
        note(&format!("verified: {rows} rows read back from the files are what their images give"));
    }
    print(&summary(&output, &finished))?;
    Ok(0)
}

/// The images, with keys as the flags ask for them.
fn input(args: &EncodeArgs) -> Result<SampleSet> {
    let mut set = SampleSet::select(&args.data, &selection(&args.take)?)?;
    if let Some(prefix) = args.key_prefix
        && !set.prefix_keys()
    {
        let (data, kind) = (args.data.display(), set.kind());
        return Err(Misuse(format!(
            "--key-prefix {prefix} is for keys of tars, and {data} is read as a {kind}; leave it out"
        ))
        .into());
    }
    Ok(set)
}

fn selection(args: &TakeArgs) -> Result<Selection> {
    Ok(Selection {
        split: args.pick.split.clone(),
        image: args.pick.image_column.clone(),
        label: args.label_column.clone(),
        text: args.text_column.clone(),
        classes: args.classes.as_deref().map(Classes::read).transpose()?,
        ..Selection::default()
    })
}

/// By the flag, else by the environment of a launcher.
fn part(args: &EncodeArgs) -> Result<Part> {
    if let Some(part) = args.shard {
        return Ok(part);
    }
    let variable = |name: &str| std::env::var(name).ok();
    match Part::from_environment(variable).map_err(Misuse)? {
        Some((part, launcher)) if part.count > 1 => {
            note(&format!(
                "part {part}, as the environment of {launcher} says (--shard 0/1 takes everything)"
            ));
            Ok(part)
        }
        _ => Ok(Part::ALL),
    }
}

fn summary(output: &Output, finished: &Finished) -> String {
    let counts = &finished.sidecar.counts;
    let rows = if finished.sidecar.views > 1 { format!(" ({} rows)", counts.rows) } else { String::new() };
    let skipped: u64 = counts.skipped.values().sum();
    let listed = if skipped > 0 {
        format!(
            "skipped    {skipped} images that could not be used, listed in {}\n",
            output.folder().join("skipped.jsonl").display()
        )
    } else {
        String::new()
    };
    let per_image = |bytes: u64| bytes as f64 / counts.images.max(1) as f64;
    format!(
        "images     {}{rows}\ntokens     {}\nfiles      {} in {} shard(s), {:.0} bytes an image\nzstd       {} of ids, {:.0} bytes an image, {:.2} \
         bits a token\n{listed}sidecar    {}\n",
        counts.images,
        counts.tokens,
        size_in_words(finished.bytes),
        finished.sidecar.shard_rows.len(),
        per_image(finished.bytes),
        size_in_words(finished.zstd_bytes),
        per_image(finished.zstd_bytes),
        8.0 * finished.zstd_bytes as f64 / counts.tokens.max(1) as f64,
        output.sidecar_path().display(),
    )
}
