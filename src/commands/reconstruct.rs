//! `pixtok reconstruct`: images through the tokenizer and back.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use tch::Device;

use super::names::{Clash, Names};
use super::open::Opened;
use super::write::write_png;
use super::{Misuse, note, open, print};
use crate::cli::{OutputNames, ReconstructArgs};
use crate::codec::{Codec, Own};
use crate::data::{ImageFolder, Split};
use crate::evaluate::EvaluateError;
use crate::paths::{absence, make_folder, mark_new_output};
use crate::picture::{Picture, read, sheet};

/// Pictures on the sheet.
const SHEET_PICTURES: usize = 8;
/// The largest side of one of them, in pixels.
const SHEET_SIDE: usize = 256;

/// One image on its way.
struct Task {
    source: PathBuf,
    target: PathBuf,
}

/// Writes a PNG for each image, and the sheet when asked for.
pub(super) fn run(args: &ReconstructArgs) -> Result<()> {
    let out = args.out.clone().unwrap_or_else(|| args.tokenizer.join("reconstructions"));
    let tasks = tasks(args, &out)?;
    for folder in [Some(out.as_path()), args.sheet.as_deref().and_then(Path::parent)].into_iter().flatten() {
        // Before the long work.
        make_folder(folder).with_context(|| format!("cannot make the folder {}", folder.display()))?;
    }
    mark_new_output(&out).with_context(|| format!("cannot write into {}", out.display()))?;
    let device = open::compute(&args.model.compute)?;
    let opened = open::open(&args.tokenizer, &args.model, device)?;
    let codec = Own { tokenizer: &opened.tokenizer, precision: args.model.precision };
    let shown = SHEET_PICTURES.min(tasks.len());
    let (mut originals, mut reconstructions, mut written) = (vec![], vec![], 0);
    for (i, task) in tasks.iter().enumerate() {
        let original = match read_whole(&opened, &task.source) {
            Ok(original) => original,
            Err(error) if tasks.len() > 1 => {
                note(&format!("left out {}: {error}", task.source.display()));
                continue;
            }
            Err(error) => return Err(error.context(format!("cannot use {}", task.source.display()))),
        };
        let recon = reconstruct(&codec, &original, device)
            .with_context(|| format!("cannot reconstruct {}", task.source.display()))?;
        write_png(&task.target, &recon)?;
        written += 1;
        // Spread over the whole folder rather than its first images.
        if args.sheet.is_some() && (i * shown) % tasks.len() < shown {
            originals.push(original);
            reconstructions.push(recon);
        }
    }
    if written == 0 {
        return Err(EvaluateError::NoImages(format!("none of {} could be used", tasks.len())).into());
    }
    print(&format!("{written} reconstruction(s) in {}\n", out.display()))?;
    if let Some(path) = &args.sheet {
        write_png(path, &comparison(originals, reconstructions))?;
        print(&format!("originals above their reconstructions: {}\n", path.display()))?;
    }
    Ok(())
}

/// Where each image comes from and goes to. Makes sure that no file is written twice or over an
/// image.
fn tasks(args: &ReconstructArgs, out: &Path) -> Result<Vec<Task>> {
    let input = &args.input;
    let task = |source: PathBuf, name: &Path| {
        let mut target = out.join(name).into_os_string();
        // Added to the ending instead of replacing it, so that `a.jpg` and `a.bmp` do not collide.
        let keeps = args.names == OutputNames::Original && name.extension().is_some_and(|it| it == "png");
        if !keeps {
            target.push(".png");
        }
        Task { source, target: target.into() }
    };
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
        let dataset = ImageFolder::open(input, Split::All)?;
        dataset.notes().iter().for_each(|text| note(text));
        let below = |path: PathBuf| {
            let name = path.strip_prefix(input).unwrap_or(&path).to_owned();
            task(path, &name)
        };
        (0..dataset.len()).map(|i| below(dataset.path(i))).collect()
    };
    refuse_clashes(&tasks)?;
    refuse_to_replace(&tasks)?;
    if let Some(sheet) = &args.sheet {
        refuse_sheet(sheet, &tasks)?;
    }
    Ok(tasks)
}

/// Refuses two reconstructions with the same name.
fn refuse_clashes(tasks: &[Task]) -> Result<()> {
    let mut names = Names::default();
    for Task { source, target } in tasks {
        let (source, target_words) = (source.display(), target.display());
        let words = match names.add(target) {
            Ok(()) => continue,
            Err(Clash::Same(earlier)) => format!(
                "the reconstructions of {} and {source} would both be {target_words}; give --names png, which \
                 puts .png after every name",
                tasks[earlier].source.display()
            ),
            Err(Clash::Folder(earlier)) => format!(
                "the reconstructions of {} and {source} would be {} and {target_words}, one inside the other; \
                 rename one of the images",
                tasks[earlier].source.display(),
                tasks[earlier].target.display()
            ),
            Err(Clash::TooLong) => {
                format!(
                    "the reconstruction of {source} would be {target_words}, a name of over 255 bytes; rename the image"
                )
            }
        };
        return Err(Misuse(words).into());
    }
    Ok(())
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
        // The input may be a link with another name than the image.
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
    // The file does not exist yet, and some of its folders may not either.
    let folder = absolute.ancestors().skip(1).find_map(|folder| Some((folder, folder.canonicalize().ok()?)));
    match folder {
        Some((folder, real)) => real.join(absolute.strip_prefix(folder).unwrap_or(&absolute)),
        None => absolute,
    }
}

/// The image, cut at its borders to a multiple of the downsampling.
fn read_whole(opened: &Opened, path: &Path) -> Result<Picture> {
    let picture = read(path, &opened.config.data.decode_options())?;
    let factor = opened.tokenizer.downsample() as usize;
    let (width, height) = (picture.width / factor * factor, picture.height / factor * factor);
    if width == 0 || height == 0 {
        let (w, h) = (picture.width, picture.height);
        return Err(
            Misuse(format!("it is {w}×{h} pixels; the tokenizer needs {factor} or more a side")).into()
        );
    }
    Ok(picture.centre_crop(width, height))
}

/// Through the tokens and back.
fn reconstruct(codec: &Own, original: &Picture, device: Device) -> Result<Picture> {
    let bytes = original.to_tensor()?.unsqueeze(0).to_device(device);
    let recon = codec.decode(&codec.encode(&bytes)?)?;
    Ok(Picture::from_tensor(&recon.get(0))?)
}

/// Two rows, cut to the smallest picture and to what a screen shows.
fn comparison(originals: Vec<Picture>, reconstructions: Vec<Picture>) -> Picture {
    let width = originals.iter().map(|picture| picture.width).min().unwrap_or(0).min(SHEET_SIDE);
    let height = originals.iter().map(|picture| picture.height).min().unwrap_or(0).min(SHEET_SIDE);
    let cut = |row: Vec<Picture>| row.iter().map(|picture| picture.centre_crop(width, height)).collect();
    sheet(&[cut(originals), cut(reconstructions)])
}
