//! Notes that affect how the figures of an evaluation are read, one sentence each.

use super::EvaluateOptions;
use super::images::Images;
use super::trained_on::TrainingSearch;
use crate::codec::Vocabulary;
use crate::evaluate::Evaluation;
use crate::run::{ChosenBy, Found, Opened, Tell};

/// The number of codes that must occur before the largest index says something about the size of
/// the codebook. If 20 codes are drawn at random, all of them lie in its lower half once in a
/// million times.
const ENOUGH_CODES: usize = 20;

/// All notes.
pub(super) fn notes(
    options: &EvaluateOptions,
    found: &Found,
    images: &Images,
    evaluation: &Evaluation,
    tell: Tell,
) -> Vec<String> {
    let are_its_own = options.data.is_none() && options.protocol.is_none();
    let mut notes: Vec<String> = vec![];
    if let Some(trained) = found.own() {
        notes.extend(images.changed_since(trained).filter(|_| are_its_own));
        let data = &trained.config.data;
        // The part of a split has no training images.
        if !are_its_own || data.val.is_some() || data.val_split.is_some() {
            notes.extend(match &options.trained_on {
                Some(known) => known.clone(),
                None => TrainingSearch::new(&images.dataset, images.bound).notes(trained, tell),
            });
        }
    }
    notes.extend(of_files(images, evaluation));
    match found {
        Found::Tokenizer(Opened::Own(trained)) => {
            let chosen = trained.chosen_by.as_ref().filter(|chosen| images.chose(chosen, &trained.config));
            notes.extend(chosen.map(|ChosenBy { metric, .. }| {
                format!(
                    "this checkpoint was chosen as the best of its run by {metric} on these very images, so \
                     its figures are too good; measure it on other images with --data"
                )
            }));
            notes.extend(trained.changes.iter().map(|change| format!("changed while it trained: {change}")));
        }
        Found::Tokenizer(Opened::Foreign(pair)) => {
            notes.extend_from_slice(pair.notes());
            // What else is odd may follow from the wrong input.
            if pair.input_doubtful() {
                return notes;
            }
            let vocabulary = evaluation.vocabulary;
            notes.extend(vocabulary.and_then(|sizes| unused_codes(sizes, &evaluation.counts)));
        }
        Found::Reconstructions(_) => {}
    }
    notes.extend_from_slice(&evaluation.mixups);
    notes
}

/// Notes on the files of originals and reconstructions.
fn of_files(images: &Images, evaluation: &Evaluation) -> impl Iterator<Item = String> {
    let (files, total) = (evaluation.files, evaluation.scores.names.len() + evaluation.bad.len());
    let [red, green, blue] = images.data.background;
    let transparent = |count: usize, what: &str| {
        (count > 0).then(|| {
            format!(
                "{count} of {total} {what} have transparent pixels, which are measured over the colour \
                 {red},{green},{blue} (data.background; --background sets another)"
            )
        })
    };
    let enlarged = files.enlarged_originals;
    let enlarged = (enlarged > 0).then(|| {
        format!(
            "{enlarged} of {total} originals are smaller than data.resize or data.image_size wants and were \
             enlarged, so their pixels are interpolated"
        )
    });
    let lossy = files.lossy_reconstructions;
    let lossy = (lossy > 0).then(|| {
        format!(
            "{lossy} of {total} reconstructions are in a format that loses detail (JPEG, lossy WebP) or have a \
             palette (GIF, some PNGs), which may count against the tokenizer; save them as RGB in PNG"
        )
    });
    let notes = [
        transparent(files.transparent_originals, "originals"),
        transparent(files.transparent_reconstructions, "reconstructions"),
        enlarged,
        lossy,
    ];
    notes.into_iter().flatten()
}

/// A note if many of a pair's codes occur and all of them lie in the lower half of the stated
/// codebook. `counts` are the same as in [`Evaluation`].
fn unused_codes(Vocabulary { size, .. }: Vocabulary, counts: &[(i64, i64)]) -> Option<String> {
    let largest = counts.iter().map(|(code, _)| code % size).max()?;
    if counts.len() < ENOUGH_CODES || 2 * (largest + 1) > size {
        return None;
    }
    Some(format!(
        "the adapter states codebook_size {size}, but no index over {largest} occurs; if the codebook is \
         smaller, correct it, since usage and bits per token follow from it"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_codebook_whose_upper_half_never_occurs_is_noted() {
        let noted = |codes: &[i64], codebooks: i64, size: i64| {
            let counts: Vec<(i64, i64)> = codes.iter().map(|&code| (code, 3)).collect();
            unused_codes(Vocabulary { codebooks, size }, &counts)
        };
        let low: Vec<i64> = (12..32).collect();
        let words = noted(&low, 1, 64).unwrap();
        assert!(words.contains("codebook_size 64, but no index over 31 occurs"), "{words}");
        // Half of the codebook is in use, or there are too few codes to say.
        assert_eq!(noted(&low, 1, 63), None);
        assert_eq!(noted(&low[1..], 1, 64), None);
        assert_eq!(noted(&[], 1, 64), None);
        // The second codebook's indices follow those of the first.
        let both: Vec<i64> = low.iter().copied().chain(low.iter().map(|code| 64 + code)).collect();
        assert!(noted(&both, 2, 64).unwrap().contains("no index over 31"));
        assert_eq!(noted(&[&both[..], &[64 + 40]].concat(), 2, 64), None);
    }
}
