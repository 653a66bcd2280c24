//! Joins the shares of several processes into one evaluation: every process gets the results of
//! all, in the order of the data set, so that all figures are those of a single process.
//!
//! Processes have different numbers of batches, perhaps none. So they exchange nothing before each
//! has finished its share, and then make the same exchanges in the same order.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use tch::{Device, Tensor};

use super::passes::Files;
use super::scores::host;
use super::{EvaluateError, Scores};
use crate::metrics::Absent;
use crate::world::{World, WorldError};
use pixtok_images::data::{BadSample, Dataset};
use pixtok_images::picture::Picture;
use pixtok_torch::catching;

/// Does this process's `work`, and returns its result once every process has finished its own. If
/// one fails, it returns its own error, and the others return an error that names it. So none waits
/// for what another will never send.
///
/// # Errors
/// That of `work`; [`EvaluateError::Elsewhere`]; [`WorldError`].
pub fn together<T, E: From<EvaluateError>>(
    world: &World,
    work: impl FnOnce() -> Result<T, E>,
) -> Result<T, E> {
    if world.size() == 1 {
        return work();
    }
    // The others must hear of a lack of memory too.
    let own = catching(work).unwrap_or_else(|error| Err(EvaluateError::from(error).into()));
    let failed = world
        .wait_for_all()
        .and_then(|()| world.gather_as_many(&Tensor::from_slice(&[f64::from(u8::from(own.is_err()))])));
    let value = own?;
    let failed = host(&failed.map_err(EvaluateError::from)?);
    match (0..).zip(failed).find(|&(_, failed)| failed != 0.0) {
        Some((rank, _)) => Err(EvaluateError::Elsewhere { rank, size: world.size() }.into()),
        None => Ok(value),
    }
}

/// An image that is shown, with its reconstruction.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Shown {
    /// The index in the data set.
    pub index: usize,
    pub original: Picture,
    /// Of the same size.
    pub reconstruction: Picture,
}

/// The results of a process's share, apart from sums.
#[derive(Debug)]
pub(super) struct Found {
    /// The values of each image.
    pub scores: Scores,
    /// The index of each of these images in the data set.
    pub image_indices: Vec<usize>,
    pub shown: Vec<Shown>,
    pub bad: Vec<BadSample>,
    pub files: Files,
}

impl Found {
    /// The results of all processes, in the order of the data set.
    ///
    /// # Errors
    /// When the processes can't exchange it.
    pub fn of_all(self, dataset: &Dataset, world: &World) -> Result<Self, EvaluateError> {
        if world.size() == 1 {
            return Ok(self);
        }
        let Self { scores, image_indices, shown, bad, files } = self;
        let width = scores.columns.len() as i64 + 1;
        let rows = Tensor::from_slice(&rows_of(&scores, &image_indices)).view([-1, width]);
        let rows = host(&world.gather(&rows)?.reshape([-1]));
        let told = lines_of(&bytes_of_all(&line_of(&scores, bad)?, world)?)?;
        let shown = shown_in(&bytes_of_all(&bytes_of(&shown), world)?);
        let files = Files::from_array(world.sum_each(files.to_array())?);
        let columns: Vec<&'static str> = scores.columns.iter().map(|column| column.name).collect();
        let (bad, absent) = joined(told, columns.len());
        let (image_indices, values) = in_order(&rows, columns.len());
        let names = image_indices.iter().map(|&index| dataset.name(index).into_owned()).collect();
        let scores = Scores::of(names, columns, values, absent);
        let bad = bad_in_order(bad, (0..dataset.len()).map(|index| dataset.name(index)));
        Ok(Self { scores, image_indices, shown, bad, files })
    }
}

/// The text that a process sends to the others: a line of JSON.
#[derive(Debug, Serialize, Deserialize)]
struct Told {
    bad: Vec<BadSample>,
    /// For each metric why images have no value, and how many.
    absent: Vec<Option<(String, usize)>>,
}

fn line_of(scores: &Scores, bad: Vec<BadSample>) -> serde_json::Result<Vec<u8>> {
    let absent = scores.columns.iter().map(|column| {
        let (Absent(reason), count) = column.absent.clone()?;
        Some((reason, count))
    });
    let mut line = serde_json::to_vec(&Told { bad, absent: absent.collect() })?;
    line.push(b'\n');
    Ok(line)
}

fn lines_of(text: &[u8]) -> serde_json::Result<Vec<Told>> {
    text.split(|&byte| byte == b'\n').filter(|line| !line.is_empty()).map(serde_json::from_slice).collect()
}

/// All bad images, and for each of the `columns` metrics the first reason why images have no value,
/// with the number of images that have none.
fn joined(told: Vec<Told>, columns: usize) -> (Vec<BadSample>, Vec<Option<(Absent, usize)>>) {
    let mut absent: Vec<Option<(Absent, usize)>> = vec![None; columns];
    let mut bad = vec![];
    for process in told {
        bad.extend(process.bad);
        for (sum, own) in absent.iter_mut().zip(process.absent) {
            let Some((reason, count)) = own else { continue };
            sum.get_or_insert((Absent(reason), 0)).1 += count;
        }
    }
    (bad, absent)
}

/// The bad images in the order of the data set, whose images have these names.
fn bad_in_order<N: AsRef<str>>(mut bad: Vec<BadSample>, names: impl Iterator<Item = N>) -> Vec<BadSample> {
    let wanted: HashSet<String> = bad.iter().map(|sample| sample.name.clone()).collect();
    if wanted.is_empty() {
        return bad;
    }
    let named = names.enumerate().filter(|(_, name)| wanted.contains(name.as_ref()));
    let places: HashMap<String, usize> =
        named.map(|(place, name)| (name.as_ref().to_owned(), place)).collect();
    bad.sort_by_key(|sample| places.get(&sample.name).copied());
    bad
}

/// A row for each image: its index in the data set, exact as a float64, and its values.
fn rows_of(scores: &Scores, image_indices: &[usize]) -> Vec<f64> {
    let row = |(row, &index): (usize, &usize)| {
        std::iter::once(index as f64).chain(scores.columns.iter().map(move |column| column.values[row]))
    };
    image_indices.iter().enumerate().flat_map(row).collect()
}

/// The indices of these rows, ascending, and the values of each column in this order.
fn in_order(rows: &[f64], columns: usize) -> (Vec<usize>, Vec<Vec<f64>>) {
    let mut rows: Vec<&[f64]> = rows.chunks_exact(columns + 1).collect();
    rows.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let indices = rows.iter().map(|row| row[0] as usize).collect();
    let column = |column: usize| rows.iter().map(|row| row[column + 1]).collect();
    (indices, (0..columns).map(column).collect())
}

/// Images that are shown, as bytes: for each its index, width and height, and both pictures.
fn bytes_of(shown: &[Shown]) -> Vec<u8> {
    let mut bytes = vec![];
    for Shown { index, original, reconstruction } in shown {
        for number in [*index, original.width, original.height] {
            bytes.extend((number as u64).to_le_bytes());
        }
        bytes.extend(&original.rgb);
        bytes.extend(&reconstruction.rgb);
    }
    bytes
}

/// The images in these bytes, in the order of the data set.
fn shown_in(mut bytes: &[u8]) -> Vec<Shown> {
    let mut shown = vec![];
    while let Some((image, rest)) = first_shown(bytes) {
        shown.push(image);
        bytes = rest;
    }
    shown.sort_by_key(|image| image.index);
    shown
}

/// The first image in these bytes, and the bytes after it.
fn first_shown(bytes: &[u8]) -> Option<(Shown, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<24>()?;
    let number = |place: usize| {
        let mut number = [0; 8];
        number.copy_from_slice(&head[8 * place..8 * (place + 1)]);
        u64::from_le_bytes(number) as usize
    };
    let (index, width, height) = (number(0), number(1), number(2));
    let (original, rest) = rest.split_at_checked(3 * width * height)?;
    let (reconstruction, rest) = rest.split_at_checked(original.len())?;
    let picture = |rgb: &[u8]| Picture { width, height, rgb: rgb.to_vec() };
    Some((Shown { index, original: picture(original), reconstruction: picture(reconstruction) }, rest))
}

/// The bytes of all processes, one process after the other.
fn bytes_of_all(own: &[u8], world: &World) -> Result<Vec<u8>, WorldError> {
    let gathered = world.gather(&Tensor::from_slice(own))?.to_device(Device::Cpu).contiguous();
    let mut bytes: Vec<u8> = vec![0; gathered.numel()];
    if !bytes.is_empty() {
        gathered.copy_data(&mut bytes, gathered.numel());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bad(name: &str) -> BadSample {
        BadSample { name: name.into(), reason: "broken\nPNG".into() }
    }

    fn scores(names: &[&str], values: [&[f64]; 2], absent: Option<(&str, usize)>) -> Scores {
        let names = names.iter().map(|&name| name.to_owned()).collect();
        let absent = absent.map(|(reason, count)| (Absent(reason.into()), count));
        let values = values.map(<[f64]>::to_vec).to_vec();
        Scores::of(names, vec!["psnr_db", "ssim"], values, vec![None, absent])
    }

    #[test]
    fn a_single_process_returns_its_own() {
        let world = World::single();
        let failed = || Err::<u8, _>(EvaluateError::NoImages("none".into()));
        assert_eq!(together(&world, || Ok::<_, EvaluateError>(7)).unwrap(), 7);
        assert!(matches!(together(&world, failed), Err(EvaluateError::NoImages(_))));
        let words = EvaluateError::Elsewhere { rank: 2, size: 4 }.to_string();
        assert!(words.contains("process 2 of 4"), "{words}");
    }

    /// Of the images 0 to 4, image 3 is bad. The second process has none, as with few images.
    #[test]
    fn rows_of_all_processes_come_in_the_order_of_the_data_set() {
        let first = scores(&["c", "a"], [&[3.0, 1.0], &[0.3, 0.1]], None);
        let none = scores(&[], [&[], &[]], None);
        let third = scores(&["e", "b"], [&[5.0, 2.0], &[f64::NAN, 0.2]], Some(("too small", 1)));
        let rows = [rows_of(&first, &[2, 0]), rows_of(&none, &[]), rows_of(&third, &[4, 1])].concat();
        let (indices, values) = in_order(&rows, 2);
        assert_eq!(indices, [0, 1, 2, 4]);
        assert_eq!(values[0], [1.0, 2.0, 3.0, 5.0]);
        assert_eq!(values[1][..3], [0.1, 0.2, 0.3]);
        assert!(values[1][3].is_nan());
        assert_eq!(in_order(&[], 2), (vec![], vec![vec![], vec![]]));
    }

    #[test]
    fn what_is_told_is_joined() {
        let small = scores(&["b"], [&[2.0], &[f64::NAN]], Some(("too small", 1)));
        let smaller = scores(&["e"], [&[2.0], &[f64::NAN]], Some(("tiny", 2)));
        let text = [
            line_of(&scores(&[], [&[], &[]], None), vec![bad("d"), bad("a")]).unwrap(),
            line_of(&small, vec![]).unwrap(),
            line_of(&smaller, vec![bad("c")]).unwrap(),
        ]
        .concat();
        let (all, absent) = joined(lines_of(&text).unwrap(), 2);
        assert_eq!(absent, [None, Some((Absent("too small".into()), 3))]);
        let sorted = bad_in_order(all, ["a", "b", "c", "d"].iter());
        assert_eq!(sorted, [bad("a"), bad("c"), bad("d")]);
        assert!(bad_in_order(vec![], std::iter::repeat("never asked for")).is_empty());
        assert!(lines_of(b"{\"bad\":1}\n").is_err());
    }

    #[test]
    fn pictures_come_back_in_order() {
        let picture = |width: usize, height: usize, level: u8| Picture {
            width,
            height,
            rgb: vec![level; 3 * width * height],
        };
        let image = |index: usize, width: usize| Shown {
            index,
            original: picture(width, 5, 7),
            reconstruction: picture(width, 5, 9),
        };
        let bytes = [bytes_of(&[image(8, 3), image(2, 4)]), bytes_of(&[]), bytes_of(&[image(5, 1)])].concat();
        assert_eq!(shown_in(&bytes), [image(2, 4), image(5, 1), image(8, 3)]);
        assert!(shown_in(&bytes[..30]).is_empty());
        assert_eq!(bytes_of_all(&bytes, &World::single()).unwrap(), bytes);
        assert!(bytes_of_all(&[], &World::single()).unwrap().is_empty());
    }
}
