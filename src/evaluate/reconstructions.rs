//! Matches the files of a folder to originals, by their names.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use super::EvaluateError;
use pixtok_images::data::{Dataset, EXTENSIONS, ImageFolder, composed};

/// The parts of an original's name and of a file's name that are compared.
type Way = (fn(&str) -> String, fn(&str) -> String);

/// The ways in which a reconstruction may be named, the closest match first.
const WAYS: [Way; 8] = [
    (str::to_owned, str::to_owned),
    (with_png, str::to_owned),
    (spelt, spelt),
    (|name| spelt(&with_png(name)), spelt),
    (stem, stem),
    (|name| spelt(&stem(name)), |name| spelt(&stem(name))),
    (bare, bare),
    (|name| spelt(&bare(name)), |name| spelt(&bare(name))),
];

fn with_png(name: &str) -> String {
    format!("{name}.png")
}

fn spelt(name: &str) -> String {
    composed(name).into_owned()
}

/// The name without its extension.
fn stem(name: &str) -> String {
    Path::new(name).with_extension("").to_string_lossy().into_owned()
}

/// The name without its image endings. `a.jpg` becomes `a.jpg.png` when it is prepared, and `a.png`
/// when it is decoded from tokens.
fn bare(name: &str) -> String {
    let mut name = name;
    while let Some((rest, ending)) = name.rsplit_once('.')
        && EXTENSIONS.iter().any(|known| ending.eq_ignore_ascii_case(known))
        && !rest.is_empty()
        && !rest.ends_with('/')
    {
        name = rest;
    }
    name.to_owned()
}

/// The reconstructions of a set of originals, by the names of the originals.
#[derive(Debug)]
pub struct Reconstructions {
    by_original: HashMap<String, PathBuf>,
    /// The names of the files that match no original, sorted.
    unused: Vec<String>,
}

impl Reconstructions {
    /// Finds in `folder` the reconstruction of each original. Its name is, in order of preference:
    /// the original's relative name, that name with `.png` appended, that name with another
    /// extension, or that name without an extension. Unicode spellings (NFC and NFD) may differ.
    /// Each file is used once. If every original has a file with `.png` appended to its name, those
    /// files are used instead. Only the originals of an evaluation of at most `max_images` need a
    /// reconstruction. Reads no file.
    ///
    /// # Errors
    /// If the folder cannot be used, or if one of these originals has no reconstruction or several.
    pub fn find(
        folder: &Path,
        originals: &Dataset,
        max_images: Option<usize>,
    ) -> Result<Self, EvaluateError> {
        // Reconstructions are often outputs of pixtok, perhaps one folder for each split.
        let files = ImageFolder::open_with_outputs(folder)?;
        let mut left: BTreeMap<String, PathBuf> =
            (0..files.len()).map(|i| (files.name(i).into_owned(), files.path(i))).collect();
        let needed: HashSet<String> =
            originals.evaluated(max_images).map(|i| originals.name(i).into_owned()).collect();
        // The originals that are not evaluated are matched too, so that no file of theirs is taken
        // for another original's.
        let mut wanted: Vec<String> = (0..originals.len()).map(|i| originals.name(i).into_owned()).collect();
        let mut by_original = HashMap::with_capacity(wanted.len());
        let mut ways = WAYS;
        let after = |name: &String| {
            left.contains_key(&with_png(name)) || !(needed.contains(name) || left.contains_key(name))
        };
        if wanted.iter().all(after) {
            ways.swap(0, 1);
        }
        for (of_original, of_file) in ways {
            let mut named: HashMap<String, Vec<String>> = HashMap::new();
            if !wanted.is_empty() {
                for name in left.keys() {
                    named.entry(of_file(name)).or_default().push(name.clone());
                }
            }
            let mut missing = vec![];
            for original in wanted {
                match named.remove(&of_original(&original)).as_deref() {
                    None => missing.push(original),
                    Some([name]) => {
                        by_original.extend(left.remove(name).map(|path| (original, path)));
                    }
                    Some(several) if needed.contains(&original) => {
                        return Err(not_one(&original, folder, several.len()));
                    }
                    Some(_) => missing.push(original),
                }
            }
            wanted = missing;
        }
        let missing: Vec<&String> = wanted.iter().filter(|name| needed.contains(*name)).collect();
        match missing[..] {
            [name] => Err(not_one(name, folder, 0)),
            [name, ..] => Err(EvaluateError::Pairs(format!(
                "{} of {} images have no reconstruction in {}, for instance {name}; put them there under the \
                 same names, with any image ending",
                missing.len(),
                needed.len(),
                folder.display()
            ))),
            [] => Ok(Self { by_original, unused: left.into_keys().collect() }),
        }
    }

    /// The names of the files that match no original, sorted.
    #[must_use]
    pub fn unused(&self) -> &[String] {
        &self.unused
    }

    /// The path of the reconstruction of an original.
    ///
    /// # Errors
    /// If the original is none of those that the reconstructions were found for.
    pub fn of(&self, name: &str) -> Result<&Path, EvaluateError> {
        let path = self.by_original.get(name).map(PathBuf::as_path);
        path.ok_or_else(|| {
            EvaluateError::Pairs(format!(
                "{name} is not among the originals whose reconstructions were looked up"
            ))
        })
    }
}

fn not_one(name: &str, folder: &Path, several: usize) -> EvaluateError {
    let folder = folder.display();
    EvaluateError::Pairs(if several == 0 {
        format!(
            "{name} has no reconstruction in {folder}; put it there under the same name, with any image ending"
        )
    } else {
        format!(
            "{name} has {several} reconstructions in {folder}; keep one, or give each the name of its original"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use pixtok_base::paths::mark_output;
    use pixtok_images::data::Split;
    use pixtok_images::picture::Picture;

    /// Writes a picture of one colour.
    fn write(path: PathBuf) {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, Picture { width: 7, height: 5, rgb: vec![9; 3 * 7 * 5] }.to_png().unwrap()).unwrap();
    }

    #[test]
    fn folders_that_pixtok_wrote_are_searched() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        for name in ["train/a.png", "val/b.png"] {
            write(originals.join(name));
            write(recons.join(name));
        }
        for split in ["train", "val"] {
            mark_output(&recons.join(split)).unwrap();
        }
        let dataset = Dataset::open(&originals, Split::All).unwrap();
        let found = Reconstructions::find(&recons, &dataset, None).unwrap();
        assert_eq!(found.of("val/b.png").unwrap(), recons.join("val/b.png"));
        assert!(found.unused().is_empty());
    }

    #[test]
    fn a_reconstruction_belongs_to_one_original() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        for name in ["a.bmp", "a.png"] {
            write(originals.join(name));
        }
        write(recons.join("a.png"));
        let dataset = Dataset::open(&originals, Split::All).unwrap();
        let error = Reconstructions::find(&recons, &dataset, None).unwrap_err().to_string();
        assert!(error.contains("a.bmp has no reconstruction"), "{error}");
        write(recons.join("a.bmp.png"));
        assert!(Reconstructions::find(&recons, &dataset, None).is_ok());
    }

    #[test]
    fn files_without_an_original_are_named() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        write(originals.join("b.png"));
        for name in ["z.png", "b.png", "a/stray.png", "b.png.png"] {
            write(recons.join(name));
        }
        let dataset = Dataset::open(&originals, Split::All).unwrap();
        let found = Reconstructions::find(&recons, &dataset, None).unwrap();
        assert_eq!(found.unused(), ["a/stray.png", "b.png", "z.png"]);
    }

    #[test]
    fn originals_that_are_not_evaluated_need_no_reconstruction() {
        let folder = tempfile::tempdir().unwrap();
        let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
        for name in ["a.jpg", "a.jpg.png", "b.png", "c.png", "d.png"] {
            write(originals.join(name));
        }
        let dataset = Dataset::open(&originals, Split::All).unwrap();
        // Two of five are needed: a.jpg and b.png.
        write(recons.join("b.png"));
        let missing = Reconstructions::find(&recons, &dataset, Some(2)).unwrap_err().to_string();
        assert!(missing.contains("a.jpg has no reconstruction"), "{missing}");
        let several = Reconstructions::find(&recons, &dataset, None).unwrap_err().to_string();
        assert!(several.contains("4 of 5 images have no reconstruction in"), "{several}");
        assert!(several.contains("for instance a.jpg;"), "{several}");
        write(recons.join("a.bmp"));
        let found = Reconstructions::find(&recons, &dataset, Some(2)).unwrap();
        assert_eq!(found.of("a.jpg").unwrap(), recons.join("a.bmp"));
        assert!(found.unused().is_empty());
        // The file of an original that is not evaluated is not used for another.
        fs::rename(recons.join("a.bmp"), recons.join("a.jpg.png")).unwrap();
        assert!(Reconstructions::find(&recons, &dataset, Some(2)).is_err());
        fs::remove_file(recons.join("a.jpg.png")).unwrap();
        write(recons.join("a.jpg"));
        write(recons.join("c.png"));
        assert!(Reconstructions::find(&recons, &dataset, Some(2)).unwrap().unused().is_empty());
        assert!(Reconstructions::find(&recons, &dataset, None).is_err());
    }

    /// The file names that match the originals.
    fn paired(originals: &[&str], recons: &[&str]) -> Result<Vec<String>, String> {
        let folder = tempfile::tempdir().unwrap();
        for (part, names) in [("originals", originals), ("recons", recons)] {
            for name in names {
                write(folder.path().join(part).join(name));
            }
        }
        let dataset = Dataset::open(&folder.path().join("originals"), Split::All).unwrap();
        let recons = folder.path().join("recons");
        let found = Reconstructions::find(&recons, &dataset, None).map_err(|error| error.to_string())?;
        let name =
            |name: &&str| found.of(name).unwrap().strip_prefix(&recons).unwrap().to_str().unwrap().to_owned();
        Ok(originals.iter().map(name).collect())
    }

    #[test]
    fn png_after_every_name_is_one_way_for_all() {
        let both = ["cat.jpg", "cat.jpg.png"];
        assert_eq!(
            paired(&both, &["cat.jpg.png", "cat.jpg.png.png"]).unwrap(),
            ["cat.jpg.png", "cat.jpg.png.png"]
        );
        assert_eq!(paired(&both, &both).unwrap(), both);
    }

    #[test]
    fn prepared_originals_pair_with_what_was_decoded() {
        assert_eq!(
            paired(&["x/cat.jpg.png", "dog.png"], &["x/cat.png", "dog.jpg"]).unwrap(),
            ["x/cat.png", "dog.jpg"]
        );
        assert_eq!(paired(&["v1.5.png"], &["v1.5.jpg.png"]).unwrap(), ["v1.5.jpg.png"]);
        let message = paired(&["a.jpg.png", "a.bmp.png"], &["a.png"]).unwrap_err();
        assert!(message.contains("has no reconstruction"), "{message}");
    }

    #[test]
    fn names_are_the_same_however_their_letters_are_spelt() {
        let (composed, apart) = ("caf\u{e9}", "cafe\u{301}");
        for (a, b) in [(composed, apart), (apart, composed)] {
            for (original, recon) in [(".png", ".png"), (".jpg", ".jpg.png"), (".jpg", ".bmp")] {
                let (original, recon) = (format!("{a}/{a}{original}"), format!("{b}/{b}{recon}"));
                assert_eq!(paired(&[&original], &[&recon]).unwrap(), [recon]);
            }
        }
        // If both spellings exist, each original has its own file.
        let both = [format!("{composed}.png"), format!("{apart}.png")];
        let both = [both[0].as_str(), both[1].as_str()];
        assert_eq!(paired(&both, &both).unwrap(), both);
        let message =
            paired(&["q\u{307}\u{323}.jpg"], &["q\u{323}\u{307}.png", "q\u{323}\u{307}.bmp"]).unwrap_err();
        assert!(message.contains("has 2 reconstructions"), "{message}");
    }
}
