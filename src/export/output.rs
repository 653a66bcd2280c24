//! The folder of an export: which job it belongs to, which shards are finished, and how a shard is
//! finished.
//!
//! ```text
//! OUT/
//!   .lock              held by the writing process
//!   .pixtok-output     marks the folder, so that searches for images skip it
//!   job.json           everything that decides what the files hold; other jobs are refused
//!                      (in mds sets this and the sidecar have other names: see `SideFiles`)
//!   manifest.jsonl     the finished shards
//!   .shard-00003.tmp/  the files of the current shard, moved out when they are complete
//!   …                  the files of finished shards
//!   tokens.json        the sidecar, written last
//! ```

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::error::io_error;
use super::list::SAMPLES;
use super::manifest::{self, Entry, FileEntry};
use super::place::{place_file, refuse_others};
use super::remarks::Remarks;
use super::sameness::{earlier_job, name_map, refuse_another, remove_unbegun, write_job};
use super::skipped::{SKIPPED, Skipped, lines};
use super::{ExportError, Subset};
use crate::checkpoint::{Lock, sync_folder, write_atomic};
use pixtok_base::Action;
use pixtok_base::paths::{OUTPUT_MARKER, make_folder, mark_output};
use pixtok_images::data::SampleSet;
use pixtok_tokens::{Counts, Layout, Place, Shard, ShardWriter, SideFiles, Sidecar};

/// An export's folder, which this process has locked.
#[derive(Debug)]
pub struct Output {
    folder: PathBuf,
    /// The sidecar, as far as it is known before the first image.
    sidecar: Sidecar,
    layout: Layout,
    names: &'static SideFiles,
    entries: Vec<Entry>,
    note: Option<String>,
    /// The folders that were made for this job, the set's own first.
    made: Vec<PathBuf>,
    lock: Lock,
}

/// A finished export, for the summary.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The sidecar as it was written.
    pub sidecar: Sidecar,
    /// The size in bytes of all shard files.
    pub bytes: u64,
    /// The size in bytes of all ids under zstd, shard by shard.
    pub zstd_bytes: u64,
    /// Descriptions of what was changed in the images' data; also in the sidecar.
    pub remarks: Vec<String>,
    /// The mean share of their area that pictures kept, if all shards state it.
    pub kept: Option<f64>,
}

impl Output {
    /// Takes `folder` for the job that `job` describes: a new folder, an empty one, or one in which
    /// this job was stopped. `map` is the vocabulary's map, if it has one; `images` are the images
    /// of an encode.
    ///
    /// # Errors
    /// When the folder holds something else; says what, or how the jobs and their images differ.
    /// Also when files of finished shards are missing.
    pub fn open(
        folder: &Path,
        job: &Value,
        mut sidecar: Sidecar,
        map: Option<&[u8]>,
        images: Option<&SampleSet>,
    ) -> Result<Self, ExportError> {
        let is_new = |folder: &&Path| !folder.as_os_str().is_empty() && !folder.exists();
        let made = folder.ancestors().take_while(is_new).map(Path::to_owned).collect();
        make_folder(folder).map_err(io_error(Action::MakeFolder, folder))?;
        let lock = Lock::take(folder)?;
        let entries = manifest::read(folder)?;
        let begun = !entries.is_empty() || SideFiles::of_finished(folder).is_some();
        let mut note = None;
        let new = SideFiles::of(sidecar.format);
        let names = SideFiles::in_folder(folder).unwrap_or(new);
        let (mut job, earlier) = (job.clone(), earlier_job(folder, names)?);
        // A job that wrote no shard left only its description, perhaps under a different name.
        let names = if begun { names } else { new };
        name_map(&mut job, &mut sidecar, names);
        match earlier {
            Some(earlier) if begun => {
                // The images may have moved; their list shows that they are the same.
                if let Some(path) = earlier["set"]["source"]["path"].as_str() {
                    job["set"]["source"]["path"] = path.into();
                    sidecar.source.path = path.to_owned();
                }
                note = refuse_another(folder, earlier, job, images)?;
            }
            Some(_) => {
                remove_unbegun(folder, new)?;
                write_job(folder, names, &job, map)?;
            }
            None => {
                refuse_others(folder)?;
                write_job(folder, names, &job, map)?;
            }
        }
        mark_output(folder).map_err(io_error(Action::Write, folder))?;
        let layout = sidecar.layout();
        let output = Self { folder: folder.to_owned(), sidecar, layout, names, entries, note, made, lock };
        output.remove_unfinished()?;
        output.check_files()?;
        Ok(output)
    }

    /// Checks that the files of finished shards exist, under the names of an unfinished or a
    /// finished set.
    fn check_files(&self) -> Result<(), ExportError> {
        let total = Some(self.entries.len() as u32);
        for (number, entry) in self.entries.iter().enumerate() {
            let named = self.sidecar.format.format().files(self.shard(number, total).place, &self.layout);
            for (file, name) in entry.files.iter().zip(named) {
                let there = [&file.name, &name].into_iter().any(|name| {
                    let meta = fs::metadata(self.folder.join(name));
                    meta.is_ok_and(|meta| meta.is_dir() || meta.len() == file.bytes)
                });
                if !there {
                    return Err(ExportError::Output(format!(
                        "{} is gone from {} or has another size, and {} lists it as finished; restore it, or remove the folder and export \
                         again",
                        file.name,
                        self.folder.display(),
                        manifest::MANIFEST
                    )));
                }
            }
        }
        Ok(())
    }

    /// The export in the folder, if it is finished.
    ///
    /// # Errors
    /// When its sidecar cannot be read.
    pub fn finished(&self) -> Result<Option<Finished>, ExportError> {
        if !self.sidecar_path().is_file() {
            return Ok(None);
        }
        Ok(Some(self.summary(Sidecar::read(&self.folder)?)))
    }

    /// A note for the user about the job that was started here before.
    #[must_use]
    pub fn note(&self) -> Option<&str> {
        self.note.as_deref()
    }

    /// Records in the job's description how many samples the whole input has, so that a later
    /// message can say how many changed.
    ///
    /// # Errors
    /// When the description cannot be read or written.
    pub fn state_samples(&self, samples: u64) -> Result<(), ExportError> {
        match earlier_job(&self.folder, self.names)? {
            Some(mut job) if job[SAMPLES] != samples => {
                job[SAMPLES] = samples.into();
                write_job(&self.folder, self.names, &job, None)
            }
            _ => Ok(()),
        }
    }

    /// The path of the folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The number of samples of the input that the finished shards have dealt with.
    #[must_use]
    pub fn input_end(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.input_end)
    }

    /// Which images of the input the export takes.
    pub(super) fn subset(&self) -> Subset {
        let source = &self.sidecar.source;
        Subset::of(source.part.as_deref(), source.division, source.split.as_ref())
    }

    /// Leaves the folder as if the job had not been begun, if none of its shards is finished: after
    /// an error, nothing is left that another job would have to go on with.
    pub(super) fn withdraw(self) {
        if !self.entries.is_empty() || self.sidecar_path().is_file() {
            return;
        }
        // What remains, if something cannot be removed, does no harm: another job replaces it.
        let _ = self.remove_unfinished();
        for name in [self.names.job, self.names.map, OUTPUT_MARKER] {
            let _ = fs::remove_file(self.folder.join(name));
        }
        if self.made.is_empty() {
            return;
        }
        self.lock.remove_file();
        for folder in &self.made {
            let _ = fs::remove_dir(folder);
        }
    }

    /// The number of images in the finished shards.
    #[must_use]
    pub fn images(&self) -> u64 {
        self.rows() / u64::from(self.layout.views)
    }

    /// The starts of the shards: the number of samples of the input before each.
    #[must_use]
    pub(super) fn shard_starts(&self) -> Vec<u64> {
        std::iter::once(0)
            .chain(self.entries.iter().map(|entry| entry.input_end))
            .take(self.entries.len())
            .collect()
    }

    /// The number of rows so far.
    #[must_use]
    pub fn rows(&self) -> u64 {
        self.entries.iter().map(|entry| entry.rows).sum()
    }

    fn remove_unfinished(&self) -> Result<(), ExportError> {
        let entries = fs::read_dir(&self.folder).map_err(io_error(Action::List, &self.folder))?;
        for entry in entries.flatten() {
            let (path, name) = (entry.path(), entry.file_name().to_string_lossy().into_owned());
            if name.starts_with(".shard-") {
                fs::remove_dir_all(&path).map_err(io_error(Action::Remove, &path))?;
            } else if name.starts_with('.') && name.contains(".tmp-") {
                // A small file that was about to be moved to its place.
                fs::remove_file(&path).map_err(io_error(Action::Remove, &path))?;
            }
        }
        Ok(())
    }

    fn next_place(&self) -> Place {
        Place { number: self.entries.len() as u32, first_row: self.rows(), total: None }
    }

    fn temporary(&self) -> PathBuf {
        self.folder.join(format!(".shard-{:05}.tmp", self.entries.len()))
    }

    /// Starts the next shard.
    pub(super) fn begin(&self) -> Result<Box<dyn ShardWriter>, ExportError> {
        let folder = self.temporary();
        fs::create_dir_all(&folder).map_err(io_error(Action::MakeFolder, &folder))?;
        Ok(self.sidecar.format.format().writer(&folder, self.next_place(), &self.layout)?)
    }

    /// Finishes the shard that [`Output::begin`] started: moves its files to their places, then
    /// adds it to the manifest.
    pub(super) fn commit(
        &mut self,
        writer: Box<dyn ShardWriter>,
        mut entry: Entry,
    ) -> Result<(), ExportError> {
        writer.finish()?;
        let temporary = self.temporary();
        entry.shard = self.entries.len() as u32;
        for name in self.sidecar.format.format().files(self.next_place(), &self.layout) {
            entry.files.push(place_file(&temporary, &self.folder, &name)?);
        }
        sync_folder(&self.folder).map_err(io_error(Action::Write, &self.folder))?;
        fs::remove_dir_all(&temporary).map_err(io_error(Action::Remove, &temporary))?;
        manifest::append(&self.folder, &entry)?;
        self.entries.push(entry);
        Ok(())
    }

    /// Gives the files the names of a finished set, and writes the index, the list of skipped
    /// samples and, last, the sidecar. It can be repeated after a kill. `trailing` are the samples
    /// without an image after the last shard.
    pub(super) fn complete(&mut self, trailing: Vec<Skipped>) -> Result<Finished, ExportError> {
        let format = self.sidecar.format.format();
        self.sidecar.shard_rows = self.entries.iter().map(|entry| entry.rows).collect();
        let shards = self.sidecar.shards();
        for (shard, entry) in shards.iter().zip(&mut self.entries) {
            let working = format.files(Place { total: None, ..shard.place }, &self.layout);
            let named = format.files(shard.place, &self.layout);
            for ((from, to), file) in working.iter().zip(named).zip(&mut entry.files) {
                let source = self.folder.join(from);
                if *from != to && source.exists() {
                    fs::rename(&source, self.folder.join(&to)).map_err(io_error(Action::Rename, &source))?;
                }
                file.name = to;
            }
        }
        sync_folder(&self.folder).map_err(io_error(Action::Write, &self.folder))?;
        for (name, bytes) in format.index(&self.folder, &shards, &self.layout)? {
            write_atomic(&self.folder.join(name), &bytes)?;
        }
        let skipped: Vec<&Skipped> =
            self.entries.iter().flat_map(|entry| &entry.skipped).chain(&trailing).collect();
        if !skipped.is_empty() {
            write_atomic(&self.folder.join(SKIPPED), &lines(&skipped)?)?;
        }
        write_atomic(&self.folder.join(manifest::MANIFEST), &manifest::text(&self.entries)?)?;
        let rows = self.rows();
        let mut by_reason = BTreeMap::new();
        for sample in skipped {
            *by_reason.entry(sample.reason.clone()).or_default() += 1;
        }
        let tokens = self.entries.iter().map(|entry| entry.tokens).sum();
        let images = rows / u64::from(self.layout.views);
        let counts = Counts { images, rows, tokens, skipped: by_reason };
        let ids = self.sidecar.ids(&self.sidecar.vocabulary(&self.folder)?);
        let mut sidecar = Sidecar { counts, ids: Some(ids), ..self.sidecar.clone() };
        sidecar.source.notes.extend(self.remarks());
        let path = self.sidecar_path();
        let text = sidecar.to_json().map_err(|error| io_error(Action::Write, &path)(error.into()))?;
        write_atomic(&path, &text)?;
        Ok(self.summary(sidecar))
    }

    fn summary(&self, sidecar: Sidecar) -> Finished {
        let bytes = self.entries.iter().flat_map(|entry| &entry.files).map(|file| file.bytes).sum();
        let zstd_bytes = self.entries.iter().map(|entry| entry.zstd_bytes).sum();
        let millionths: Option<u64> = self.entries.iter().map(|entry| entry.kept).sum();
        let images = Some(self.images()).filter(|&images| images > 0);
        let kept = millionths.zip(images).map(|(millionths, images)| millionths as f64 / 1e6 / images as f64);
        Finished { sidecar, bytes, zstd_bytes, remarks: self.remarks(), kept }
    }

    /// Describes what was changed in the data of the images in finished shards.
    fn remarks(&self) -> Vec<String> {
        let mut all = Remarks::default();
        self.entries.iter().for_each(|entry| all.append(&entry.remarks));
        all.in_words()
    }

    /// The path of the sidecar.
    #[must_use]
    pub fn sidecar_path(&self) -> PathBuf {
        self.folder.join(self.names.sidecar)
    }

    /// The manifest's list of the files of shard `number`.
    pub(super) fn files(&self, number: usize) -> &[FileEntry] {
        &self.entries[number].files
    }

    /// Shard `number` of an export, completed or not, to be read back.
    pub(super) fn shard(&self, number: usize, total: Option<u32>) -> Shard {
        let first_row = self.entries[..number].iter().map(|entry| entry.rows).sum();
        Shard { place: Place { number: number as u32, first_row, total }, rows: self.entries[number].rows }
    }
}
