//! Which sets may be merged, and what the merged set states about the source of its images.

use super::{ExportError, Part};
use pixtok_tokens::{Division, Layout, Sidecar, Source, TokenSet, TokensError};

/// The number of missing parts that an error names.
const SHOWN: usize = 4;

/// The source of a merged set's images.
pub(super) struct Origin {
    /// The source of the merged set.
    pub source: Source,
    /// The source of each set, if whole sets were merged.
    pub sources: Vec<Source>,
    /// What to do if two of the sets have an image with the same key.
    pub remedy: &'static str,
}

impl Origin {
    /// The origin of `sets`: all parts of one division, whole sets, or, with `partial`, some parts
    /// of one division.
    ///
    /// # Errors
    /// When they are anything else; says what is missing or superfluous, or how two of them differ.
    pub fn of(sets: &[TokenSet], partial: bool) -> Result<Self, ExportError> {
        let Some((first, others)) = sets.split_first() else {
            return Err(refused("nothing to merge; give the folders of parts or of sets".into()));
        };
        let parts = parts(sets)?;
        for other in others {
            agree(first, other, !parts.is_empty())?;
        }
        if parts.is_empty() && partial {
            return Err(refused(
                "--partial joins some parts of a divided job, and these are whole sets; leave it out".into(),
            ));
        }
        if parts.is_empty() {
            return Ok(of_whole(sets, &first.sidecar.source));
        }
        refuse_overlap(sets, &parts)?;
        let whole = refuse_missing(&parts, partial)?;
        let labelled = labelled_alike(sets)?.unwrap_or(first);
        let own = &first.sidecar.source;
        let mut source = Source {
            part: None,
            division: Division::default(),
            labels_used: None,
            classes: labelled.sidecar.source.classes.clone(),
            ..own.clone()
        };
        if !whole {
            source.parts = parts.iter().map(Part::to_string).collect();
        }
        for note in others.iter().flat_map(|set| &set.sidecar.source.notes) {
            if !source.notes.contains(note) {
                source.notes.push(note.clone());
            }
        }
        let remedy = match (own.division, own.kind.as_str()) {
            (Division::Keys, _) => "merge parts of one job, each once",
            (Division::Files, "webdataset") => {
                "encode all parts again with --key-prefix shard, which puts the name of its tar before each \
                 key, or rename one of them"
            }
            (Division::Files, _) => "rename one of them and encode its part again, or export them separately",
        };
        Ok(Self { source, sources: vec![], remedy })
    }
}

fn refused(words: String) -> ExportError {
    ExportError::Output(words)
}

/// The origin of merged whole sets; a single set keeps its own.
fn of_whole(sets: &[TokenSet], first: &Source) -> Origin {
    let each = |set: &TokenSet| match set.sidecar.sources.as_slice() {
        [] => vec![set.sidecar.source.clone()],
        sources => sources.to_vec(),
    };
    let remedy = "encode only the images that the other set lacks, or rename one of the two";
    if let [only] = sets {
        return Origin { source: first.clone(), sources: only.sidecar.sources.clone(), remedy };
    }
    let sources: Vec<Source> = sets.iter().flat_map(each).collect();
    let paths: Vec<&str> = sources.iter().map(|source| source.path.as_str()).collect();
    let mut hasher = blake3::Hasher::new();
    for source in &sources {
        hasher.update(source.blake3.as_bytes());
    }
    let one_prefix = sources.iter().all(|source| source.key_prefix == first.key_prefix);
    let one_split = sources.iter().all(|source| source.split == first.split);
    let source = Source {
        kind: "sets".into(),
        path: paths.join(", "),
        blake3: hasher.finalize().to_hex().to_string(),
        key_prefix: first.key_prefix.clone().filter(|_| one_prefix),
        split: first.split.clone().filter(|_| one_split),
        notes: vec![],
        ..first.clone()
    };
    Origin { source, sources, remedy }
}

/// The parts of one input that the sets hold; empty if all sets are whole.
fn parts(sets: &[TokenSet]) -> Result<Vec<Part>, ExportError> {
    let (mut parts, mut whole) = (vec![], None);
    for set in sets {
        let (folder, source) = (set.folder.display(), &set.sidecar.source);
        if !set.is_whole() {
            return Err(refused(format!(
                "a single file of {folder} was given, and merge joins sets with all their files; give the folder"
            )));
        }
        if let Some(missing) = source.missing() {
            return Err(refused(format!(
                "{folder} is not merged again: {missing}; merge the parts themselves in one call"
            )));
        }
        match &source.part {
            Some(text) => parts.push(text.parse::<Part>().map_err(|reason| {
                let path = Sidecar::path_in(&set.folder);
                ExportError::Tokens(TokensError::Damaged { path, reason })
            })?),
            None => whole = Some(folder),
        }
    }
    match (whole, parts.first()) {
        (Some(whole), Some(part)) => Err(refused(format!(
            "{whole} is a whole set, and the part {part} of an input is with it; merge takes the parts of one division, or \
             whole sets: join the parts first"
        ))),
        _ => Ok(parts),
    }
}

/// Refuses parts of different divisions, and a part that is given twice.
fn refuse_overlap(sets: &[TokenSet], parts: &[Part]) -> Result<(), ExportError> {
    for (i, own) in parts.iter().enumerate() {
        let unlike = |earlier: &Part| earlier.count != own.count || earlier.index == own.index;
        if let Some(at) = parts[..i].iter().position(unlike) {
            let what =
                if parts[at].overlaps(*own) { "have images in common" } else { "are of different divisions" };
            return Err(refused(format!(
                "{} and {} {what}, since they are the parts {} and {own} of one input; give each part of one division once",
                sets[at].folder.display(),
                sets[i].folder.display(),
                parts[at]
            )));
        }
    }
    Ok(())
}

/// Refuses a division with a missing part, unless `partial` is set. Returns whether all parts are
/// there.
fn refuse_missing(parts: &[Part], partial: bool) -> Result<bool, ExportError> {
    let count = parts[0].count;
    let missing = count as usize - parts.len();
    if missing == 0 || partial {
        return Ok(missing == 0);
    }
    let absent = (0..count).map(|index| Part { index, count }).filter(|part| !parts.contains(part));
    let mut shown: Vec<String> = absent.take(SHOWN).map(|part| part.to_string()).collect();
    if missing > SHOWN {
        shown.push("…".into());
    }
    Err(refused(format!(
        "{missing} of the {count} parts of this division are missing: {}; give every part, or --partial to join these alone",
        shown.join(", ")
    )))
}

/// The first of the parts by files that have labels, if there is one. Refuses parts of which some
/// use their labels and some do not, or not with the same classes: each read the labels of its own
/// files, and one process would use all or none.
fn labelled_alike(sets: &[TokenSet]) -> Result<Option<&TokenSet>, ExportError> {
    let mut labelled = sets.iter().filter(|set| set.sidecar.source.labels_used.is_some());
    let Some(first) = labelled.next() else { return Ok(None) };
    for other in labelled {
        let [a, b] = [first, other].map(|set| &set.sidecar.source);
        let [a_path, b_path] = [first, other].map(|set| set.folder.display());
        if a.labels_used != b.labels_used {
            return Err(refused(format!(
                "only one of {a_path} and {b_path} uses the labels of its images; correct those that a note of \
                 the other names, or name others with --label-column, and encode all parts again"
            )));
        }
        if a.classes != b.classes {
            return Err(refused(format!(
                "{a_path} and {b_path} differ in the classes of their labels; give both encodes the same --classes"
            )));
        }
    }
    Ok(Some(first))
}

/// The properties of a set's files; those of a part by files without labels lack the classes of the
/// other parts.
fn layout_of(sidecar: &Sidecar, with_classes: bool) -> Layout {
    let layout = sidecar.layout();
    if with_classes { layout } else { Layout { classes: vec![], ..layout } }
}

/// Refuses sets whose numbers have different meanings, and parts of different inputs.
fn agree(first: &TokenSet, other: &TokenSet, parts: bool) -> Result<(), ExportError> {
    let (a, b) = (&first.sidecar, &other.sidecar);
    let same_files = a.source.blake3 == b.source.blake3;
    let same_prefix = a.source.key_prefix == b.source.key_prefix;
    let alike = if parts { "merge parts of one job" } else { "merge sets that are alike in it" };
    let by_files = parts && [a, b].iter().all(|sidecar| sidecar.source.division == Division::Files);
    let classes = if parts && !by_files { alike } else { "give both encodes the same --classes" };
    let labelled = !by_files || [a, b].iter().all(|sidecar| sidecar.source.labels_used.is_some());
    let facts = [
        ("format", a.format == b.format, alike),
        ("how many of an image's tokens they hold (--prefix)", a.kept() == b.kept(), alike),
        ("tokenizer", a.tokenizer.agrees_with(&b.tokenizer), alike),
        ("the positions of their tokenizer (--positions)", a.positions == b.positions, alike),
        ("dtype", a.dtype == b.dtype, alike),
        ("vocabulary", a.vocabulary == b.vocabulary, alike),
        ("specials", a.specials == b.specials, alike),
        ("the classes of their labels", !labelled || a.source.classes == b.source.classes, classes),
        ("layout", layout_of(a, labelled) == layout_of(b, labelled), alike),
        ("preprocessing", a.preprocessing == b.preprocessing, alike),
        ("the files of their source", !parts || same_files, alike),
        (
            "how their input was divided into parts",
            !parts || a.source.division == b.source.division,
            "older versions divided tars and Parquet files by the keys of the images, this one by whole files: \
             encode the parts of one of the two again",
        ),
        ("the split for validation", !parts || a.source.split == b.source.split, alike),
        ("the prefix of their keys", !parts || same_prefix, alike),
    ];
    match facts.iter().find(|(_, same, _)| !same) {
        None => Ok(()),
        Some((what, _, remedy)) => Err(refused(format!(
            "{} and {} differ in {what}; {remedy}",
            first.folder.display(),
            other.folder.display()
        ))),
    }
}
