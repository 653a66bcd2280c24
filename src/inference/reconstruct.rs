//! Reconstructs images through the tokenizer.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow};
use tch::Device;

use crate::batches::{picture_of, tensor_of};
use crate::codec::{Codec, Own};
use crate::evaluate::EvaluateError;
use crate::metrics::mean_psnr;
use crate::model::{ImageSize, size_of};
use crate::outputs::{Naming, caption, comparison, png_of, refuse_clashes, write_png};
use crate::run::{Compute, ModelChoice, Run, Tell};
use crate::world::World;
use pixtok_base::Misuse;
use pixtok_base::paths::{absence, make_folder, mark_new_output};
use pixtok_images::data::{DataError, Encoded, Fit, ImageFolder, Pipeline, Prepare, Split};
use pixtok_images::picture::Picture;

/// How many images may be decoded or being decoded while the tokenizer processes the previous one.
/// They may be large.
const IMAGES_AHEAD: usize = 1;
/// The number of pictures on the sheet.
const SHEET_PICTURES: usize = 8;
/// The largest side of a picture on the sheet, in pixels.
const SHEET_SIDE: usize = 256;

/// The options of a reconstruction.
#[derive(Debug, Clone, PartialEq)]
pub struct ReconstructOptions {
    /// A run or a model folder.
    pub tokenizer: PathBuf,
    /// How the tokenizer is used.
    pub choice: ModelChoice,
    /// Where and how to compute.
    pub compute: Compute,
    /// An image, or a folder of images.
    pub input: PathBuf,
    /// The folder for the reconstructions; absent: a folder in the run folder.
    pub out: Option<PathBuf>,
    /// The naming of the files.
    pub names: Naming,
    /// The file for a sheet with some originals above their reconstructions.
    pub sheet: Option<PathBuf>,
}

/// An image to reconstruct.
struct Task {
    source: PathBuf,
    target: PathBuf,
}

/// Writes a PNG for each image, and the sheet if asked for. The images are dealt to the processes of
/// `world`, one to each in turn; they exchange nothing. Returns a description of what this process
/// wrote.
///
/// # Errors
/// When a file would be written twice or would replace an image; when no image can be used; when
/// the tokenizer fails; when several processes are to make a sheet.
pub fn reconstruct(options: &ReconstructOptions, world: &World, tell: Tell) -> Result<String> {
    let run = Run::find(&options.tokenizer)?;
    if options.sheet.is_some() && world.size() > 1 {
        return Err(Misuse(format!(
            "--sheet shows images of the whole folder, but each of the {} processes reconstructs only a part of them; \
             leave it out, or start a single process",
            world.size()
        ))
        .into());
    }
    let out = options.out.clone().unwrap_or_else(|| options.tokenizer.join("reconstructions"));
    // The names are planned over all images, so that every process notices a clash.
    let tasks = tasks(options, &out, tell.once(world))?;
    let total = tasks.len();
    let tasks = dealt(tasks, world.rank(), world.size());
    if tasks.is_empty() && world.size() > 1 {
        return Ok(words(world, 0, total, &out));
    }
    for folder in [Some(out.as_path()), options.sheet.as_deref().and_then(Path::parent)].into_iter().flatten()
    {
        // Checked before the long work.
        make_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    mark_new_output(&out).with_context(|| format!("cannot write into {}", out.display()))?;
    let device = options.compute.shared(world).start(tell.once(world))?;
    let trained = run.open(options.choice, device, tell.once(world))?;
    let codec = trained.codec();
    let factor = trained.tokenizer.side_multiple() as u32;
    let only_size = trained.tokenizer.only_size();
    let fit = if only_size.is_some() { Fit::Centre } else { Fit::Cut { factor } };
    let prepare = Prepare::new(&trained.config.data, fit);
    let shown = SHEET_PICTURES.min(tasks.len());
    let (mut captions, mut originals, mut reconstructions) = (vec![], vec![], vec![]);
    let (mut written, mut cut) = (0, 0);
    let sources: Vec<PathBuf> = tasks.iter().map(|task| task.source.clone()).collect();
    let prepared = Pipeline::map(sources, trained.config.data.workers, IMAGES_AHEAD, move |source| {
        let decoded = prepare.decoded(&Encoded::File(source));
        let is_whole = decoded.is_ok();
        (is_whole, decoded.and_then(|picture| prepare.picture(&picture)))
    })?;
    let work = tell.once(world).work("reconstructing", Some(tasks.len() as u64));
    for ((i, task), prepared) in tasks.iter().enumerate().zip(prepared) {
        work.add(1);
        let (is_whole, prepared) = prepared.map_err(DataError::from)?;
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(reason) if total > 1 => {
                tell.say(&format!("left out {}: {reason}", task.source.display()));
                continue;
            }
            Err(reason) => {
                let words = format!("cannot use {}: {reason}", task.source.display());
                // The whole picture is too small for the tokenizer.
                return Err(if is_whole { Misuse(words).into() } else { anyhow!(words) });
            }
        };
        let original = prepared.to_picture();
        let recon = through(&codec, &original, device)
            .with_context(|| format!("cannot reconstruct {}", task.source.display()))?;
        write_png(&task.target, &recon)?;
        written += 1;
        cut += usize::from(prepared.is_resized());
        // Spread over the whole folder rather than taken from its first images.
        if options.sheet.is_some() && (i * shown) % tasks.len() < shown {
            let name = task.source.strip_prefix(&options.input).unwrap_or(&task.source);
            let name = if name.as_os_str().is_empty() { &task.source } else { name };
            let psnr = mean_psnr(&tensor_of(&original)?.unsqueeze(0), &tensor_of(&recon)?.unsqueeze(0));
            captions.push(caption(&name.display().to_string(), psnr));
            originals.push(original);
            reconstructions.push(recon);
        }
    }
    drop(work);
    // Where several processes work, the images of the others may be good.
    if written == 0 && world.size() == 1 {
        return Err(EvaluateError::NoImages(format!("none of {total} could be used")).into());
    }
    let mut words = words(world, written, total, &out);
    if cut > 0 {
        let own = if world.size() > 1 { " of this process" } else { "" };
        let (how, flag) = match only_size {
            Some(ImageSize { height, width }) => {
                (format!("resized and cropped to {height}×{width} pixels, the only size that it takes"), "")
            }
            None => (format!("cut at their borders to multiples of {factor} pixels"), " --fit whole"),
        };
        tell.once(world).note(&format!(
            "{cut} of {written}{own} were {how}; for `pixtok eval`, `pixtok prepare {} --data FOLDER{flag} --out \
             DIR` writes the originals so",
            options.tokenizer.display()
        ));
    }
    if let Some(path) = &options.sheet {
        let whole: Vec<_> = originals.iter().map(|picture| (picture.width, picture.height)).collect();
        let (originals, reconstructions) = (middles(originals), middles(reconstructions));
        let shown = originals.iter().map(|picture| (picture.width, picture.height));
        let cropped = !shown.eq(whole);
        write_png(path, &comparison(captions, originals, reconstructions))?;
        let parts = if cropped { " (the middle of each; the PSNR is of the whole)" } else { "" };
        words += &format!("originals above their reconstructions: {}{parts}\n", path.display());
    }
    Ok(words)
}

/// The items that process `rank` of `size` takes: one to each in turn.
fn dealt<T>(all: Vec<T>, rank: u32, size: u32) -> Vec<T> {
    all.into_iter().skip(rank as usize).step_by(size as usize).collect()
}

/// What this process wrote.
fn words(world: &World, written: usize, total: usize, out: &Path) -> String {
    let out = out.display();
    if world.size() == 1 {
        return format!("{written} reconstruction(s) in {out}\n");
    }
    let (rank, size) = (world.rank(), world.size());
    format!("process {rank} of {size}: {written} of {total} images in {out}\n")
}

/// The source and the output of each image. Checks that no file is written twice or over an image.
fn tasks(options: &ReconstructOptions, out: &Path, tell: Tell) -> Result<Vec<Task>> {
    let input = &options.input;
    let task = |source: PathBuf, name: &Path| Task { target: png_of(name, out, options.names), source };
    if !input.exists() {
        return Err(Misuse(format!(
            "{} {}; give an image or a folder of images",
            input.display(),
            absence(input)
        ))
        .into());
    }
    let tasks: Vec<Task> = if input.is_file() {
        vec![task(input.to_owned(), input.file_name().map_or(input, Path::new))]
    } else {
        let work = tell.work("looking for images", None);
        let dataset = ImageFolder::open_watched(input, Split::All, &|more| work.add(more))?;
        drop(work);
        dataset.notes().iter().for_each(|text| tell.say(text));
        let below = |path: PathBuf| {
            let name = path.strip_prefix(input).unwrap_or(&path).to_owned();
            task(path, &name)
        };
        (0..dataset.len()).map(|i| below(dataset.path(i))).collect()
    };
    refuse_clashes("reconstruction", tasks.len(), |i| {
        (tasks[i].source.display().to_string(), tasks[i].target.clone())
    })?;
    refuse_to_replace(&tasks)?;
    if let Some(sheet) = &options.sheet {
        refuse_sheet(sheet, &tasks)?;
    }
    Ok(tasks)
}

/// Refuses to overwrite any input image or a folder.
fn refuse_to_replace(tasks: &[Task]) -> Result<()> {
    let mut there: HashMap<PathBuf, &Task> = HashMap::new();
    for task in tasks.iter().filter(|task| task.target.exists()) {
        if task.target.is_dir() {
            let (source, target) = (task.source.display(), task.target.display());
            return Err(Misuse(format!(
                "the reconstruction of {source} would be {target}, which is a folder; choose another --out"
            ))
            .into());
        }
        there.insert(task.target.canonicalize()?, task);
    }
    if there.is_empty() {
        return Ok(());
    }
    let replaced = |task: &Task| task.source.canonicalize().ok().and_then(|source| there.get(&source));
    match tasks.iter().find_map(|task| Some((task, replaced(task)?))) {
        Some((task, by)) => Err(Misuse(format!(
            "the reconstruction of {} would replace {}; choose another --out",
            by.source.display(),
            task.source.display()
        ))
        .into()),
        None => Ok(()),
    }
}

/// Refuses a sheet that would overwrite an image or a reconstruction.
fn refuse_sheet(sheet: &Path, tasks: &[Task]) -> Result<()> {
    let (place, name) = (place(sheet), sheet.file_name());
    for Task { source, target } in tasks {
        // The input may be a link whose name differs from the image's.
        if sheet.exists() && source.canonicalize().is_ok_and(|source| source == place) {
            let words = format!("the sheet {} would replace {}", sheet.display(), source.display());
            return Err(Misuse(format!("{words}; give it another name")).into());
        }
        if target.file_name() == name && self::place(target) == place {
            return Err(Misuse(format!(
                "the reconstruction of {} and the sheet would both be {}; give the sheet another name",
                source.display(),
                target.display()
            ))
            .into());
        }
    }
    Ok(())
}

/// The real path of a file that exists or will be written.
fn place(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    if let Ok(place) = absolute.canonicalize() {
        return place;
    }
    // The file does not exist yet, and some of its folders may not exist either.
    let folder = absolute.ancestors().skip(1).find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    match folder {
        Some((folder, real)) => real.join(absolute.strip_prefix(folder).unwrap_or(&absolute)),
        None => absolute,
    }
}

/// Reconstructs a picture through its tokens.
fn through(codec: &Own, original: &Picture, device: Device) -> Result<Picture> {
    let bytes = tensor_of(original)?.unsqueeze(0).to_device(device);
    let recon = codec.decode(&codec.encode(&bytes)?, size_of(&bytes))?;
    Ok(picture_of(&recon.get(0))?)
}

/// The middles of pictures, of the size of the smallest, but not larger than fits on a screen.
fn middles(pictures: Vec<Picture>) -> Vec<Picture> {
    let width = pictures.iter().map(|picture| picture.width).min().unwrap_or(0).min(SHEET_SIDE);
    let height = pictures.iter().map(|picture| picture.height).min().unwrap_or(0).min(SHEET_SIDE);
    pictures.iter().map(|picture| picture.centre_crop(width, height)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_dealt_one_to_each_process_in_turn() {
        let all: Vec<u32> = (0..7).collect();
        let shares: Vec<Vec<u32>> = (0..3).map(|rank| dealt(all.clone(), rank, 3)).collect();
        assert_eq!(shares, [vec![0, 3, 6], vec![1, 4], vec![2, 5]]);
        assert_eq!(dealt(all.clone(), 0, 1), all);
        assert!(dealt(vec!["a.png"], 1, 2).is_empty());
    }

    #[test]
    fn a_single_process_tells_of_all() {
        let words = words(&World::single(), 3, 4, Path::new("out"));
        assert_eq!(words, "3 reconstruction(s) in out\n");
    }
}
