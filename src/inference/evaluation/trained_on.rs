//! Searches evaluated images among those that tokenizers were trained on.

use std::collections::HashMap;
use std::path::Path;

use crate::config::Config;
use crate::run::{Run, Tell, Trained, training_set};
use pixtok_images::data::{Dataset, Fingerprint, Overlap, Shared};

/// The largest number of runs that are followed back through `--init-from`.
const MOST_ORIGINS: usize = 8;

/// The evaluated images, and those of them that were found among training images so far. Tokenizers
/// that were trained on the same images are searched for once: listing an archive and comparing
/// files may take minutes.
pub struct TrainingSearch<'a> {
    evaluated: &'a Dataset,
    bound: Option<usize>,
    /// What was found, by the settings that choose the training images.
    searched: HashMap<String, Result<Searched, String>>,
}

/// A set of training images that was searched.
struct Searched {
    /// The fingerprint of the whole set.
    fingerprint: Fingerprint,
    overlap: Overlap,
}

impl<'a> TrainingSearch<'a> {
    /// A search for the images of `evaluated`, of which at most `bound` are used.
    #[must_use]
    pub fn new(evaluated: &'a Dataset, bound: Option<usize>) -> Self {
        Self { evaluated, bound, searched: HashMap::new() }
    }

    /// The number of images that are searched for.
    #[must_use]
    pub fn total(&self) -> usize {
        self.evaluated.evaluated(self.bound).len()
    }

    /// The images that are also in `train_set`, which a training with this `config` uses.
    pub fn among(&mut self, config: &Config, train_set: &Dataset) -> Overlap {
        let found = search(self.evaluated, self.bound, train_set);
        let overlap = found.overlap.clone();
        self.searched.insert(choice(config), Ok(found));
        overlap
    }

    /// Notes if the tokenizer was trained on some of the images, in its own run or in the runs that
    /// its weights came from.
    pub fn notes(&mut self, trained: &Trained, tell: Tell) -> Vec<String> {
        self.notes_of(&trained.config, trained.trained_on.as_ref(), tell)
    }

    /// The same for a tokenizer that a training with this `config` makes. `then` is the fingerprint
    /// of its training images, if it is known.
    pub fn notes_of(&mut self, config: &Config, then: Option<&Fingerprint>, tell: Tell) -> Vec<String> {
        let mut notes = self.in_training(config, then, "this tokenizer", tell);
        let mut origin = config.train.init_from.clone();
        for _ in 0..MOST_ORIGINS {
            let Some(path) = origin else { break };
            let Ok(config) = Run::find(Path::new(&path)).and_then(|run| run.config()) else {
                tell.detail(|| format!("{path}, where the weights came from, cannot be read"));
                break;
            };
            let whose = format!("{path}, where the weights came from,");
            notes.extend(self.in_training(&config, None, &whose, tell));
            origin = config.train.of_loop.init_from;
        }
        notes
    }

    /// Notes if a run with this `config` was trained on some of the images.
    fn in_training(
        &mut self,
        config: &Config,
        then: Option<&Fingerprint>,
        whose: &str,
        tell: Tell,
    ) -> Vec<String> {
        let (evaluated, bound, total) = (self.evaluated, self.bound, self.total());
        let found = self.searched.entry(choice(config)).or_insert_with(|| {
            let found = training_set(config).map(|train_set| search(evaluated, bound, &train_set));
            found.map_err(|error| format!("{error:#}"))
        });
        let Searched { fingerprint, overlap } = match found {
            Ok(searched) => searched,
            Err(error) => {
                tell.detail(|| {
                    format!("whether {whose} was trained on the evaluated images is unknown: {error}")
                });
                return vec![];
            }
        };
        let changed = then.and_then(|then| fingerprint.difference(then)?.change()).is_some();
        let shared = overlap.shared.as_ref().map(|Shared { images, example }| {
            let which = match (changed, &config.data.train) {
                (false, _) => format!("that {whose} was trained on"),
                (true, train) => format!("in {train}, which changed since {whose} was trained on it"),
            };
            format!("{images} of {total} images are among those {which}, for instance {example}")
        });
        let copies = overlap.copies.as_ref().map(|copies| copies.words(total, "images"));
        let remedy = "so the figures are too good; measure it on other images with --data";
        shared.into_iter().chain(copies).map(|words| format!("{words}, {remedy}")).collect()
    }
}

fn search(evaluated: &Dataset, bound: Option<usize>, train_set: &Dataset) -> Searched {
    Searched { fingerprint: train_set.fingerprint(), overlap: evaluated.overlap(train_set, bound) }
}

/// The settings that choose the training images of a config, as text.
fn choice(config: &Config) -> String {
    let data = &config.data;
    let whole = data.val.is_some() || data.val_split.is_some();
    let share = (!whole).then_some(data.val_share);
    format!("{:?}", (&data.train, share, data.selection()))
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use pixtok_images::data::Split;

    #[test]
    fn the_same_training_images_are_searched_once() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for (path, content) in [("train/a.png", "one"), ("val/b.png", "one"), ("val/c.png", "three")] {
            fs::create_dir_all(at(path).parent().unwrap()).unwrap();
            fs::write(at(path), content).unwrap();
        }
        let val_set = Dataset::open(&at("val"), Split::All).unwrap();
        let read = |val: &str| {
            let text = format!(
                "[data]\ntrain = {:?}\nval = {val:?}\n[quantizer]\nkind = \"fsq\"\nlevels = [8, 5]\n",
                at("train")
            );
            let path = at("config.toml");
            fs::write(&path, text).unwrap();
            Config::read(&path, &[]).unwrap().0
        };
        let tell = Tell::to(&|_| ());
        let mut search = TrainingSearch::new(&val_set, None);
        let notes = search.notes_of(&read("val"), None, tell);
        assert!(notes[0].starts_with("1 of 2 images is a byte copy of a training image"), "{notes:?}");
        // If the images were read again, nothing would be found.
        fs::remove_dir_all(at("train")).unwrap();
        assert_eq!(search.notes_of(&read("other"), None, tell), notes);
        let mut bounded = TrainingSearch::new(&val_set, Some(1));
        assert_eq!((bounded.total(), bounded.notes_of(&read("val"), None, tell)), (1, vec![]));
    }
}
