//! Evaluates a tokenizer, or reconstructions, on images.
//!
//! `images` decides which images are evaluated and how they are prepared, `measures` decides which
//! metrics are computed, and `notes` collects what affects how the figures are read. `trained_on`
//! searches the images among those that a tokenizer was trained on.

mod images;
mod measures;
mod notes;
mod trained_on;

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tch::Device;

use crate::batches::share_of;
use crate::evaluate::{self, Evaluation, Measures, Pairs, Passed, Reconstructions, Subject, together};
use crate::outputs::{write, write_png};
use crate::run::{Compute, Found, ModelChoice, Opened, Pick, Tell, tell_omitted};
use crate::train::TrainError;
use crate::world::World;
use images::Images;
use pixtok_base::Misuse;
use pixtok_base::paths::{make_folder, mark_new_output};
use pixtok_images::data::BadSamples;

pub(super) use images::{choose, protocol};
pub use measures::{AbsentPrefix, MeasureOptions};
pub use trained_on::TrainingSearch;

/// The number of images listed at each end of the ranking.
const EXTREMES: usize = 5;
/// The number of pictures that are kept.
const PICTURES: usize = 8;
/// How long a process waits for the others, which open the same files and evaluate shares of about
/// the same length.
pub const EVALUATION_TIMEOUT: Duration = Duration::from_secs(1800);
/// The folders that pictures are written to.
const PICTURE_FOLDERS: [&str; 2] = ["originals", "reconstructions"];

/// The options of an evaluation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EvaluateOptions {
    /// A run or a model folder, an adapter, or a folder of reconstructions.
    pub tokenizer: PathBuf,
    /// How the tokenizer is used.
    pub choice: ModelChoice,
    /// Where and how to compute.
    pub compute: Compute,
    /// The images; absent: the run's validation images.
    pub data: Option<PathBuf>,
    /// The selection of images.
    pub pick: Pick,
    /// The config that states how images are prepared and, without `data`, which images are used;
    /// absent: the tokenizer's own config.
    pub protocol: Option<PathBuf>,
    /// Images in a batch, instead of the config's `eval.batch_size`.
    pub batch_size: Option<u32>,
    /// The colour under transparent pixels, instead of the config's `data.background`.
    pub background: Option<[u8; 3]>,
    /// What to measure.
    pub measures: MeasureOptions,
    /// What is done with prefixes that the tokenizer does not have.
    pub absent_prefixes: AbsentPrefix,
    /// Notes on images that the tokenizer was trained on, if the caller has searched for them;
    /// absent: they are searched for.
    pub trained_on: Option<Vec<String>>,
    /// The file for the figures as one flat JSON object. The caller handles `-`, which means
    /// standard output.
    pub json: Option<PathBuf>,
    /// The file for the values of each image, `.csv` or `.parquet`.
    pub per_image: Option<PathBuf>,
    /// The file for the counts of each code, `.csv`.
    pub code_counts: Option<PathBuf>,
    /// The folder for some originals and reconstructions.
    pub pictures: Option<PathBuf>,
}

/// The result of an evaluation, ready to be shown.
#[derive(Debug)]
pub struct Measured {
    /// The figures as a table, with notes and the extreme images.
    pub text: String,
    /// The figures as one flat JSON object.
    pub json: String,
}

/// Evaluates and writes the requested files. Each process of `world` evaluates a share of the
/// images; the one that writes has the result, and the others have none.
///
/// # Errors
/// Whatever is wrong with the options, before the long work; too many bad images; what stops the
/// evaluation, in this process or in another.
pub fn evaluate(options: &EvaluateOptions, world: &World, tell: Tell) -> Result<Option<Measured>> {
    check_files(options)?;
    let device = options.compute.shared(world).start(tell.once(world))?;
    world.connect(device)?;
    let Opening { found, images, measures, pictures } =
        together(world, || Opening::new(options, world, device, tell.once(world)))?;
    let how = evaluate::Options { device, pictures, foreign: found.own().is_none(), world: world.clone() };
    let evaluation = measure(&found, &images, &measures, options, &how, tell)?;
    let mut bad = BadSamples::new(images.count(), images.data.max_bad_fraction);
    for sample in &evaluation.bad {
        bad.record(sample);
    }
    bad.check().map_err(TrainError::from)?;
    if !world.writes() {
        return Ok(None);
    }
    write_files(options, &evaluation)?;
    let comparing = tell.work("looking for training images among these", None);
    let notes = notes::notes(options, &found, &images, &evaluation, tell);
    drop(comparing);
    let json = serde_json::to_string_pretty(&flat(options, &found, &images, &evaluation, &notes))? + "\n";
    if let Some(path) = options.json.as_deref().filter(|path| *path != Path::new("-")) {
        write(path, json.as_bytes())?;
    }
    let text = text(options, &found, &images, &evaluation, &notes);
    Ok(Some(Measured { text, json }))
}

/// What an evaluation needs, opened before the long work.
struct Opening {
    found: Found,
    images: Images,
    measures: Measures,
    /// The names of the images that are kept as pictures.
    pictures: HashSet<String>,
}

impl Opening {
    /// Opens everything, the same in every process. The one that writes makes the folders.
    fn new(options: &EvaluateOptions, world: &World, device: Device, tell: Tell) -> Result<Self> {
        if world.writes() {
            make_folders(options)?;
        }
        let mut found = Found::open(&options.tokenizer, options.choice, device, tell)?;
        found.own().and_then(|trained| trained.better.as_ref()).iter().for_each(|text| tell.note(text));
        let images = Images::of(&found, options, tell)?;
        if let Some(size) = images.size {
            options.measures.check_size(size)?;
            check_only_size(&found, options, size)?;
        }
        tell_omitted([&*images.dataset], tell);
        try_on(&mut found, &images, device)?;
        let prefixes = options.measures.prefixes_of(&found, options.absent_prefixes, tell)?;
        let measures = Measures { prefixes, ..options.measures.measures(images.count(), device, tell)? };
        let pictures = match options.pictures {
            Some(_) => {
                evaluate::chosen(&images.dataset, &images.data, images.bound, &images.shown, PICTURES)?
            }
            None => vec![],
        };
        Ok(Self { found, images, measures, pictures: pictures.into_iter().collect() })
    }
}

/// Refuses images of another size than the only one that the tokenizer takes.
fn check_only_size(found: &Found, options: &EvaluateOptions, (height, width): (i64, i64)) -> Result<()> {
    let only = found.own().and_then(|trained| trained.tokenizer.only_size());
    let Some(only) = only.filter(|only| (i64::from(only.height), i64::from(only.width)) != (height, width))
    else {
        return Ok(());
    };
    Err(Misuse(format!(
        "{} takes images of exactly {}×{} pixels, and these are prepared at {height}×{width}; leave --protocol out, \
         or give one with that data.image_size",
        options.tokenizer.display(),
        only.height,
        only.width
    ))
    .into())
}

/// Checks that the outputs are files of known formats.
fn check_files(options: &EvaluateOptions) -> Result<()> {
    for (path, endings) in [(&options.per_image, &["csv", "parquet"][..]), (&options.code_counts, &["csv"])] {
        let Some(path) = path else { continue };
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !endings.contains(&ending) {
            let known = endings.join(" or .");
            return Err(Misuse(format!("{}: the name must end in .{known}", path.display())).into());
        }
    }
    match files(options).find(|path| path.is_dir()) {
        Some(folder) => Err(Misuse(format!("{} is a folder; give a file", folder.display())).into()),
        None => Ok(()),
    }
}

/// The files that are asked for.
fn files(options: &EvaluateOptions) -> impl Iterator<Item = &PathBuf> {
    [&options.json, &options.per_image, &options.code_counts].into_iter().flatten()
}

/// Makes the folders of the outputs before the long work, and so checks that they can be written.
fn make_folders(options: &EvaluateOptions) -> Result<()> {
    let parents = files(options).filter_map(|path| path.parent());
    for folder in parents.chain(options.pictures.as_deref()) {
        make_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    options.pictures.as_deref().map_or(Ok(()), mark_pictures)
}

/// Marks the folder of `--pictures`. If it holds other files, marks only the command's own folders
/// in it.
fn mark_pictures(folder: &Path) -> Result<()> {
    let context = || format!("cannot write into {}", folder.display());
    if mark_new_output(folder).with_context(context)? {
        return Ok(());
    }
    for part in PICTURE_FOLDERS.map(|name| folder.join(name)) {
        make_folder(&part).and_then(|()| mark_new_output(&part)).with_context(context)?;
    }
    Ok(())
}

/// Tries a foreign pair on the first batch of the whole set, the same in every process. The pair
/// records any doubts, and how many images it takes.
fn try_on(found: &mut Found, images: &Images, device: Device) -> Result<()> {
    let Found::Tokenizer(Opened::Foreign(pair)) = found else { return Ok(()) };
    let Some(batch) = images.loader(device, &World::single())?.next() else { return Ok(()) };
    Ok(pair.try_on(&batch?.images.to_device(device), images.batch_size)?)
}

fn measure(
    found: &Found,
    images: &Images,
    measures: &Measures,
    options: &EvaluateOptions,
    how: &evaluate::Options,
    tell: Tell,
) -> Result<Evaluation> {
    let evaluate::Options { device, world, .. } = how;
    let evaluate = |subject: Result<Subject>| -> Result<Evaluation> {
        let subject = together(world, || subject)?;
        let own = images.dataset.evaluated_by(share_of(world), images.bound).len();
        let work = tell.once(world).work("evaluating", Some(own as u64));
        let mut watch = |passed: &Passed| {
            // Named as they come up, since the rest may take hours.
            for sample in &passed.bad {
                tell.say(&format!("left out {}: {}", sample.name, sample.reason));
            }
            work.add((passed.names.len() + passed.bad.len()) as u64);
        };
        Ok(evaluate::evaluate_watched(subject, measures, how, &mut watch)?)
    };
    match found {
        Found::Tokenizer(opened) => {
            let (codec, stability) = (opened.codec(), options.measures.stability);
            let loader = images.loader(*device, world);
            evaluate(loader.map(|loader| Subject::Codec { codec: &*codec, loader, stability }))
        }
        Found::Reconstructions(folder) => {
            let pairs = pairs(folder, images, options, how, tell.once(world));
            evaluate(pairs.map(Subject::Pairs))
        }
    }
}

/// The originals of this process's share with their reconstructions in `folder`.
fn pairs(
    folder: &Path,
    images: &Images,
    options: &EvaluateOptions,
    how: &evaluate::Options,
    tell: Tell,
) -> Result<Pairs> {
    let same = options
        .data
        .as_ref()
        .is_some_and(|data| matches!((data.canonicalize(), folder.canonicalize()), (Ok(a), Ok(b)) if a == b));
    if same {
        let folder = folder.display();
        return Err(Misuse(format!(
            "{folder} is given as originals and reconstructions both; give two folders"
        ))
        .into());
    }
    if options.measures.stability {
        tell.say("stability is of tokens, which reconstructions alone do not have; it is left out");
    }
    if options.code_counts.is_some() {
        tell.say("reconstructions alone have no tokens, so no codes are counted");
    }
    let looking = tell.work("looking for reconstructions", None);
    let found = Reconstructions::find(folder, &images.dataset, images.bound)?;
    drop(looking);
    if let [first, ..] = found.unused() {
        let without = match found.unused().len() {
            1 => "1 image that has".to_owned(),
            count => format!("{count} images that have"),
        };
        tell.say(&format!(
            "{} holds {without} no original and will not be measured, for instance {first}",
            folder.display()
        ));
    }
    let (decode, evaluate::Options { device, world, .. }) = (images.data.decode_options(), how);
    Ok(if options.protocol.is_some() {
        Pairs::prepared(images.loader(*device, world)?, found, decode, *device)
    } else {
        Pairs::whole(&images.dataset, images.batch_size, found, decode, *device, world)
    })
}

/// Describes the tokenizer and the images.
fn heading(options: &EvaluateOptions, found: &Found, images: &Images) -> String {
    let path = options.tokenizer.display();
    match found {
        Found::Tokenizer(Opened::Own(trained)) => {
            let positions = trained.choice.positions.map(|positions| format!(", positions: {positions}"));
            format!("{path}, {}{}, on {}", trained.weights(), positions.unwrap_or_default(), images.words)
        }
        Found::Tokenizer(Opened::Foreign(_)) => format!("{path} (TorchScript), on {}", images.words),
        Found::Reconstructions(_) => format!("{path} (reconstructions), of {}", images.words),
    }
}

fn text(
    options: &EvaluateOptions,
    found: &Found,
    images: &Images,
    evaluation: &Evaluation,
    notes: &[String],
) -> String {
    let mut text = format!("{}\n{}", heading(options, found, images), evaluation.figures.table());
    if let Some(curve) = &evaluation.curve {
        text += &curve.table();
    }
    for note in notes {
        let _ = writeln!(text, "note: {note}");
    }
    let Some(extremes) = evaluation.scores.extremes(EXTREMES) else { return text };
    if evaluation.scores.names.len() > 1 {
        let _ = writeln!(text, "intervals: bootstrap, 95 %, over images");
    }
    for (end, images) in [("worst", &extremes.worst), ("best", &extremes.best)] {
        let list: Vec<String> = images.iter().map(|(name, value)| format!("{name} ({value:.2})")).collect();
        let _ = writeln!(text, "{end} by {}: {}", extremes.metric, list.join(", "));
    }
    text
}

/// All figures and facts in one flat object.
fn flat(
    options: &EvaluateOptions,
    found: &Found,
    images: &Images,
    evaluation: &Evaluation,
    notes: &[String],
) -> Map<String, Value> {
    let mut object = evaluation.figures.flat();
    let mut put = |name: &str, value: Value| object.insert(name.to_owned(), value);
    // Empty lists are left out, so that the object of most evaluations is flat.
    if !evaluation.bad.is_empty() {
        put("left_out", json!(evaluation.bad));
    }
    if !notes.is_empty() {
        put("notes", json!(notes));
    }
    if let Some(curve) = &evaluation.curve {
        put("prefixes", curve.json());
    }
    put("tokenizer", json!(options.tokenizer));
    put("data", json!(images.words));
    put("batch_size", json!(images.batch_size));
    if let Some(trained) = found.own() {
        put("step", json!(trained.step));
        put("weights", json!(trained.choice.weights.name()));
        put("parameters", json!(trained.parameters));
        put("precision", json!(trained.choice.precision));
        // Of networks whose positions extend, what was done beyond the trained size.
        if let Some(extension) = trained.extension() {
            put("positions", json!(extension));
        }
    }
    if let Some(extremes) = evaluation.scores.extremes(EXTREMES) {
        put("ranked_by", json!(extremes.metric));
        put("worst_image", json!(extremes.worst.first().map(|(name, _)| name)));
        put("best_image", json!(extremes.best.first().map(|(name, _)| name)));
    }
    object
}

fn write_files(options: &EvaluateOptions, evaluation: &Evaluation) -> Result<()> {
    if let Some(path) = &options.per_image {
        let parquet = path.extension().is_some_and(|ending| ending == "parquet");
        let scores = &evaluation.scores;
        write(path, &if parquet { scores.to_parquet()? } else { scores.to_csv()? })?;
    }
    if let Some(path) = &options.code_counts {
        let size = evaluation.vocabulary.map_or(i64::MAX, |vocabulary| vocabulary.size);
        let rows = evaluation.counts.iter().map(|(code, count)| format!("{code},{count},{}\n", code / size));
        write(path, ("code,count,codebook\n".to_owned() + &rows.collect::<String>()).as_bytes())?;
    }
    let Some(folder) = &options.pictures else { return Ok(()) };
    for ((name, original), recon) in evaluation.originals.iter().zip(&evaluation.reconstructions) {
        for (part, picture) in PICTURE_FOLDERS.into_iter().zip([original, recon]) {
            write_png(&folder.join(part).join(format!("{name}.png")), picture)?;
        }
    }
    Ok(())
}
