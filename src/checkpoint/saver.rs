//! Saves checkpoints by a second thread, so that a training does not wait for the disk: it waits
//! only until the tensors are copied in memory.

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use super::error::{Error, SaveCause};
use super::snapshot::Snapshot;
use super::writer::RunWriter;
use pixtok_torch::{TorchError, catching};

/// Saves the checkpoints of a run, one at a time. Dropping it waits for the save under way.
#[derive(Debug)]
pub struct Saver {
    run: Arc<RunWriter>,
    under_way: Option<UnderWay>,
    /// The last copy of the tensors. The next one takes over its memory.
    copy: Option<Snapshot>,
}

/// A save by the second thread.
#[derive(Debug)]
struct UnderWay {
    step: u64,
    /// Hands back the copy that it saved.
    thread: JoinHandle<Result<(Saved, Snapshot), TorchError>>,
}

/// How a save ended.
#[derive(Debug)]
pub struct Saved {
    /// The step of the checkpoint.
    pub step: u64,
    /// The folder of the checkpoint, which is whole and on the disk.
    pub checkpoint: Result<PathBuf, Error>,
    /// How the tidying ended that followed.
    pub tidied: Result<(), Error>,
}

impl Saver {
    /// A saver for the checkpoints of `run`.
    #[must_use]
    pub fn new(run: Arc<RunWriter>) -> Self {
        Self { run, under_way: None, copy: None }
    }

    /// Begins to save the checkpoint of `step`. On return the live tensors may change. Once the
    /// checkpoint is whole, the second thread calls `tidy`; after a failure it does not.
    ///
    /// Returns how the save ended if it did already: without memory for a copy the checkpoint is
    /// saved at once, and if no thread can be started it is not saved. Call [`Saver::wait`] first.
    pub fn begin(
        &mut self,
        step: u64,
        snapshot: &Snapshot,
        tidy: impl FnOnce(&RunWriter) -> Result<(), Error> + Send + 'static,
    ) -> Option<Saved> {
        self.expect_none_under_way();
        let Ok(copy) = snapshot.to_host(self.copy.take()) else {
            return Some(save(&self.run, step, snapshot, tidy));
        };
        let run = Arc::clone(&self.run);
        let work = move || {
            catching(|| {
                let saved = save(&run, step, &copy, tidy);
                (saved, copy)
            })
        };
        // With a name of its own it does not count as one of libtorch's threads, whose waiting for
        // a processor is measured (`limit_spinning_when_busy`).
        match thread::Builder::new().name("checkpoint".to_owned()).spawn(work) {
            Ok(thread) => {
                self.under_way = Some(UnderWay { step, thread });
                None
            }
            Err(error) => Some(self.failed(step, error.into())),
        }
    }

    /// Saves the checkpoint of `step` while the caller waits, then calls `tidy` if it is whole.
    /// Call [`Saver::wait`] first.
    pub fn save(
        &mut self,
        step: u64,
        snapshot: &Snapshot,
        tidy: impl FnOnce(&RunWriter) -> Result<(), Error>,
    ) -> Saved {
        self.expect_none_under_way();
        save(&self.run, step, snapshot, tidy)
    }

    /// How the save under way ended, if it did. Does not wait for it.
    pub fn ended(&mut self) -> Option<Saved> {
        let ended = self.under_way.as_ref().is_some_and(|save| save.thread.is_finished());
        if ended { self.wait() } else { None }
    }

    /// Waits for the save under way and returns how it ended; `None` if there is none.
    pub fn wait(&mut self) -> Option<Saved> {
        let UnderWay { step, thread } = self.under_way.take()?;
        let ended = thread.join().unwrap_or_else(|_| {
            let message = "the thread that saves checkpoints panicked".to_owned();
            Err(TorchError::Bug(message, file!().to_owned()))
        });
        match ended {
            Ok((saved, copy)) => {
                self.copy = Some(copy);
                Some(saved)
            }
            Err(error) => Some(self.failed(step, SaveCause::Torch(error))),
        }
    }

    /// One save at a time: two would delete each other's checkpoints. How the earlier one ended is
    /// for the caller to report.
    fn expect_none_under_way(&mut self) {
        let unreported = self.wait();
        debug_assert!(unreported.is_none(), "{unreported:?}");
    }

    fn failed(&self, step: u64, cause: SaveCause) -> Saved {
        let path = self.run.folder().checkpoint_path(step);
        Saved { step, checkpoint: Err(Error::SaveFailed { path, cause }), tidied: Ok(()) }
    }
}

impl Drop for Saver {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Saves the checkpoint of `step`. Only once it is whole on the disk can it become the best, and
/// can older ones be deleted: that is what `tidy` does.
fn save(
    run: &RunWriter,
    step: u64,
    snapshot: &Snapshot,
    tidy: impl FnOnce(&RunWriter) -> Result<(), Error>,
) -> Saved {
    let checkpoint = run.save(step, snapshot);
    let tidied = if checkpoint.is_ok() { tidy(run) } else { Ok(()) };
    Saved { step, checkpoint, tidied }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;
    use std::sync::mpsc::channel;

    use serde_json::json;
    use tch::{Device, Kind, Tensor};

    use super::super::atomic::sibling;
    use super::super::retention::{Candidate, ValidationImages};
    use super::*;
    use pixtok_torch::no_grad;
    use pixtok_torch::tensors::Tensors;

    /// A saver for a new run in `folder`, and the weight that trains in it, `[5, 7]`.
    fn training(folder: &Path) -> (Saver, Arc<RunWriter>, Tensor) {
        let run = Arc::new(RunWriter::create(&folder.join("run")).unwrap());
        let weight = Tensor::zeros([5, 7], (Kind::Float, Device::Cpu)).set_requires_grad(true);
        (Saver::new(Arc::clone(&run)), run, weight)
    }

    /// A snapshot that shares its storage with `weight`.
    fn live(weight: &Tensor) -> Snapshot {
        let tensors = |name: &str| Tensors::from([(name.to_owned(), weight.shallow_clone())]);
        Snapshot {
            model: tensors("weight"),
            ema: Some(tensors("weight")),
            companions: Some(tensors("judge")),
            optimizer: tensors("weight.exp_avg"),
            state: json!({ "step": 1 }),
        }
    }

    /// What a training does with the weight after it began to save.
    fn set(weight: &mut Tensor, value: f64) {
        let _ = no_grad(|| weight.fill_(value));
    }

    /// The values of the tensors of a snapshot, each of which is filled with one.
    fn values(snapshot: &Snapshot) -> Vec<f64> {
        let optional = [&snapshot.ema, &snapshot.companions].into_iter().flatten();
        let parts = [&snapshot.model, &snapshot.optimizer].into_iter().chain(optional);
        parts.flat_map(|tensors| tensors.values().map(|tensor| tensor.double_value(&[4, 6]))).collect()
    }

    /// The values of a saved checkpoint.
    fn saved_values(run: &RunWriter, step: u64) -> Vec<f64> {
        values(&run.folder().load(step).unwrap().snapshot)
    }

    /// Makes every save of `step` fail, as a full disk does.
    fn obstruct(run: &RunWriter, step: u64) {
        fs::write(sibling(&run.folder().checkpoint_path(step), "tmp"), "").unwrap();
    }

    #[test]
    fn a_copy_stays_as_it_is_and_the_next_takes_its_memory() {
        let folder = tempfile::tempdir().unwrap();
        let (_saver, _run, mut weight) = training(folder.path());
        let snapshot = live(&weight);
        let copy = snapshot.to_host(None).unwrap();
        set(&mut weight, 3.0);
        assert_eq!((values(&copy), values(&snapshot)), (vec![0.0; 4], vec![3.0; 4]));
        assert_eq!(copy.state, snapshot.state);
        let address = copy.model["weight"].data_ptr();
        let next = snapshot.to_host(Some(copy)).unwrap();
        assert_eq!((values(&next), next.model["weight"].data_ptr()), (vec![3.0; 4], address));
        let bare = Snapshot { ema: None, companions: None, ..live(&weight) };
        assert_eq!(values(&bare.to_host(Some(next)).unwrap()), [3.0; 2]);
    }

    #[test]
    fn saves_that_follow_one_another_end_in_order() {
        let folder = tempfile::tempdir().unwrap();
        let (mut saver, run, mut weight) = training(folder.path());
        assert!(saver.wait().is_none() && saver.ended().is_none());
        for step in 1..=3 {
            set(&mut weight, step as f64);
            let (open, gate) = channel::<()>();
            let tidy = move |_: &RunWriter| {
                gate.recv().unwrap();
                Ok(())
            };
            assert!(saver.begin(step, &live(&weight), tidy).is_none());
            // The training goes on.
            set(&mut weight, -1.0);
            assert!(saver.ended().is_none(), "the thread waits at the gate");
            open.send(()).unwrap();
            let saved = saver.wait().unwrap();
            assert_eq!(saved.step, step);
            assert_eq!(saved.checkpoint.unwrap(), run.folder().checkpoint_path(step));
            saved.tidied.unwrap();
        }
        for step in 1..=3 {
            assert_eq!(saved_values(&run, step), [step as f64; 4]);
        }
        set(&mut weight, 4.0);
        let saved = saver.save(4, &live(&weight), |_| Ok(()));
        assert_eq!((saved.step, saved.checkpoint.is_ok()), (4, true));
        assert_eq!(saved_values(&run, 4), [4.0; 4]);
    }

    #[test]
    fn a_checkpoint_is_whole_before_it_is_best_and_before_others_go() {
        let folder = tempfile::tempdir().unwrap();
        let (mut saver, run, weight) = training(folder.path());
        for (step, value) in [(1, 24.0), (2, 23.0), (3, 22.0)] {
            let tidy = move |run: &RunWriter| {
                assert!(run.folder().load(step).is_ok());
                let images = &ValidationImages { blake3: Some("a".to_owned()), max_images: 0 };
                let metric = "psnr_db";
                let best = run.offer_best(Candidate { step, metric, value, higher_is_better: true, images });
                assert_eq!(best.unwrap(), step == 1);
                run.retain(1)
            };
            assert!(saver.begin(step, &live(&weight), tidy).is_none());
            let saved = saver.wait().unwrap();
            assert!(saved.checkpoint.is_ok() && saved.tidied.is_ok(), "{saved:?}");
        }
        assert_eq!(run.folder().checkpoints().unwrap(), [1, 3]);
        assert_eq!(run.folder().best().unwrap().unwrap().step, 1);
    }

    #[test]
    fn a_failed_save_is_told_and_the_next_one_works() {
        let folder = tempfile::tempdir().unwrap();
        let (mut saver, run, weight) = training(folder.path());
        let fine = |_: &RunWriter| Ok(());
        assert!(saver.begin(1, &live(&weight), fine).is_none());
        saver.wait().unwrap().checkpoint.unwrap();
        obstruct(&run, 2);
        let never = |_: &RunWriter| -> Result<(), Error> { panic!("there is nothing to tidy") };
        assert!(saver.begin(2, &live(&weight), never).is_none());
        let failed = saver.wait().unwrap();
        let Error::SaveFailed { path, cause: SaveCause::Write(_) } = failed.checkpoint.unwrap_err() else {
            panic!("another error")
        };
        assert_eq!((failed.step, path), (2, run.folder().checkpoint_path(2)));
        // The same while the caller waits.
        let failed = saver.save(2, &live(&weight), never);
        assert!(matches!(failed.checkpoint, Err(Error::SaveFailed { .. })) && failed.tidied.is_ok());
        assert!(saver.begin(3, &live(&weight), fine).is_none());
        saver.wait().unwrap().checkpoint.unwrap();
        assert_eq!(run.folder().checkpoints().unwrap(), [1, 3]);
        // What fails afterwards is no failure of the save.
        let unwritable = |run: &RunWriter| {
            Err(Error::Io {
                action: "delete",
                path: run.folder().path().to_owned(),
                source: std::io::Error::other("no"),
            })
        };
        assert!(saver.begin(4, &live(&weight), unwritable).is_none());
        let saved = saver.wait().unwrap();
        assert!(saved.checkpoint.is_ok() && saved.tidied.is_err(), "{saved:?}");
    }

    #[test]
    fn a_panic_of_the_thread_is_an_error_of_the_save() {
        let folder = tempfile::tempdir().unwrap();
        let (mut saver, run, weight) = training(folder.path());
        let panics = |_: &RunWriter| -> Result<(), Error> { panic!("out of ink") };
        assert!(saver.begin(1, &live(&weight), panics).is_none());
        let error = saver.wait().unwrap().checkpoint.unwrap_err();
        let Error::SaveFailed { cause, .. } = &error else { panic!("{error}") };
        assert!(matches!(cause, SaveCause::Torch(TorchError::Bug(..))), "{cause}");
        assert!(cause.to_string().contains("out of ink"), "{cause}");
        assert!(saver.begin(2, &live(&weight), |_: &RunWriter| Ok(())).is_none());
        assert!(saver.wait().unwrap().checkpoint.is_ok());
        assert!(run.folder().load(2).is_ok());
    }

    #[test]
    fn dropping_the_saver_waits_and_frees_the_run() {
        let folder = tempfile::tempdir().unwrap();
        let (mut saver, run, weight) = training(folder.path());
        let path = run.folder().path().to_owned();
        assert!(saver.begin(7, &live(&weight), |run: &RunWriter| run.retain(1)).is_none());
        drop(run);
        assert!(matches!(RunWriter::resume(&path), Err(Error::InUse { .. })), "the saver still has it");
        drop(saver);
        let run = RunWriter::resume(&path).unwrap();
        assert!(run.folder().load(7).is_ok());
    }
}
