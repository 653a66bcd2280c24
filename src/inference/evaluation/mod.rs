//! `pixtok eval`: figures of a tokenizer, as a table and as JSON.

mod notes;

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};
use tch::Device;

use super::subject::{Images, Measured};
use super::write::{write, write_png};
use super::{Misuse, measures, note, note_omitted, open, print, subject};
use crate::cli::EvalArgs;
use crate::codec::{Codec, Own};
use pixtok_images::data::BadSamples;
use crate::evaluate::{self, Evaluation, Measures, Pairs, Reconstructions, Subject, evaluate};
use pixtok_base::paths::{make_folder, mark_new_output};
use crate::train::TrainError;

/// Images listed at both ends of the ranking.
const EXTREMES: usize = 5;
/// Pictures that `--pictures` writes.
const PICTURES: usize = 8;
/// Where it writes them.
const PICTURE_FOLDERS: [&str; 2] = ["originals", "reconstructions"];

/// Evaluates, prints the table, writes the files.
pub(super) fn run(args: &EvalArgs) -> Result<()> {
    prepare(args)?;
    let device = open::compute(&args.model.compute)?;
    let mut measured = subject::open(&args.tokenizer, &args.model, device)?;
    let images = Images::of(&measured, args)?;
    if let Some(size) = images.size {
        measures::check_size(&args.measures, size)?;
    }
    note_omitted([&*images.dataset]);
    try_on(&mut measured, &images, device)?;
    let measures = measures::measures(&args.measures, images.count(), device)?;
    let evaluation = measure(&measured, &images, &measures, args, device)?;
    let mut bad = BadSamples::new(images.count(), images.data.max_bad_fraction);
    for sample in &evaluation.bad {
        note(&format!("left out {}: {}", sample.name, sample.reason));
        bad.record(sample);
    }
    bad.check().map_err(TrainError::from)?;
    write_files(args, &evaluation)?;
    let notes = notes::notes(args, &measured, &images, &evaluation);
    let json = serde_json::to_string_pretty(&flat(args, &measured, &images, &evaluation, &notes))? + "\n";
    if args.json.as_deref() == Some(Path::new("-")) {
        return print(&json);
    }
    print(&text(args, &measured, &images, &evaluation, &notes))?;
    args.json.as_ref().map_or(Ok(()), |path| write(path, json.as_bytes()))
}

/// Before the long work: can the outputs be written, and are they of kinds that there are?
fn prepare(args: &EvalArgs) -> Result<()> {
    for (path, endings) in [(&args.per_image, &["csv", "parquet"][..]), (&args.code_counts, &["csv"])] {
        let Some(path) = path else { continue };
        let ending = path.extension().and_then(|ending| ending.to_str()).unwrap_or_default();
        if !endings.contains(&ending) {
            let known = endings.join(" or .");
            return Err(Misuse(format!("{}: the name must end in .{known}", path.display())).into());
        }
    }
    let files = [&args.json, &args.per_image, &args.code_counts];
    if let Some(folder) = files.into_iter().flatten().find(|path| path.is_dir()) {
        return Err(Misuse(format!("{} is a folder; give a file", folder.display())).into());
    }
    let parents = files.into_iter().flatten().filter_map(|path| path.parent());
    for folder in parents.chain(args.pictures.as_deref()) {
        make_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    args.pictures.as_deref().map_or(Ok(()), mark_pictures)
}

/// Marks the folder of `--pictures`; if it holds other things, marks only the command's own folders
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

/// Passes the first batch through a foreign pair, which notes what is doubtful about it.
fn try_on(measured: &mut Measured, images: &Images, device: Device) -> Result<()> {
    let Measured::Foreign(pair) = measured else { return Ok(()) };
    let Some(batch) = images.loader(device)?.next() else { return Ok(()) };
    Ok(pair.try_on(&batch?.images.to_device(device), images.batch_size)?)
}

fn measure(
    measured: &Measured,
    images: &Images,
    measures: &Measures,
    args: &EvalArgs,
    device: Device,
) -> Result<Evaluation> {
    let pictures = if args.pictures.is_some() { PICTURES } else { 0 };
    let pictures = evaluate::picture_names(&images.dataset, images.bound, pictures);
    let foreign = !matches!(measured, Measured::Own(_));
    let options = &evaluate::Options { device, pictures, foreign };
    let of_codec = |codec: &dyn Codec| -> Result<Evaluation> {
        let loader = images.loader(device)?;
        Ok(evaluate(Subject::Codec { codec, loader, stability: args.measures.stability }, measures, options)?)
    };
    match measured {
        Measured::Own(opened) => {
            of_codec(&Own { tokenizer: &opened.tokenizer, precision: args.model.precision })
        }
        Measured::Foreign(pair) => of_codec(&**pair),
        Measured::Reconstructions(folder) => {
            let same = args.data.as_ref().is_some_and(
                |data| matches!((data.canonicalize(), folder.canonicalize()), (Ok(a), Ok(b)) if a == b),
            );
            if same {
                let folder = folder.display();
                return Err(Misuse(format!(
                    "{folder} is given as originals and reconstructions both; give two folders"
                ))
                .into());
            }
            if args.measures.stability {
                note("stability is of tokens, which reconstructions alone do not have; it is left out");
            }
            let found = Reconstructions::find(folder, &images.dataset, images.bound)?;
            if let [first, ..] = found.unused() {
                note(&format!(
                    "{} image(s) in {} are no original's and are not measured, for instance {first}",
                    found.unused().len(),
                    folder.display()
                ));
            }
            let decode = images.data.decode_options();
            let pairs = if args.protocol.is_some() {
                Pairs::prepared(images.loader(device)?, found, decode, device)
            } else {
                Pairs::whole(&images.dataset, images.batch_size, found, decode, device)
            };
            Ok(evaluate(Subject::Pairs(pairs), measures, options)?)
        }
    }
}

/// Which tokenizer, on which images.
fn heading(args: &EvalArgs, measured: &Measured, images: &Images) -> String {
    let path = args.tokenizer.display();
    match measured {
        Measured::Own(opened) => {
            format!("{path}, {}, on {}", opened.weights(args.model.weights), images.words)
        }
        Measured::Foreign(_) => format!("{path} (TorchScript), on {}", images.words),
        Measured::Reconstructions(_) => format!("{path} (reconstructions), of {}", images.words),
    }
}

fn text(
    args: &EvalArgs,
    measured: &Measured,
    images: &Images,
    evaluation: &Evaluation,
    notes: &[String],
) -> String {
    let mut text = format!("{}\n{}", heading(args, measured, images), evaluation.figures.table());
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

/// The object of `--json`.
fn flat(
    args: &EvalArgs,
    measured: &Measured,
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
    put("tokenizer", json!(args.tokenizer));
    put("data", json!(images.words));
    put("batch_size", json!(images.batch_size));
    if let Measured::Own(opened) = measured {
        put("step", json!(opened.step));
        put("weights", json!(args.model.weights.name()));
        put("parameters", json!(opened.parameters));
        put("precision", json!(args.model.precision));
    }
    if let Some(extremes) = evaluation.scores.extremes(EXTREMES) {
        put("ranked_by", json!(extremes.metric));
        put("worst_image", json!(extremes.worst.first().map(|(name, _)| name)));
        put("best_image", json!(extremes.best.first().map(|(name, _)| name)));
    }
    object
}

fn write_files(args: &EvalArgs, evaluation: &Evaluation) -> Result<()> {
    if let Some(path) = &args.per_image {
        let parquet = path.extension().is_some_and(|ending| ending == "parquet");
        let scores = &evaluation.scores;
        write(path, &if parquet { scores.to_parquet()? } else { scores.to_csv()? })?;
    }
    if let Some(path) = &args.code_counts {
        let size = evaluation.vocabulary.map_or(i64::MAX, |vocabulary| vocabulary.size);
        let rows = evaluation.counts.iter().map(|(code, count)| format!("{code},{count},{}\n", code / size));
        write(path, ("code,count,codebook\n".to_owned() + &rows.collect::<String>()).as_bytes())?;
    }
    let Some(folder) = &args.pictures else { return Ok(()) };
    for ((name, original), recon) in evaluation.originals.iter().zip(&evaluation.reconstructions) {
        for (part, picture) in PICTURE_FOLDERS.into_iter().zip([original, recon]) {
            write_png(&folder.join(part).join(format!("{name}.png")), picture)?;
        }
    }
    Ok(())
}
