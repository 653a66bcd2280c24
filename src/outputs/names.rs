//! Names of the files that a command will write, one per input, checked before the work.

use std::collections::HashMap;
use std::path::{Component, Path, PathBuf};

use anyhow::Result;

use pixtok_base::Misuse;

/// How the PNG of an image is named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Naming {
    /// The image's name if it ends in .png; otherwise .png is appended.
    Original,
    /// The image's name with .png appended in any case.
    Png,
}

/// The files that a command will write. Each takes about 50 bytes of memory, and so does each of
/// their folders.
#[derive(Debug, Default)]
pub struct Names {
    files: HashMap<u128, usize>,
    /// The index of the first file in each folder.
    folders: HashMap<u128, usize>,
    count: usize,
}

/// The reason why a file cannot be written next to the others.
#[derive(Debug, PartialEq, Eq)]
pub enum Clash {
    /// An earlier file has the same name; holds its index.
    Same(usize),
    /// One of the two would be a folder that contains the other; holds the index of the earlier
    /// one.
    Folder(usize),
    /// A name is longer than file systems allow.
    TooLong,
}

/// The longest name in bytes, in the file systems of Linux and macOS.
const LONGEST_NAME: usize = 255;

impl Names {
    /// Adds a file, whose index is the number of files added before.
    ///
    /// # Errors
    /// When the file cannot exist next to an earlier one.
    pub fn add(&mut self, file: &Path) -> Result<(), Clash> {
        if file.iter().any(|name| name.len() > LONGEST_NAME) {
            return Err(Clash::TooLong);
        }
        let own = digest(file);
        if let Some(&earlier) = self.files.get(&own) {
            return Err(Clash::Same(earlier));
        }
        if let Some(&earlier) = self.folders.get(&own) {
            return Err(Clash::Folder(earlier));
        }
        for folder in file.ancestors().skip(1).filter(|folder| !folder.as_os_str().is_empty()) {
            let folder = digest(folder);
            if let Some(&earlier) = self.files.get(&folder) {
                return Err(Clash::Folder(earlier));
            }
            self.folders.entry(folder).or_insert(self.count);
        }
        self.files.insert(own, self.count);
        self.count += 1;
        Ok(())
    }

    /// Counts a file that is not written, so that those after it keep their indices.
    pub fn leave_out(&mut self) {
        self.count += 1;
    }
}

/// The PNG of the image `name`, below `out`.
pub fn png_of(name: &Path, out: &Path, naming: Naming) -> PathBuf {
    let mut target = out.join(name).into_os_string();
    // `a.jpg` and `a.bmp` do not clash.
    let keeps = naming == Naming::Original && name.extension().is_some_and(|it| it == "png");
    if !keeps {
        target.push(".png");
    }
    target.into()
}

/// Whether a relative name leads to a place below its base folder.
pub fn is_inside(name: &Path) -> bool {
    name.components().all(|part| matches!(part, Component::Normal(_)))
}

/// Checks that no two outputs would be the same file. For each of `count` outputs, `file` gives a
/// description of its source and its path; `what` names the kind of file, for instance
/// `reconstruction`.
///
/// # Errors
/// [`Misuse`] names the sources and what to do.
pub fn refuse_clashes(what: &str, count: usize, file: impl Fn(usize) -> (String, PathBuf)) -> Result<()> {
    let mut names = Names::default();
    for (source, target) in (0..count).map(&file) {
        let words = match names.add(&target) {
            Ok(()) => continue,
            Err(Clash::Same(earlier)) => format!(
                "the {what}s of {} and {source} would both be {}; give --names png, which puts .png after \
                 every name",
                file(earlier).0,
                target.display()
            ),
            Err(Clash::Folder(earlier)) => {
                let (first, first_target) = file(earlier);
                format!(
                    "the {what}s of {first} and {source} would be {} and {}, one inside the other; rename \
                     one of the images",
                    first_target.display(),
                    target.display()
                )
            }
            Err(Clash::TooLong) => format!(
                "the {what} of {source} would be {}, a name of over 255 bytes; rename the image",
                target.display()
            ),
        };
        return Err(Misuse(words).into());
    }
    Ok(())
}

fn digest(path: &Path) -> u128 {
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&blake3::hash(path.as_os_str().as_encoded_bytes()).as_bytes()[..16]);
    u128::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_that_cannot_be_beside_each_other_are_found() {
        let added = |files: &[&str]| {
            let mut names = Names::default();
            files.iter().map(|file| names.add(Path::new(file))).collect::<Vec<_>>()
        };
        assert_eq!(added(&["a.png", "b/a.png", "A.png", "b/c/a.png"]), [Ok(()), Ok(()), Ok(()), Ok(())]);
        assert_eq!(added(&["x", "a.png", "a.png"])[2], Err(Clash::Same(1)));
        assert_eq!(added(&["a.png", "a.png/b/c.png"])[1], Err(Clash::Folder(0)));
        assert_eq!(added(&["x", "a.png/b/c.png", "a.png"])[2], Err(Clash::Folder(1)));
        assert_eq!(
            added(&["a".repeat(255).as_str(), "b".repeat(256).as_str()]),
            [Ok(()), Err(Clash::TooLong)]
        );
    }
}
