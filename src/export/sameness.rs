//! `job.json` (`job.pixtok` for mds): everything that determines an export's files. Decides whether
//! two jobs are the same.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::path::Path;

use serde_json::{Value, json};

use super::error::io_error;
use super::list::{ListChange, SAMPLES};
use super::{ExportError, Subset, manifest};
use crate::checkpoint::write_atomic;
use pixtok_base::Action;
use pixtok_images::data::SampleSet;
use pixtok_tokens::{Division, SideFiles, Sidecar, StatedVocabulary};

/// The differences between two jobs, key by key.
#[must_use]
pub fn differences(earlier: &Value, job: &Value) -> Vec<String> {
    let (mut before, mut now) = (BTreeMap::new(), BTreeMap::new());
    flatten("", earlier, &mut before);
    flatten("", job, &mut now);
    let keys: BTreeSet<&String> = before.keys().chain(now.keys()).collect();
    let shown = |value: Option<&String>| value.cloned().unwrap_or_else(|| "absent".into());
    keys.into_iter()
        .filter(|key| before.get(*key) != now.get(*key))
        .map(|key| format!("{key} was {} and is {}", shown(before.get(key)), shown(now.get(key))))
        .collect()
}

fn flatten(prefix: &str, value: &Value, into: &mut BTreeMap<String, String>) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let name = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
                flatten(&name, value, into);
            }
        }
        other => {
            into.insert(prefix.to_owned(), other.to_string());
        }
    }
}

/// The description of the job that `folder` was made for, if there is one.
pub(super) fn earlier_job(folder: &Path, names: &SideFiles) -> Result<Option<Value>, ExportError> {
    let path = folder.join(names.job);
    match fs::read(&path) {
        Ok(text) => serde_json::from_slice(&text).map(Some).map_err(|error| {
            ExportError::Output(format!("{} is damaged ({error}); choose another --out", path.display()))
        }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(io_error(Action::Read, &path)(error)),
    }
}

/// How the job in `folder` divides its input into parts, if it has a finished shard. It goes on in
/// the same way; older versions divided every input by keys.
pub(super) fn begun_division(folder: &Path) -> Result<Option<Division>, ExportError> {
    let begun = SideFiles::of_finished(folder).is_some()
        || manifest::listed(folder)?.is_some_and(|entries| !entries.is_empty());
    let Some(names) = SideFiles::in_folder(folder).filter(|_| begun) else { return Ok(None) };
    Ok(earlier_job(folder, names)?.map(|job| Subset::of_job(&job).division))
}

/// Refuses to go on if the job of `folder` differs from the current one; `images` are the images of
/// an encode. Returns a note for the user.
pub(super) fn refuse_another(
    folder: &Path,
    mut earlier: Value,
    mut job: Value,
    images: Option<&SampleSet>,
) -> Result<Option<String>, ExportError> {
    let take_samples =
        |job: &mut Value| job.as_object_mut().and_then(|job| job.remove(SAMPLES)).unwrap_or_default();
    let (samples, _) = (take_samples(&mut earlier), take_samples(&mut job));
    let made_by = earlier["set"]["made_by"].clone();
    let tokenizer = earlier["set"]["tokenizer"].clone();
    for job in [&mut job, &mut earlier] {
        // Notes on the input do not affect the content of the files.
        job["set"]["source"].as_object_mut().and_then(|source| source.remove("notes"));
        // Where the weights were found does not matter, only which they are.
        job["set"].as_object_mut().and_then(|set| set.remove("made_by"));
    }
    if earlier["set"]["vocab_size"].is_null() {
        // The earlier job had no --vocab-size, or its version did not record it. Either way the job
        // can go on, since the number type is compared separately.
        job["set"].as_object_mut().and_then(|set| set.remove("vocab_size"));
    }
    let sizes = [&mut earlier, &mut job].map(|job| job.as_object_mut()?.remove("sizes"));
    let mut words = vec![];
    let mut remedy = "choose another --out, or the same settings to go on with that one".to_owned();
    let list = |job: &Value| job["set"]["source"]["blake3"].clone();
    if let Some(images) = images
        && earlier["merge"].is_null()
        && list(&earlier) != list(&job)
    {
        let change = ListChange::of(folder, &samples, images, Subset::of_job(&job))?;
        let (changed, then) = change.words();
        words.push(changed);
        then.clone_into(&mut remedy);
        earlier["set"]["source"]["blake3"] = list(&job);
    }
    let weights = |job: &Value| job["set"]["tokenizer"]["weights_blake3"].clone();
    if weights(&earlier) != weights(&job) {
        earlier["set"]["tokenizer"]["weights_blake3"] = weights(&job);
        if words.is_empty() && differences(&earlier, &job).is_empty() {
            let job = Box::new(json!({ "made_by": made_by, "tokenizer": tokenizer }));
            return Err(ExportError::OtherWeights { folder: folder.display().to_string(), job });
        }
        words.push("its tokenizer had other weights".to_owned());
    }
    words.extend(differences(&earlier, &job));
    if words.is_empty() {
        return check_sizes(folder, sizes);
    }
    let flags = if images.is_some() { flags_of(&earlier, &job) } else { vec![] };
    if !flags.is_empty() && flags.len() == words.len() {
        let flags = flags.join(" ");
        remedy = format!("choose another --out, or add {flags} to go on with that one");
    }
    Err(ExportError::Output(format!(
        "{} holds another job: {}; {remedy}",
        folder.display(),
        words.join("; ")
    )))
}

/// The flags that make `job` like `earlier` in settings whose defaults were others in older
/// versions: the number type did not follow --vocab-size, and pictures were resized as the config
/// says.
fn flags_of(earlier: &Value, job: &Value) -> Vec<String> {
    let then = |key: &str| {
        let [then, now] = [earlier, job].map(|job| job["set"].pointer(key));
        then.filter(|_| then != now)
    };
    let dtype = then("/dtype").and_then(Value::as_str).map(|dtype| format!("--dtype {dtype}"));
    let resize = then("/preprocessing/resize").and_then(Value::as_u64);
    dtype.into_iter().chain(resize.map(|short| format!("--resize {short}"))).collect()
}

/// Refuses images whose sizes differ from those that the job in `folder` started with; takes the
/// hashes then and now. Returns a note if the earlier sizes are not known.
fn check_sizes(folder: &Path, [then, now]: [Option<Value>; 2]) -> Result<Option<String>, ExportError> {
    match (then, now) {
        (Some(then), Some(now)) if then != now => Err(ExportError::Output(format!(
            "the images have the names that they had when the job in {} began, and some have other sizes, so the set would mix two \
             versions; restore them, or choose another --out",
            folder.display()
        ))),
        (None, Some(Value::String(_))) => Ok(Some(format!(
            "the job in {} is of a pixtok that recorded no sizes of images: their names match, and sizes were not compared",
            folder.display()
        ))),
        _ => Ok(None),
    }
}

/// Writes the map before the job, so that a folder with a job has everything that it needs.
pub(super) fn write_job(
    folder: &Path,
    names: &SideFiles,
    job: &Value,
    map: Option<&[u8]>,
) -> Result<(), ExportError> {
    if let Some(map) = map {
        write_atomic(&folder.join(names.map), map)?;
    }
    let path = folder.join(names.job);
    let text =
        serde_json::to_vec_pretty(job).map_err(|error| io_error(Action::Write, &path)(error.into()))?;
    Ok(write_atomic(&path, &[text, b"\n".to_vec()].concat())?)
}

/// Gives the vocabulary's map, if there is one, its name in this folder.
pub(super) fn name_map(job: &mut Value, sidecar: &mut Sidecar, names: &SideFiles) {
    if let StatedVocabulary::Map { map, .. } = &mut sidecar.vocabulary {
        names.map.clone_into(map);
        job["set"]["vocabulary"]["map"] = names.map.into();
    }
}

/// Removes the description of a job that wrote no shard, if the new job uses different file names.
pub(super) fn remove_unbegun(folder: &Path, new: &SideFiles) -> Result<(), ExportError> {
    let Some(old) = SideFiles::in_folder(folder).filter(|old| *old != new) else { return Ok(()) };
    for name in [old.job, old.map] {
        let path = folder.join(name);
        if path.exists() {
            fs::remove_file(&path).map_err(io_error(Action::Remove, &path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_begun_job_says_how_it_was_divided() {
        let folder = tempfile::tempdir().unwrap();
        let division = || begun_division(folder.path()).unwrap();
        assert_eq!(division(), None);
        let job = |source: Value| {
            fs::write(folder.path().join("job.json"), json!({ "set": { "source": source } }).to_string())
                .unwrap();
        };
        job(json!({ "part": "0/2", "division": "files" }));
        assert_eq!(division(), None, "it has no shard");
        fs::write(folder.path().join("tokens.json"), b"").unwrap();
        assert_eq!(division(), Some(Division::Files));
        job(json!({ "part": "0/2" }));
        assert_eq!(division(), Some(Division::Keys));
    }

    #[test]
    fn images_of_other_sizes_are_refused() {
        let check = |then: Option<&str>, now: Option<&str>| {
            check_sizes(Path::new("out"), [then, now].map(|sizes| sizes.map(Value::from)))
        };
        assert_eq!(check(Some("a"), Some("a")).unwrap(), None);
        let message = check(Some("a"), Some("b")).unwrap_err().to_string();
        assert!(message.contains("in out began, and some have other sizes"), "{message}");
        assert!(check(None, Some("a")).unwrap().unwrap().contains("sizes were not compared"));
        // For archives, the list holds the sizes.
        assert_eq!(check_sizes(Path::new("out"), [None, Some(Value::Null)]).unwrap(), None);
    }

    #[test]
    fn another_number_type_alone_is_asked_for_with_its_flag() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), b"").unwrap();
        let images = SampleSet::open(folder.path()).unwrap();
        let job = |dtype: &str, batch_size: u64| {
            let source = json!({ "blake3": "x", "notes": [] });
            json!({ "set": { "dtype": dtype, "source": source }, "batch_size": batch_size })
        };
        let refusal = |job: Value, earlier: Value| {
            refuse_another(Path::new("out"), earlier, job, Some(&images)).unwrap_err().to_string()
        };
        let message = refusal(job("i32", 4), job("u16", 4));
        for part in ["set.dtype was \"u16\" and is \"i32\"; choose", "or add --dtype u16 to go on"] {
            assert!(message.contains(part), "{message}");
        }
        for message in [refusal(job("i32", 5), job("u16", 4)), refusal(job("i32", 5), job("i32", 4))] {
            assert!(message.contains("or the same settings to go on"), "{message}");
        }
        assert_eq!(
            refuse_another(Path::new("out"), job("u16", 4), job("u16", 4), Some(&images)).unwrap(),
            None
        );
    }

    /// Older versions resized as the config says, if no flag said otherwise.
    #[test]
    fn another_resize_alone_is_asked_for_with_its_flag() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("a.png"), b"").unwrap();
        let images = SampleSet::open(folder.path()).unwrap();
        let job = |resize: Option<u32>, dtype: &str, batch_size: u64| {
            let source = json!({ "blake3": "x", "notes": [] });
            let set = json!({ "dtype": dtype, "preprocessing": { "resize": resize }, "source": source });
            json!({ "set": set, "batch_size": batch_size })
        };
        let earlier = || job(Some(96), "u16", 4);
        let refusal = |now: Value, images: Option<&SampleSet>| {
            refuse_another(Path::new("out"), earlier(), now, images).unwrap_err().to_string()
        };
        let message = refusal(job(None, "u16", 4), Some(&images));
        let parts = ["set.preprocessing.resize was 96 and is null;", "or add --resize 96 to go on"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        let message = refusal(job(None, "i32", 4), Some(&images));
        assert!(message.contains("or add --dtype u16 --resize 96 to go on"), "{message}");
        for message in [refusal(job(None, "u16", 5), Some(&images)), refusal(job(None, "u16", 4), None)] {
            assert!(message.contains("or the same settings to go on"), "{message}");
        }
    }

    #[test]
    fn the_size_of_the_vocabulary_counts_once_it_is_recorded() {
        let job = |size: Option<u64>| {
            let mut job = json!({ "set": { "dtype": "u16", "source": { "blake3": "x", "notes": [] } } });
            if let Some(size) = size {
                job["set"]["vocab_size"] = size.into();
            }
            job
        };
        let check = |then, now| refuse_another(Path::new("out"), job(then), job(now), None);
        assert_eq!(check(None, Some(1000)).unwrap(), None);
        assert_eq!(check(Some(1000), Some(1000)).unwrap(), None);
        let message = check(Some(1000), Some(2000)).unwrap_err().to_string();
        assert!(message.contains("set.vocab_size was 1000 and is 2000"), "{message}");
        assert!(check(Some(1000), None).unwrap_err().to_string().contains("is absent"));
    }

    #[test]
    fn the_name_of_the_checkpoint_does_not_count() {
        let job = |made_by: Value| json!({ "set": { "dtype": "u16", "made_by": made_by, "source": {} } });
        let older = json!({ "set": { "dtype": "u16", "source": {} } });
        let named = |run: &str| job(json!({ "run": run, "step": 600, "weights": "raw" }));
        for (earlier, now) in [(named("a"), named("b")), (older.clone(), named("a")), (named("a"), older)] {
            assert_eq!(refuse_another(Path::new("out"), earlier, now, None).unwrap(), None);
        }
    }

    #[test]
    fn other_weights_alone_name_the_job_that_had_them() {
        let job = |hash: &str, size: u64| {
            let made_by = json!({ "run": "a", "step": 600, "weights": "raw" });
            let tokenizer = json!({ "weights_blake3": hash });
            json!({ "set": { "tokenizer": tokenizer, "made_by": made_by, "source": {} }, "batch_size": size })
        };
        let refusal = |now: Value| refuse_another(Path::new("out"), job("x", 4), now, None).unwrap_err();
        let ExportError::OtherWeights { job: earlier, .. } = refusal(job("y", 4)) else { panic!() };
        assert_eq!(
            (&earlier["made_by"]["step"], &earlier["tokenizer"]["weights_blake3"]),
            (&json!(600), &json!("x"))
        );
        let words = refusal(job("y", 5)).to_string();
        assert!(words.contains("its tokenizer had other weights; batch_size was 4 and is 5"), "{words}");
    }

    #[test]
    fn what_differs_is_told_by_its_key() {
        let job = |size: u64| json!({ "set": { "format": "npy", "sizes": [1, 2] }, "batch_size": size });
        assert!(differences(&job(4), &job(4)).is_empty());
        assert_eq!(differences(&job(4), &job(5)), ["batch_size was 4 and is 5"]);
        let other = json!({ "set": { "format": "raw", "sizes": [1, 2], "part": "0/2" }, "batch_size": 4 });
        assert_eq!(
            differences(&job(4), &other),
            ["set.format was \"npy\" and is \"raw\"", "set.part was absent and is \"0/2\""]
        );
    }
}
