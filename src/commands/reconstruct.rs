//! `pixtok reconstruct`: images through the tokenizer and back.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::open::Opened;
use super::{Misuse, note, open, print};
use crate::cli::{ReconstructArgs, RunArgs};
use crate::data::{Dataset, Split};
use crate::metrics::to_8bit;
use crate::model::images_from_bytes;
use crate::picture::{Picture, decode, sheet};
use crate::torch::{catching, with_precision};

/// Pictures on the sheet.
const SHEET_PICTURES: usize = 8;

/// Writes a PNG for each image, and the sheet when asked for.
pub(super) fn run(args: &ReconstructArgs) -> Result<()> {
    let opened = open::open(&args.tokenizer)?;
    let images = inputs(&args.input)?;
    let out = args.out.clone().unwrap_or_else(|| args.tokenizer.run.join("reconstructions"));
    fs::create_dir_all(&out).with_context(|| format!("cannot make the folder {}", out.display()))?;
    // Spread over the whole folder rather than its first images.
    let shown: Vec<usize> = (0..SHEET_PICTURES.min(images.len()))
        .map(|i| i * images.len() / SHEET_PICTURES.min(images.len()))
        .collect();
    let (mut originals, mut reconstructions) = (vec![], vec![]);
    let mut written = 0;
    for (i, (path, name)) in images.iter().enumerate() {
        let (original, recon) = match reconstruct(&opened, &args.tokenizer, path) {
            Ok(pair) => pair,
            Err(error) if images.len() > 1 => {
                note(&format!("left out {}: {error:#}", path.display()));
                continue;
            }
            Err(error) => return Err(error.context(format!("cannot reconstruct {}", path.display()))),
        };
        write_png(&out.join(name).with_extension("png"), &recon)?;
        written += 1;
        if args.sheet.is_some() && shown.contains(&i) {
            originals.push(original);
            reconstructions.push(recon);
        }
    }
    if written == 0 {
        return Err(Misuse(format!("none of the {} images could be read", images.len())).into());
    }
    print(&format!("{written} reconstruction(s) in {}\n", out.display()))?;
    if let Some(path) = &args.sheet {
        write_png(path, &comparison(originals, reconstructions))?;
        print(&format!("originals above their reconstructions: {}\n", path.display()))?;
    }
    Ok(())
}

/// Each image's path, and the name of its reconstruction below the output folder.
fn inputs(input: &Path) -> Result<Vec<(PathBuf, PathBuf)>> {
    if input.is_file() {
        let name = input.file_name().map_or_else(|| input.to_owned(), PathBuf::from);
        return Ok(vec![(input.to_owned(), name)]);
    }
    let dataset = Dataset::open(input, Split::All)?;
    Ok((0..dataset.len()).map(|i| (dataset.path(i), PathBuf::from(dataset.name(i).into_owned()))).collect())
}

/// The image as the tokenizer saw it, and what came back.
fn reconstruct(opened: &Opened, args: &RunArgs, path: &Path) -> Result<(Picture, Picture)> {
    let bytes = fs::read(path).context("cannot read it")?;
    let picture = decode(&bytes, &opened.config.data.decode_options())?;
    let factor = opened.tokenizer.downsample() as usize;
    let (width, height) = (picture.width / factor * factor, picture.height / factor * factor);
    if width == 0 || height == 0 {
        let (w, h) = (picture.width, picture.height);
        return Err(
            Misuse(format!("it is {w}×{h} pixels; the tokenizer needs {factor} or more a side")).into()
        );
    }
    let original = picture.centre_crop(width, height);
    let bytes = original.to_tensor()?.unsqueeze(0).to_device(opened.device);
    let recon = catching(|| {
        tch::no_grad(|| {
            with_precision(args.precision, || {
                let indices = opened.tokenizer.encode(&images_from_bytes(&bytes));
                to_8bit(&opened.tokenizer.decode(&indices))
            })
        })
    })?;
    Ok((original, Picture::from_tensor(&recon.get(0))?))
}

/// Two rows, cut to the smallest picture.
fn comparison(originals: Vec<Picture>, reconstructions: Vec<Picture>) -> Picture {
    let width = originals.iter().map(|picture| picture.width).min().unwrap_or(0);
    let height = originals.iter().map(|picture| picture.height).min().unwrap_or(0);
    let cut = |row: Vec<Picture>| row.iter().map(|picture| picture.centre_crop(width, height)).collect();
    sheet(&[cut(originals), cut(reconstructions)])
}

fn write_png(path: &Path, picture: &Picture) -> Result<()> {
    let png = picture.to_png()?;
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    parent
        .map_or(Ok(()), fs::create_dir_all)
        .and_then(|()| fs::write(path, png))
        .with_context(|| format!("cannot write {}", path.display()))
}
