//! The files of decoded images.

use std::fmt::Display;
use std::path::Path;

use anyhow::{Result, anyhow};

use crate::outputs::{Clash, Names, is_inside, write_png};
use crate::run::Work;
use pixtok_base::Misuse;
use pixtok_images::picture::{Picture, sheet};

/// Images along each side of a contact sheet.
const SHEET_SIDE: usize = 8;

/// Checks before the long work that each of the first `limit` rows has its own file. Takes the key
/// of each and the place where it is.
pub(super) fn check_names<P: Display>(
    rows: impl Iterator<Item = Result<(String, P)>>,
    limit: Option<u64>,
) -> Result<()> {
    let mut names = Names::default();
    for (number, row) in (0..limit.unwrap_or(u64::MAX)).zip(rows) {
        let (key, origin) = row?;
        if let Err(clash) = names.add(Path::new(&file_name(&key)?)) {
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

/// The file of a key, relative to the folder for images.
fn file_name(key: &str) -> Result<String> {
    if key.is_empty() || !is_inside(Path::new(key)) || key.contains('\\') {
        return Err(anyhow!(
            "the key {key:?} leads out of the folder for images; the token file is not one of pixtok's"
        ));
    }
    Ok(format!("{key}.png"))
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
        write_png(&self.out.join(file_name(key)?), &picture)
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
