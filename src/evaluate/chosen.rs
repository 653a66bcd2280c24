//! Chooses the images of an evaluation that are shown as pictures.

use std::sync::Arc;

use super::{Config, EvaluateError};
use pixtok_images::data::{self, Dataset, Pipeline};
use pixtok_images::picture::Picture;

/// How many images are read for each one that is shown.
const CANDIDATES: usize = 4;
/// The number of blocks along each side of a picture whose means are compared.
const BLOCKS: usize = 64;
/// How many pictures may be decoded ahead of the one that is looked at.
const AHEAD: usize = 2;

/// Chooses up to `count` images of an evaluation of at most `max_images` to show as pictures, and
/// returns their names in the order of the evaluation. If `wanted` names images, these are chosen.
/// Otherwise the evaluated images are divided into `count` stretches, and from each comes the one
/// with the most detail among a few. The choice depends only on the images. Those that cannot be
/// read are passed over, since the evaluation reports them.
///
/// # Errors
/// [`EvaluateError::Chosen`] when a wanted name is not among the evaluated images; when no thread
/// can be started.
pub fn chosen(
    dataset: &Arc<Dataset>,
    data: &data::Config,
    max_images: Option<usize>,
    wanted: &[String],
    count: usize,
) -> Result<Vec<String>, EvaluateError> {
    if !wanted.is_empty() {
        return named(dataset, max_images, wanted);
    }
    let images: Vec<usize> = dataset.evaluated(max_images).collect();
    let count = count.min(images.len());
    if count == images.len() {
        return Ok(images.into_iter().map(|image| dataset.name(image).into_owned()).collect());
    }
    let stretch = |at: usize| at * images.len() / count.max(1);
    let candidates: Vec<(usize, usize)> = (0..count)
        .flat_map(|at| {
            let own = &images[stretch(at)..stretch(at + 1)];
            let read = own.len().min(CANDIDATES);
            (0..read).map(move |k| (at, own[k * own.len() / read]))
        })
        .collect();
    let (own, decode) = (Arc::clone(dataset), data.decode_options());
    let pictures = Pipeline::map(candidates, data.workers, AHEAD, move |(at, image)| {
        let picture = own.picture(image, &decode);
        (at, image, picture.map_or(0.0, |picture| detail(&picture)))
    })?;
    let mut best: Vec<Option<(usize, f64)>> = vec![None; count];
    for found in pictures {
        let (at, image, detail) = found.map_err(data::DataError::from)?;
        if best[at].is_none_or(|(_, most)| detail > most) {
            best[at] = Some((image, detail));
        }
    }
    Ok(best.into_iter().flatten().map(|(image, _)| dataset.name(image).into_owned()).collect())
}

/// Checks that the images of the sample sheets are evaluated, without reading any.
///
/// # Errors
/// [`EvaluateError::Chosen`] when `config` names one that is not.
pub fn check_samples(dataset: &Dataset, config: &Config) -> Result<(), EvaluateError> {
    if config.samples.is_empty() {
        return Ok(());
    }
    named(dataset, config.bound(), &config.samples).map(drop)
}

fn named(
    dataset: &Dataset,
    max_images: Option<usize>,
    wanted: &[String],
) -> Result<Vec<String>, EvaluateError> {
    let names = || dataset.evaluated(max_images).map(|image| dataset.name(image));
    if let Some(missing) = wanted.iter().find(|wanted| !names().any(|name| name == **wanted)) {
        let total = dataset.evaluated(max_images).len();
        let example = names().next().unwrap_or_default().into_owned();
        return Err(EvaluateError::Chosen { missing: missing.clone(), total, example });
    }
    Ok(names().filter(|name| wanted.iter().any(|wanted| wanted == name)).map(Into::into).collect())
}

/// How much structure the middle of a picture has, whatever its resolution: the mean difference of
/// neighbouring blocks in the central square.
fn detail(picture: &Picture) -> f64 {
    let side = picture.width.min(picture.height);
    let square = picture.centre_crop(side, side);
    let blocks = BLOCKS.min(side);
    let mean = |row: usize, column: usize| {
        let edge = |block: usize| block * side / blocks;
        let (left, right) = (edge(column), edge(column + 1));
        let lines =
            (edge(row)..edge(row + 1)).map(|y| &square.rgb[3 * (y * side + left)..3 * (y * side + right)]);
        let sum: u64 = lines.flatten().map(|&value| u64::from(value)).sum();
        sum as f64 / ((edge(row + 1) - edge(row)) * (right - left)) as f64
    };
    let means: Vec<Vec<f64>> =
        (0..blocks).map(|row| (0..blocks).map(|column| mean(row, column)).collect()).collect();
    let mut sum = 0.0;
    for row in 0..blocks {
        for column in 0..blocks {
            let own = means[row][column];
            sum += means.get(row + 1).map_or(0.0, |below| (below[column] - own).abs());
            sum += means[row].get(column + 1).map_or(0.0, |right| (right - own).abs());
        }
    }
    sum / (blocks * blocks) as f64
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use pixtok_images::data::Split;

    /// Stripes of the given contrast.
    fn striped(width: usize, height: usize, contrast: u8) -> Picture {
        let value = |i: usize| if (i / 3 % width / 4).is_multiple_of(2) { 100 } else { 100 + contrast };
        Picture { width, height, rgb: (0..3 * width * height).map(value).collect() }
    }

    fn dataset(contrasts: &[u8]) -> (tempfile::TempDir, Arc<Dataset>) {
        let folder = tempfile::tempdir().unwrap();
        for (i, &contrast) in contrasts.iter().enumerate() {
            let png = striped(40, 30, contrast).to_png().unwrap();
            fs::write(folder.path().join(format!("{i:03}.png")), png).unwrap();
        }
        let dataset = Dataset::open(folder.path(), Split::All).unwrap();
        (folder, Arc::new(dataset))
    }

    fn names(
        dataset: &Arc<Dataset>,
        max_images: Option<usize>,
        wanted: &[&str],
        count: usize,
    ) -> Vec<String> {
        let wanted: Vec<String> = wanted.iter().map(|&name| name.to_owned()).collect();
        chosen(dataset, &data::Config::default(), max_images, &wanted, count).unwrap()
    }

    #[test]
    fn images_with_detail_are_chosen_all_over_the_set() {
        let mut contrasts = [10; 16];
        (contrasts[4], contrasts[15]) = (50, 60);
        let (_folder, dataset) = dataset(&contrasts);
        // Of 0 to 7 and of 8 to 15, every second is read; the 15th is not.
        assert_eq!(names(&dataset, None, &[], 2), ["004.png", "008.png"]);
        // Of the evaluated images 0, 5, 10.
        assert_eq!(names(&dataset, Some(3), &[], 8), ["000.png", "005.png", "010.png"]);
        assert!(names(&dataset, None, &[], 0).is_empty());
    }

    #[test]
    fn broken_images_are_passed_over() {
        let (folder, dataset) = dataset(&[10, 50, 20]);
        fs::write(folder.path().join("001.png"), "no picture").unwrap();
        assert_eq!(names(&dataset, None, &[], 1), ["002.png"]);
    }

    #[test]
    fn wanted_images_come_in_the_order_of_the_set() {
        let (_folder, dataset) = dataset(&[10; 5]);
        assert_eq!(names(&dataset, None, &["003.png", "001.png"], 8), ["001.png", "003.png"]);
        let wanted = ["007.png".to_owned()];
        let error = chosen(&dataset, &data::Config::default(), None, &wanted, 8).unwrap_err();
        let words = "007.png is not among the 5 images that are evaluated, whose names are like 000.png";
        assert!(error.to_string().contains(words), "{error}");
        let check = |max_images, samples: &[&str]| {
            let samples = samples.iter().map(|&name| name.to_owned()).collect();
            check_samples(&dataset, &Config { max_images, samples, ..Config::default() })
        };
        assert!(check(0, &[]).is_ok() && check(0, &["003.png"]).is_ok());
        // Of the evaluated images 0 and 2.
        assert!(matches!(check(2, &["003.png"]), Err(EvaluateError::Chosen { total: 2, .. })));
    }

    #[test]
    fn detail_does_not_depend_on_the_resolution() {
        let enlarged = |picture: &Picture, by: usize| {
            let (width, height) = (picture.width * by, picture.height * by);
            let pixel = |i: usize| 3 * ((i / width / by) * picture.width + i % width / by);
            let rgb = (0..width * height).flat_map(|i| picture.rgb[pixel(i)..][..3].to_vec()).collect();
            Picture { width, height, rgb }
        };
        let small = striped(96, 64, 40);
        let (own, double) = (detail(&small), detail(&enlarged(&small, 2)));
        assert!(own > 1.0 && (own - double).abs() < 1e-9, "{own} {double}");
        assert!(detail(&striped(96, 64, 80)) > own);
        assert_eq!(detail(&striped(1, 1, 9)), 0.0);
    }
}
