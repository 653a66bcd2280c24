//! Suggestions for misspelt names: "did you mean …?"

/// The candidate that `word` is most likely a misspelling of, if the edits are at most a third of
/// its letters.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let allowed_edits = (word.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(&simple(word), &simple(candidate)), candidate))
        .filter(|(edits, _)| *edits <= allowed_edits)
        .min_by_key(|(edits, _)| *edits)
        .map(|(_, candidate)| candidate)
}

/// The word without differences of case, `-` and `_`, which do not count as edits.
fn simple(word: &str) -> String {
    word.to_lowercase().replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words_only() {
        let keys = ["steps", "batch_size", "precision", "lr"];
        assert_eq!(nearest("stepz", keys), Some("steps"));
        assert_eq!(nearest("setps", keys), Some("steps"));
        assert_eq!(nearest("batch-size", keys), Some("batch_size"));
        assert_eq!(nearest("batchsize", keys), Some("batch_size"));
        assert_eq!(nearest("Lr", keys), Some("lr"));
        assert_eq!(nearest("decay", keys), None);
        assert_eq!(nearest("stepz", []), None);
    }
}
