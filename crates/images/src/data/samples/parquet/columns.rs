//! Chooses the columns of a Parquet file, and their use.

use ::parquet::schema::types::SchemaDescriptor;

use super::features::Features;
use super::leaf::{Leaf, Values, kind_of};
use super::texts::{self, Texts};
use crate::data::DataError;
use crate::data::samples::{Selection, captions};

/// Names of columns that hold images. The first takes precedence over all others.
const IMAGES: [&str; 9] =
    ["image", "img", "jpg", "jpeg", "png", "webp", "picture", "image_bytes", "image_data"];
const KEYS: [&str; 2] = ["key", "__key__"];
const LABELS: [&str; 4] = ["label", "cls", "class", "labels"];

/// The columns that are used.
#[derive(Debug)]
pub(super) struct Columns {
    pub(super) image: Leaf,
    pub(super) key: Option<Leaf>,
    pub(super) label: Option<Leaf>,
    /// The columns of captions. In each row, the first that has a caption is used.
    pub(super) texts: Vec<Texts>,
    /// The names that the file gives to the numbers of `label`.
    pub(super) classes: Option<Vec<String>>,
    /// The columns that are not used, each with its type.
    pub(super) left: Vec<String>,
}

/// A column of the table, which may span several columns of the file.
struct Field<'a> {
    name: &'a str,
    kind: String,
    /// The column, if the field holds plain values.
    leaf: Option<Leaf>,
    /// Its captions, if it may hold any.
    texts: Option<Texts>,
    /// Its field `bytes`, if it is a struct with one.
    bytes: Option<Leaf>,
}

impl Columns {
    /// Finds the columns of a file with images. If there are no images, `missing` makes the error
    /// from a list of the columns.
    ///
    /// # Errors
    /// If there are no images, if there are several columns of images and none is chosen, or if a
    /// chosen column does not exist.
    pub(super) fn find(
        schema: &SchemaDescriptor,
        features: &Features,
        selection: &Selection,
        file: &str,
        missing: impl FnOnce(String) -> DataError,
    ) -> Result<Columns, DataError> {
        let fields = fields(schema);
        let words = |fields: &[Field]| match fields {
            [] => "none".to_owned(),
            _ => fields.iter().map(Field::in_words).collect::<Vec<_>>().join(", "),
        };
        let asked = |flag: &str, name: &Option<String>| -> Result<Option<&Field>, DataError> {
            let Some(name) = name else { return Ok(None) };
            let found = fields.iter().find(|field| field.name == name);
            found.map(Some).ok_or_else(|| {
                let has = words(&fields);
                DataError::Unclear(format!("{flag} {name}: {file} has no such column; it has {has}"))
            })
        };
        let unfit = |flag: &str, field: &Field, what: &str| {
            DataError::Unclear(format!(
                "{flag} {}: {} in {file} is not a {what}",
                field.name,
                field.in_words()
            ))
        };
        let image = match asked("--image-column", &selection.image)? {
            Some(field) => field.image().ok_or_else(|| unfit("--image-column", field, "binary column"))?,
            None => match image(&fields, features).as_slice() {
                [] => return Err(missing(words(&fields))),
                [image] => image.clone(),
                several => {
                    let names: Vec<&str> = several.iter().map(|leaf| leaf.path.as_str()).collect();
                    return Err(DataError::Unclear(format!(
                        "{file} has several columns of images: {}; choose one with --image-column (data.image_column)",
                        names.join(", ")
                    )));
                }
            },
        };
        let free = |leaf: &Leaf| leaf.index != image.index;
        // A column without values here may have some in another file.
        let key = |fits: fn(Values) -> bool| KEYS.iter().find_map(|name| leaf(&fields, name, fits));
        let key = key(Values::is_text).or_else(|| key(Values::is_null));
        let label = match asked("--label-column", &selection.label)? {
            Some(field) => {
                Some(field.leaf.clone().ok_or_else(|| unfit("--label-column", field, "column of labels"))?)
            }
            None => LABELS
                .iter()
                .find_map(|name| leaf(&fields, name, |_| true))
                .or_else(|| leaf(&fields, features.only_class_label()?, |_| true))
                .filter(free),
        };
        let texts = match asked("--text-column", &selection.text)? {
            Some(field) => {
                vec![field.texts.clone().ok_or_else(|| unfit("--text-column", field, "column of text"))?]
            }
            None => usual_texts(&fields, &image),
        };
        let used = [Some(&image), key.as_ref(), label.as_ref()].into_iter().flatten();
        let used: Vec<&Leaf> = used.chain(texts.iter().map(|texts| &texts.leaf)).collect();
        let left = fields.iter().filter(|field| !field.is_one_of(&used)).map(Field::in_words).collect();
        let classes = label.as_ref().and_then(|leaf| features.classes(&leaf.path)).map(<[String]>::to_vec);
        Ok(Columns { image, key, label, texts, classes, left })
    }

    /// Whether rows have their own keys. After all files of a set have been merged: whether any
    /// file has keys.
    pub(super) fn has_key(&self) -> bool {
        self.key.as_ref().is_some_and(|leaf| leaf.values != Values::Null)
    }

    /// A note on the source of captions, if there are several columns.
    pub(super) fn of_several_texts(&self) -> Option<String> {
        let filled: Vec<String> =
            self.texts.iter().filter(|texts| !texts.leaf.values.is_null()).map(Texts::in_words).collect();
        (filled.len() > 1).then(|| {
            format!(
                "a row's caption is from the first of {} that has one (--text-column chooses one of them)",
                filled.join(", ")
            )
        })
    }

    /// Merges the columns of another file of the set into these. The types of labels and texts may
    /// differ, because values are converted if possible, and a column without values has no type.
    ///
    /// # Errors
    /// The reason in words why the file does not belong to the set.
    pub(super) fn unify(&mut self, other: &Columns) -> Result<(), String> {
        let unlike = self.image.path != other.image.path && !self.image.is_null_of(&other.image);
        let name = |leaf: &Option<Leaf>| leaf.as_ref().map(|leaf| leaf.path.clone());
        let names = |columns: &Columns| (name(&columns.key), name(&columns.label));
        if unlike || names(self) != names(other) || !texts::are_alike(&self.texts, &other.texts) {
            return Err(format!("{} against {}", other.in_words(), self.in_words()));
        }
        match (&self.classes, &other.classes) {
            (Some(own), Some(others)) if own != others => {
                return Err("their class names differ, or are in a different order".to_owned());
            }
            (None, classes) => self.classes.clone_from(classes),
            _ => {}
        }
        // Messages should name the type that the column has in the files with values.
        if self.image.values == Values::Null {
            self.image.clone_from(&other.image);
        }
        texts::unify(&mut self.texts, &other.texts);
        for (own, other) in [(&mut self.key, &other.key), (&mut self.label, &other.label)] {
            if own.as_ref().is_some_and(|leaf| leaf.values == Values::Null) {
                own.clone_from(other);
            }
        }
        Ok(())
    }

    fn in_words(&self) -> String {
        format!("image {}, {}", self.image.path, self.others_in_words())
    }

    fn others_in_words(&self) -> String {
        let name = |leaf: &Option<Leaf>| leaf.as_ref().map_or("none", |leaf| &leaf.path).to_owned();
        let (key, label) = (name(&self.key), name(&self.label));
        let texts: Vec<&str> = self.texts.iter().map(|texts| texts.leaf.path.as_str()).collect();
        let texts = if texts.is_empty() { "none".to_owned() } else { texts.join(" or ") };
        format!("key {key}, label {label}, text {texts}")
    }
}

impl Field<'_> {
    /// The column that may hold this field's images. It may have no values in this file.
    fn image(&self) -> Option<Leaf> {
        let may_be = |leaf: &&Leaf| matches!(leaf.values, Values::Bytes { text: false } | Values::Null);
        self.bytes.as_ref().or(self.leaf.as_ref().filter(may_be)).cloned()
    }

    /// Whether its values are in one of these columns.
    fn is_one_of(&self, used: &[&Leaf]) -> bool {
        let image = self.image();
        let own = [image.as_ref(), self.leaf.as_ref(), self.texts.as_ref().map(|texts| &texts.leaf)];
        own.into_iter().flatten().any(|leaf| used.iter().any(|used| used.index == leaf.index))
    }

    fn in_words(&self) -> String {
        format!("{} ({})", self.name, self.kind)
    }
}

/// The columns that may hold captions, by their names.
fn usual_texts(fields: &[Field], image: &Leaf) -> Vec<Texts> {
    let named = |name: &&str| fields.iter().find(|field| field.name == *name)?.texts.clone();
    let texts = captions::NAMES.iter().filter_map(named);
    texts.filter(|texts| texts.leaf.index != image.index).collect()
}

/// The column of images if its name identifies it, otherwise all candidates.
fn image(fields: &[Field], features: &Features) -> Vec<Leaf> {
    let named = |name: &str| fields.iter().find(|field| field.name == name).and_then(Field::image);
    if let Some(image) = named(IMAGES[0]).filter(|image| !image.values.is_null()) {
        return vec![image];
    }
    let may_be = |field: &&Field| {
        field.bytes.is_some() || IMAGES.contains(&field.name) || features.is_image(field.name)
    };
    let found: Vec<Leaf> = fields.iter().filter(may_be).filter_map(Field::image).collect();
    // Candidates without values in this file only count if no other candidate has values.
    let filled: Vec<Leaf> = found.iter().filter(|leaf| !leaf.values.is_null()).cloned().collect();
    if filled.is_empty() { found } else { filled }
}

fn leaf(fields: &[Field], name: &str, fits: impl Fn(Values) -> bool) -> Option<Leaf> {
    let field = fields.iter().find(|field| field.name == name)?;
    field.leaf.clone().filter(|leaf| fits(leaf.values))
}

fn fields(schema: &SchemaDescriptor) -> Vec<Field<'_>> {
    let fields = schema.root_schema().get_fields().iter();
    fields
        .map(|field| {
            let kind = kind_of(field);
            let find = |path: &[&str]| {
                let columns = schema.columns();
                let index = columns.iter().position(|column| column.path().parts() == path)?;
                Leaf::of(index, &columns[index], &kind)
            };
            let bytes = find(&[field.name(), "bytes"]);
            let leaf = find(&[field.name()]);
            let plain = leaf.clone().filter(|leaf| leaf.values.may_be_text());
            let plain = plain.map(|leaf| Texts { leaf, element: None });
            Field {
                name: field.name(),
                texts: plain.or_else(|| Texts::of_list(schema, field, &kind)),
                leaf,
                bytes: bytes.filter(|leaf| matches!(leaf.values, Values::Bytes { .. } | Values::Null)),
                kind,
            }
        })
        .collect()
}
