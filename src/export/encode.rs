//! Runs an export from its options to the end.

use std::env;
use std::path::PathBuf;

use anyhow::{Context, Result};
use tch::Device;

use super::keep::keep;
use super::plan::{EncodeOptions, KEY_PREFIX, Plan, TakeOptions};
use super::sameness::begun_division;
use super::{
    ExportError, ExportSplit, Feed, Finished, Job, Output, Part, Progress, Stopped, Subset, check_keys,
    preparation, verify,
};
use crate::checkpoint::Which;
use crate::codec::Codec;
use crate::run::{Opened, Tell, WeightsChoice};
use crate::train::Signals;
use crate::world::World;
use pixtok_base::Misuse;
use pixtok_images::data::{Classes, SampleSet, Selection, Share};
use pixtok_tokens::{Division, MadeBy, SideFiles, StatedTokenizer};
use pixtok_torch::keep_freed_memory;
use serde::Deserialize;

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
    /// With complete sets: one, or two with a share for validation.
    Whole(Vec<Written>),
    /// Early, because of this signal; finished shards stay.
    Stopped(Option<i32>),
}

/// A complete set.
#[derive(Debug)]
pub struct Written {
    /// The finished export.
    pub finished: Box<Finished>,
    /// The folder of the set.
    pub folder: PathBuf,
    /// The path of the sidecar.
    pub sidecar: PathBuf,
}

/// Encodes what has not been encoded yet.
///
/// # Errors
/// Before the long work: whatever is wrong with the options, the images or the folder. Later: what
/// stops the export.
pub fn encode(options: &EncodeOptions, tell: Tell, watch: &mut dyn Watch) -> Result<Encoded> {
    let part = part(options, tell)?;
    // Processes of a launcher take a device each.
    let launched = options.part.is_none().then(|| World::apart(|name| env::var(name).ok())).transpose()?;
    let compute = launched.map_or(options.compute, |world| options.compute.shared(&world));
    let device = compute.start(tell)?;
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
    let splits = options.val_share.map_or(vec![None], |share| ExportSplit::both(share).map(Some).to_vec());
    let looking = tell.work("looking for images", None);
    let set = input(options, share(options, part, &splits)?)?;
    drop(looking);
    let division = match set.files_of_share() {
        Some([own, all]) => {
            tell.note(&format!("part {part} is {own} of the {all} files of {}", options.data.display()));
            Division::Files
        }
        None => Division::Keys,
    };
    set.notes().iter().for_each(|text| tell.say(text));
    if options.val_share.is_some() && SideFiles::in_folder(&options.out).is_some() {
        return Err(Misuse(format!(
            "{} holds one set of all images, and --val-share writes two; choose another --out",
            options.out.display()
        ))
        .into());
    }
    let mut exports = vec![];
    for split in splits {
        match Export::open(opened, Subset { part, division, split }, device, options, &set, tell) {
            Ok(export) => exports.push(export),
            Err(error) => return Err(withdrawn(exports, error)),
        }
    }
    match all(&mut exports, &set, opened, device, options, tell, watch) {
        Ok(encoded) => Ok(encoded),
        Err(error) => Err(withdrawn(exports, error)),
    }
}

/// The error, after the jobs that it stopped before their first shard are forgotten.
fn withdrawn(exports: Vec<Export>, error: anyhow::Error) -> anyhow::Error {
    // The first one may have made the folder of all, which has to be empty.
    exports.into_iter().rev().for_each(|export| export.output.withdraw());
    error
}

/// Runs these exports of one input, one after the other. The keys of all are checked before the
/// first image.
fn all(
    exports: &mut [Export],
    set: &SampleSet,
    opened: &Opened,
    device: Device,
    options: &EncodeOptions,
    tell: Tell,
    watch: &mut dyn Watch,
) -> Result<Encoded> {
    let Some(first) = exports.first() else { return Ok(Encoded::Whole(vec![])) };
    let sidecar = &first.plan.sidecar;
    let advice = options.format.format().advice(&options.out, &sidecar.layout(), first.plan.ids_of_reader);
    advice.iter().for_each(|text| tell.say(text));
    tell.note(&format!("pictures: {}", preparation(sidecar)));
    first.plan.note.iter().for_each(|text| tell.note(text));
    let mut finished = vec![];
    for export in &*exports {
        finished.push(export.output.finished()?);
    }
    let (mut samples, mut signals) = (0, Signals::default());
    if finished.iter().any(Option::is_none) {
        let of_all_splits = Subset { split: None, ..first.subset };
        let checking = tell.work("checking the keys of the images", None);
        samples = check_keys(set, of_all_splits, options.flip)?;
        drop(checking);
        // A part of an input may be empty; the whole input may not.
        if samples == 0 && of_all_splits.is_whole() {
            return Err(Misuse("the input has no images; give another with --data".into()).into());
        }
        // From here on, there may be an unfinished shard, so signals are caught.
        signals = Signals::listen().context("cannot listen for signals")?;
    }
    let mut written = vec![];
    for (export, finished) in exports.iter_mut().zip(finished) {
        let folder = export.output.folder().to_owned();
        let encoding = Encoding { set, opened, device, options, signals: &signals, samples };
        let finished = match finished {
            Some(finished) => {
                tell.note(&format!("{} is finished already; nothing is encoded again", folder.display()));
                Box::new(finished)
            }
            None => match encoding.run(export, tell, watch)? {
                Stopped::Finished(finished) => finished,
                Stopped::Early => return Ok(Encoded::Stopped(signals.came())),
            },
        };
        finished.remarks.iter().for_each(|text| tell.say(text));
        if options.verify {
            encoding.verify(export, &finished, tell)?;
        }
        written.push(Written { finished, folder, sidecar: export.output.sidecar_path() });
    }
    Ok(Encoded::Whole(written))
}

/// An export whose folder is taken.
struct Export<'a> {
    subset: Subset,
    plan: Plan<'a>,
    output: Output,
}

impl<'a> Export<'a> {
    fn open(
        opened: &'a Opened,
        subset: Subset,
        device: Device,
        options: &EncodeOptions,
        set: &SampleSet,
        tell: Tell,
    ) -> Result<Self> {
        let plan = Plan::new(options, opened, set, subset, device)?;
        let (sidecar, map) = (plan.sidecar.clone(), plan.map.as_deref());
        let output = Output::open(&subset.folder(&options.out), &plan.job, sidecar, map, Some(set))
            .map_err(|error| with_maker(error, options))?;
        output.note().iter().for_each(|text| tell.say(text));
        Ok(Self { subset, plan, output })
    }
}

/// The error; if only the weights differ and the run still has those of the job in the folder, with
/// the flags that choose them.
fn with_maker(error: ExportError, options: &EncodeOptions) -> ExportError {
    let ExportError::OtherWeights { folder, job } = &error else { return error };
    let Ok(tokenizer) = StatedTokenizer::deserialize(&job["tokenizer"]) else { return error };
    let made_by = MadeBy::deserialize(&job["made_by"]).ok();
    let maker = WeightsChoice::any_maker(&options.tokenizer, &tokenizer, made_by.as_ref());
    let Some((step, weights)) = maker else { return error };
    let weights = if weights == options.choice.weights {
        String::new()
    } else {
        format!(" --weights {}", weights.name())
    };
    ExportError::Output(format!(
        "{folder} holds another job: its tokenizer had other weights; give --checkpoint {}{weights} to go on with that one, or choose \
         another --out",
        Which::Step(step)
    ))
}

/// What the exports of one call share.
struct Encoding<'a> {
    set: &'a SampleSet,
    opened: &'a Opened,
    device: Device,
    options: &'a EncodeOptions,
    signals: &'a Signals,
    /// The number of samples in the input; in a division by files, in the part's own.
    samples: u64,
}

impl Encoding<'_> {
    /// Encodes the rest of an export.
    fn run(&self, export: &mut Export, tell: Tell, watch: &mut dyn Watch) -> Result<Stopped> {
        let Export { subset, plan, output } = export;
        let folder = output.folder().display().to_string();
        if subset.split.is_some() {
            tell.note(&format!("encoding into {folder}"));
        }
        if output.images() > 0 {
            tell.note(&format!("{} images are in finished shards; going on after them", output.images()));
        }
        output.state_samples(self.samples)?;
        keep(self.opened, &self.options.tokenizer, output.folder(), tell)?;
        let (prepare, batching) = (plan.prepare.clone(), plan.batching.clone());
        let feed = Feed::start(self.set, prepare, batching, output.input_end())?;
        watch.begin(self.samples, output.input_end());
        let (codec, _) = self.opened.first(self.options.prefix)?;
        let stopped = self.job(&*codec, plan).run(feed, output, &mut |progress| {
            watch.show(progress);
            self.signals.came().is_none()
        })?;
        watch.end();
        if let (Stopped::Finished(finished), Some(share)) = (&stopped, self.options.val_share)
            && finished.sidecar.counts.images == 0
        {
            tell.say(&format!(
                "{folder} has no images: of {} images --val-share {share} gives it none; give another share for more",
                self.samples
            ));
        }
        Ok(stopped)
    }

    /// Reads rows back and compares them with what their images give.
    fn verify(&self, export: &Export, finished: &Finished, tell: Tell) -> Result<()> {
        let Export { plan, output, .. } = export;
        let (codec, _) = self.opened.first(self.options.prefix)?;
        let job = self.job(&*codec, plan);
        let _verifying = tell.work("verifying", None);
        let rows = verify(&job, self.set, &plan.prepare, &plan.batching, output, &finished.sidecar)?;
        let all = output.rows();
        tell.note(&format!(
            "verified: {rows} of {all} rows, read back from the files, are what their images give"
        ));
        Ok(())
    }

    fn job<'a>(&self, codec: &'a dyn Codec, plan: &'a Plan) -> Job<'a> {
        let (dtype, views) = (plan.sidecar.dtype, plan.sidecar.views);
        Job { codec, coder: &plan.coder, device: self.device, dtype, views }
    }
}

/// The share of the files that is opened, if there are enough: that of `part`. A job that was begun
/// by keys goes on by keys, and needs all files.
fn share(options: &EncodeOptions, part: Part, splits: &[Option<ExportSplit>]) -> Result<Share> {
    for &split in splits {
        let subset = Subset { part, division: Division::default(), split };
        if begun_division(&subset.folder(&options.out))? == Some(Division::Keys) {
            return Ok(Share::whole());
        }
    }
    Ok(Share { rank: part.index as usize, size: part.count as usize })
}

/// The images, with keys as the options ask for.
fn input(options: &EncodeOptions, share: Share) -> Result<SampleSet> {
    let mut set = SampleSet::select_share(&options.data, &selection(&options.take)?, share)?;
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
    let variable = |name: &str| env::var(name).ok();
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
