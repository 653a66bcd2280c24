//! The files of decoded images.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Context, Result};

use crate::outputs::{Clash, Names, is_inside, write_png};
use crate::run::Work;
use pixtok_base::Misuse;
use pixtok_images::picture::{Picture, sheet};

/// Images along each side of a contact sheet.
const SHEET_SIDE: usize = 8;

/// Checks before the long work that each of the first `limit` rows has its own file. Takes the key
/// of each, or nothing for a row that is left out, and the place where it is.
pub(super) fn check_names<P: Display>(
    rows: impl Iterator<Item = Result<(Option<String>, P)>>,
    limit: Option<u64>,
) -> Result<()> {
    let mut names = Names::default();
    for (number, row) in (0..limit.unwrap_or(u64::MAX)).zip(rows) {
        let (key, origin) = row?;
        let Some(key) = key else {
            names.leave_out();
            continue;
        };
        let Some(file) = file_name(&key) else {
            return Err(Misuse(format!(
                "the key {key:?} of row {number} of {origin}, counted from 0 over all sets, leads out of the folder for \
                 images; correct it, or give --sheets"
            ))
            .into());
        };
        if let Err(clash) = names.add(Path::new(&file)) {
            let (Clash::Same(earlier) | Clash::Folder(earlier)) = clash else {
                return Err(Misuse(format!(
                    "the key {key} of {origin} is too long for the name of a file; give --sheets"
                ))
                .into());
            };
            return Err(Misuse(format!(
                "the images of row {earlier} and of row {number} ({key} of {origin}), counted from 0 over all sets, cannot \
                 have a file each; decode the sets separately, or give --sheets"
            ))
            .into());
        }
    }
    Ok(())
}

/// The file of a key, relative to the folder for images; `None` if it would be outside.
fn file_name(key: &str) -> Option<String> {
    let fits = !key.is_empty() && is_inside(Path::new(key)) && !key.contains('\\');
    fits.then(|| format!("{key}.png"))
}

/// Writes the images.
pub(super) struct Pictures<'a> {
    out: &'a Path,
    sheets: bool,
    waiting: Vec<Picture>,
    written: u64,
    sheet: u64,
    /// Shows how many are written.
    work: Work,
}

impl<'a> Pictures<'a> {
    /// Into the folder `out`, one by one or on contact sheets.
    pub fn new(out: &'a Path, sheets: bool, work: Work) -> Self {
        Self { out, sheets, waiting: vec![], written: 0, sheet: 0, work }
    }

    /// Writes the image of a key.
    pub fn add(&mut self, key: &str, picture: Picture) -> Result<()> {
        self.written += 1;
        self.work.add(1);
        if self.sheets {
            self.waiting.push(picture);
            return if self.waiting.len() == SHEET_SIDE * SHEET_SIDE { self.write_sheet() } else { Ok(()) };
        }
        let file = file_name(key).with_context(|| format!("no file can be named after the key {key:?}"))?;
        write_png(&self.out.join(file), &picture)
    }

    /// Writes the images of an incomplete sheet, and returns the number of all images.
    pub fn finish(mut self) -> Result<u64> {
        self.write_sheet()?;
        Ok(self.written)
    }

    fn write_sheet(&mut self) -> Result<()> {
        let waiting = std::mem::take(&mut self.waiting);
        if waiting.is_empty() {
            return Ok(());
        }
        let rows: Vec<Vec<Picture>> = waiting.chunks(SHEET_SIDE).map(<[Picture]>::to_vec).collect();
        let path = self.out.join(format!("sheet-{:05}.png", self.sheet));
        self.sheet += 1;
        write_png(&path, &sheet(&rows))
    }
}
