//! Captions in text files beside the images of a folder, and in their `.json`.

use std::fs;
use std::path::Path;

use super::Beside;
use super::companions::Kind;
use crate::data::ImageFolder;
use crate::data::samples::captions::{self, Told, has_words};
use crate::data::samples::labels::{caption, object_in};
use crate::data::samples::metadata::lines::Object;

impl Beside {
    /// The caption in the text files of image `index`, whose path is `path`: the first with words,
    /// otherwise the first.
    pub(super) fn text_beside(&self, index: usize, path: &Path) -> Result<Option<String>, String> {
        let mut found = None;
        for kind in Kind::TEXTS.into_iter().filter(|kind| self.known[index].has(*kind)) {
            let text = caption(self.content(index, path, kind, "text")?)?;
            if has_words(&text) {
                return Ok(Some(text));
            }
            found.get_or_insert(text);
        }
        Ok(found)
    }

    /// The object in the `.json` of image `index`.
    pub(super) fn json_beside(&self, index: usize, path: &Path) -> Result<Object, String> {
        object_in(&self.content(index, path, Kind::Json, "JSON")?)
    }

    /// Whether the `.json` of an image gives it a caption. Reads them one after the other until one
    /// does.
    pub(super) fn has_caption_in_json(&self, images: &ImageFolder) -> bool {
        let gives_caption = |index: usize| {
            let json = self.json_beside(index, &images.path(index));
            json.is_ok_and(|(json, _)| matches!(captions::look(&json, &self.text), Told::Words))
        };
        (0..self.known.len()).any(|index| self.known[index].is_of_json() && gives_caption(index))
    }

    fn content(&self, index: usize, path: &Path, kind: Kind, what: &str) -> Result<Vec<u8>, String> {
        let usual = || path.with_extension(kind.ending());
        let file = self.elsewhere.get(&(index, kind)).cloned().unwrap_or_else(usual);
        fs::read(file).map_err(|error| format!("cannot read its {what}: {error}"))
    }
}
