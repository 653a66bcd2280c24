//! The content of a checkpoint, and its files.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter};
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::atomic::sync_folder;
use super::error::{Error, SaveCause};
use super::manifest::{self, FORMAT_VERSION, Manifest, Recorder};
use pixtok_torch::TorchError;
use pixtok_torch::tensors::{self, Tensors};

const MODEL: &str = "model.safetensors";
const EMA: &str = "ema.safetensors";
const COMPANIONS: &str = "companions.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const STATE: &str = "state.json";
/// All files that a manifest may list.
const FILES: [&str; 5] = [MODEL, EMA, COMPANIONS, OPTIMIZER, STATE];
/// Space for headers, state and file system blocks in addition to the tensors.
const OVERHEAD_BYTES: u64 = 1 << 16;

/// Everything that a training resumes from. The tensors may share storage with the live ones:
/// saving only reads them.
#[derive(Debug, Default)]
pub struct Snapshot {
    /// Parameters and buffers of the model.
    pub model: Tensors,
    /// The averaged weights, if the run keeps them.
    pub ema: Option<Tensors>,
    /// The networks that train beside the model: a discriminator and its moving averages.
    pub companions: Option<Tensors>,
    /// The optimizers' moments.
    pub optimizer: Tensors,
    /// Counters, seeds and other state of the trainer. Its content does not matter here.
    pub state: serde_json::Value,
}

/// A verified checkpoint, in host memory.
#[derive(Debug)]
pub struct Loaded {
    /// The optimizer step at which it was saved.
    pub step: u64,
    /// The saved content.
    pub snapshot: Snapshot,
}

/// The weights of a verified checkpoint, without the parts that only a training needs.
#[derive(Debug)]
pub struct SavedModel {
    /// Parameters and buffers, raw or averaged.
    pub weights: Tensors,
    /// Whether the checkpoint has averaged weights.
    pub has_average: bool,
    /// Whether the checkpoint has networks that trained beside the model.
    pub has_companions: bool,
    /// The state, as in [`Snapshot`].
    pub state: serde_json::Value,
}

/// The content of `state.json`.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StateFile<State> {
    format_version: u64,
    state: State,
}

impl Snapshot {
    /// The name of the first weight with a NaN or an infinity, in the model, its average or the
    /// networks beside it. Reads one value from the device.
    #[must_use]
    pub fn not_finite(&self) -> Option<&str> {
        let optional = [&self.ema, &self.companions].into_iter().flatten();
        tensors::not_finite([&self.model].into_iter().chain(optional).flatten())
    }

    /// A copy in host memory, which stays as it is while the training goes on. It takes over the
    /// memory of `earlier`, an earlier copy. Waits for the device.
    ///
    /// # Errors
    /// If memory runs out.
    pub(super) fn to_host(&self, earlier: Option<Snapshot>) -> Result<Snapshot, TorchError> {
        let earlier = earlier.unwrap_or_default();
        let optional = |live: &Option<Tensors>, earlier: Option<Tensors>| {
            let copy = |live| tensors::copy_to_host(live, earlier.unwrap_or_default());
            live.as_ref().map(copy).transpose()
        };
        Ok(Snapshot {
            model: tensors::copy_to_host(&self.model, earlier.model)?,
            ema: optional(&self.ema, earlier.ema)?,
            companions: optional(&self.companions, earlier.companions)?,
            optimizer: tensors::copy_to_host(&self.optimizer, earlier.optimizer)?,
            state: self.state.clone(),
        })
    }

    /// An estimate of the bytes that a save takes on disk.
    pub(super) fn needed_bytes(&self) -> u64 {
        let optional = [&self.ema, &self.companions].into_iter().flatten();
        let bytes = [&self.model, &self.optimizer].into_iter().chain(optional).map(tensors::size_bytes);
        bytes.sum::<u64>() + OVERHEAD_BYTES
    }

    /// Writes all files into the new `folder`, the manifest last, and flushes each to the disk.
    /// `create` opens a new file for writing.
    pub(super) fn write_files(
        &self,
        folder: &Path,
        step: u64,
        create: &dyn Fn(&Path) -> io::Result<File>,
    ) -> Result<(), SaveCause> {
        let mut files = BTreeMap::new();
        let named = [
            (MODEL, Some(&self.model)),
            (EMA, self.ema.as_ref()),
            (COMPANIONS, self.companions.as_ref()),
            (OPTIMIZER, Some(&self.optimizer)),
        ];
        for (name, tensors) in named {
            let Some(tensors) = tensors else { continue };
            let mut recorder = Recorder::new(BufWriter::new(create(&folder.join(name))?));
            tensors::write_to(&mut recorder, tensors)?;
            let (writer, record) = recorder.finish();
            sync(writer)?;
            files.insert(name.to_owned(), record);
        }
        let state = StateFile { format_version: FORMAT_VERSION, state: &self.state };
        let mut recorder = Recorder::new(BufWriter::new(create(&folder.join(STATE))?));
        serde_json::to_writer_pretty(&mut recorder, &state).map_err(io::Error::from)?;
        let (writer, record) = recorder.finish();
        sync(writer)?;
        files.insert(STATE.to_owned(), record);

        let mut writer = BufWriter::new(create(&folder.join(manifest::FILE))?);
        serde_json::to_writer_pretty(&mut writer, &Manifest::new(step, files)).map_err(io::Error::from)?;
        sync(writer)?;
        Ok(sync_folder(folder)?)
    }

    /// Reads and verifies the checkpoint of `step` in `folder`.
    ///
    /// # Errors
    /// [`Error::Damaged`], [`Error::UnknownFormat`], [`Error::Io`].
    pub(super) fn read_files(folder: &Path, step: u64) -> Result<Snapshot, Error> {
        let manifest = Manifest::read(folder, step, &FILES)?;
        let read = |name: &str| tensors_of(folder, &manifest, name);
        let optional = |name: &str| if manifest.has(name) { read(name).map(Some) } else { Ok(None) };
        Ok(Snapshot {
            model: read(MODEL)?,
            ema: optional(EMA)?,
            companions: optional(COMPANIONS)?,
            optimizer: read(OPTIMIZER)?,
            state: state_of(folder, &manifest)?,
        })
    }

    /// Reads and verifies only the state of the checkpoint of `step` in `folder`.
    ///
    /// # Errors
    /// Those of [`Snapshot::read_files`].
    pub(super) fn read_state(folder: &Path, step: u64) -> Result<serde_json::Value, Error> {
        state_of(folder, &Manifest::read(folder, step, &FILES)?)
    }
}

impl SavedModel {
    /// Reads and verifies the raw or averaged weights of the checkpoint of `step` in `folder`.
    ///
    /// # Errors
    /// Those of [`Snapshot::read_files`]; [`Error::NoAverage`].
    pub(super) fn read(folder: &Path, step: u64, averaged: bool) -> Result<Self, Error> {
        let manifest = Manifest::read(folder, step, &FILES)?;
        let has_average = manifest.has(EMA);
        if averaged && !has_average {
            return Err(Error::NoAverage);
        }
        Ok(Self {
            weights: tensors_of(folder, &manifest, if averaged { EMA } else { MODEL })?,
            has_average,
            has_companions: manifest.has(COMPANIONS),
            state: state_of(folder, &manifest)?,
        })
    }
}

/// What the manifest of the checkpoint of `step` in `folder` says of its weights: the hash of the
/// raw ones, and whether there is an average.
///
/// # Errors
/// Those of [`Snapshot::read_files`]; the weights themselves are not read.
pub(super) fn stated_weights(folder: &Path, step: u64) -> Result<(Option<String>, bool), Error> {
    let manifest = Manifest::read(folder, step, &FILES)?;
    Ok((manifest.blake3(MODEL).map(str::to_owned), manifest.has(EMA)))
}

fn tensors_of(folder: &Path, manifest: &Manifest, name: &str) -> Result<Tensors, Error> {
    let bytes = manifest.read_verified(folder, name)?;
    tensors::from_bytes(&bytes)
        .map_err(|reason| Error::Damaged { path: folder.to_owned(), reason: format!("{name}: {reason}") })
}

fn state_of(folder: &Path, manifest: &Manifest) -> Result<serde_json::Value, Error> {
    let file: StateFile<serde_json::Value> =
        manifest::parse(&manifest.read_verified(folder, STATE)?, &folder.join(STATE))?;
    Ok(file.state)
}

/// Copies saved tensors into live ones, like [`tensors::copy_into`]. `what` names the saved ones in
/// errors.
///
/// # Errors
/// [`Error::Mismatch`] names missing, unexpected and differing tensors; [`Error::Torch`] if a copy
/// fails.
pub fn copy_into(live: &Tensors, saved: &Tensors, what: &str) -> Result<(), Error> {
    tensors::copy_into(live, saved).map_err(|error| Error::of_copy(what, error))
}

/// Flushes the buffer and waits until the data is on the disk.
fn sync(writer: BufWriter<File>) -> io::Result<()> {
    writer.into_inner().map_err(io::IntoInnerError::into_error)?.sync_all()
}
