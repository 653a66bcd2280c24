//! What a training begins with, in four lines. `--dry-run` prints the same.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::networks::Networks;
use super::precision::Settled;
use crate::config::Config;
use crate::model::TokenShape;
use crate::quantizer::CodebookShape;
use crate::variables::Component;
use pixtok_images::data::Dataset;
use pixtok_torch::device_name;

/// What the four lines are about.
pub(super) struct Summary<'a> {
    pub config: &'a Config,
    /// The folder of the run.
    pub run: &'a Path,
    /// Whether the run goes on there.
    pub resumed: bool,
    /// The images for training and for validation, or why they cannot be listed here.
    pub images: Result<(&'a Dataset, &'a Dataset), String>,
    pub networks: &'a Networks,
    pub precision: &'a Settled,
}

impl Summary<'_> {
    /// The four lines: the run folder; the images; the tokenizer; where it computes, and when it
    /// evaluates.
    pub fn lines(&self) -> Result<[String; 4]> {
        Ok([self.folder(), self.images(), self.tokenizer()?, self.computing()])
    }

    fn folder(&self) -> String {
        let train = &self.config.train;
        format!(
            "run folder  {} ({}), {} steps in batches of {}",
            self.run.display(),
            if self.resumed { "resumed" } else { "new" },
            train.steps,
            train.batch_size
        )
    }

    fn images(&self) -> String {
        let data = &self.config.data;
        match &self.images {
            Err(reason) => format!("images      none here: {reason}"),
            Ok((train_set, val_set)) => {
                let share = (data.val.is_none() && data.val_split.is_none()).then_some(data.val_share);
                images(train_set, val_set, share)
            }
        }
    }

    fn tokenizer(&self) -> Result<String> {
        let (tokenizer, size) = (&self.networks.tokenizer, self.config.data.image_size);
        let tokens = match tokenizer.shape(size)? {
            TokenShape::Grid { h, w } => format!("{h}x{w} tokens"),
            TokenShape::Sequence { n } => format!("a sequence of {n} tokens"),
        };
        Ok(format!(
            "tokenizer   {}, {}, {tokens} for an image of {}x{} pixels, {} parameters",
            self.config.quantizer.kind(),
            codes(&tokenizer.codebook()),
            size.height,
            size.width,
            self.networks.parameters(&Component::TOKENIZER)
        ))
    }

    fn computing(&self) -> String {
        let (device, train) = (self.networks.device(), &self.config.train);
        let threads = match tch::get_num_threads() {
            1 => "1 thread".to_owned(),
            threads => format!("{threads} threads"),
        };
        let evaluated = self.images.as_ref().ok().map_or_else(String::new, |(_, val_set)| {
            format!(" on {} images", self.config.eval.images_of(val_set.len()))
        });
        format!(
            "computing   on {}, {threads}, in {}; evaluates{evaluated} every {} steps and at the end",
            device_name(device),
            self.precision.words(),
            train.eval_every
        )
    }
}

/// `1000 codes of dimension 4`
pub(super) fn codes(codebook: &CodebookShape) -> String {
    let each = if codebook.codebooks > 1 { format!("{} of ", codebook.codebooks) } else { String::new() };
    format!("{each}{} codes of dimension {}", codebook.size, codebook.dim)
}

/// The images of both sets. With a `share` for validation both come from one place.
fn images(train_set: &Dataset, val_set: &Dataset, share: Option<f64>) -> String {
    let (train, val) = (train_set.len(), val_set.len());
    let (root, other) = (train_set.root().display(), val_set.root().display());
    let mut passed_over: Vec<(&str, u64)> = train_set.passed_over().to_vec();
    let found = match share {
        Some(share) => format!(
            "{} found in {root}: {train} for training, {val} held out for validation (a share of {share})",
            train + val
        ),
        None => {
            // The same folder may have a split for each.
            if train_set.root() != val_set.root() {
                passed_over.extend(val_set.passed_over());
            }
            format!("{train} for training in {root}, {val} held out for validation in {other}")
        }
    };
    format!("images      {found}; {}", words_of_passed_over(&passed_over))
}

/// `3 passed over (2 for the ending, 1 as hidden)`
fn words_of_passed_over(counts: &[(&str, u64)]) -> String {
    let mut by_reason: Vec<(&str, u64)> = vec![];
    for &(reason, count) in counts {
        match by_reason.iter_mut().find(|(known, _)| *known == reason) {
            Some((_, sum)) => *sum += count,
            None => by_reason.push((reason, count)),
        }
    }
    let total: u64 = by_reason.iter().map(|(_, count)| count).sum();
    let mut list = String::new();
    for (reason, count) in by_reason {
        let _ = write!(list, "{}{count} {reason}", if list.is_empty() { "" } else { ", " });
    }
    if total == 0 { "none passed over".to_owned() } else { format!("{total} passed over ({list})") }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use pixtok_images::data::Split;

    #[test]
    fn images_are_counted_by_what_becomes_of_them() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        for part in ["train", "val"] {
            fs::create_dir(at(part)).unwrap();
        }
        for i in 0..30 {
            fs::write(at(&format!("train/{i}.png")), "").unwrap();
        }
        for name in ["train/a.heic", "train/b.heic", "train/.c.png", "val/d.avif", "val/e.png"] {
            fs::write(at(name), "").unwrap();
        }
        let open = |name: &str, split| Dataset::open(&at(name), split).unwrap();
        let words = images(&open("train", Split::All), &open("val", Split::All), None);
        let expected = format!(
            "images      30 for training in {}, 1 held out for validation in {}; 4 passed over (3 for the \
             ending, 1 as hidden)",
            at("train").display(),
            at("val").display()
        );
        assert_eq!(words, expected);
        // What is passed over in a folder is counted once, though both parts of it pass it over.
        let share = 0.3;
        let (train, val) = (Split::Train { val_share: share }, Split::Val { val_share: share });
        let (train, val) = (open("train", train), open("train", val));
        let words = images(&train, &val, Some(share));
        assert!(words.contains(&format!("30 found in {}: ", at("train").display())), "{words}");
        assert!(words.contains(&format!("{} held out", val.len())), "{words}");
        assert!(words.ends_with("3 passed over (2 for the ending, 1 as hidden)"), "{words}");
        assert_eq!(words_of_passed_over(&[]), "none passed over");
    }

    #[test]
    fn several_codebooks_are_counted() {
        let codebook = CodebookShape { codebooks: 2, size: 1000, dim: 4 };
        assert_eq!(codes(&codebook), "2 of 1000 codes of dimension 4");
        assert_eq!(codes(&CodebookShape { codebooks: 1, ..codebook }), "1000 codes of dimension 4");
    }
}
