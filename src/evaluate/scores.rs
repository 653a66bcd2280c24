//! The values of each image.

use std::collections::HashSet;

use tch::{Kind, Tensor};

use super::Figures;
use crate::metrics::{Absent, ImageMetric, interval};
use pixtok_report::{Better, definition};

/// A table with one column per metric and one row per image.
#[derive(Debug, Clone, Default)]
pub struct Scores {
    /// The names of the images.
    pub names: Vec<String>,
    /// One column per metric, in the order of the metrics.
    pub columns: Vec<Column>,
}

/// The values of one metric.
#[derive(Debug, Clone)]
pub struct Column {
    /// The name of the metric.
    pub name: &'static str,
    /// One value per image; NaN if an image has none.
    pub values: Vec<f64>,
    /// The reason why images have no value, and their number.
    pub(super) absent: Option<(Absent, usize)>,
}

impl Scores {
    pub(super) fn new(metrics: &[Box<dyn ImageMetric>]) -> Self {
        let column = |name| Column { name, values: vec![], absent: None };
        Self { names: vec![], columns: metrics.iter().map(|metric| column(metric.name())).collect() }
    }

    /// A table of these columns. Each has a value for each of the names, and perhaps the reason why
    /// images have no value, and their number.
    pub(super) fn of(
        names: Vec<String>,
        columns: Vec<&'static str>,
        values: Vec<Vec<f64>>,
        absent: Vec<Option<(Absent, usize)>>,
    ) -> Self {
        let columns = columns.into_iter().zip(values).zip(absent);
        let columns = columns.map(|((name, values), absent)| Column { name, values, absent });
        Self { names, columns: columns.collect() }
    }

    /// Tables of the same images as one, their columns after each other.
    pub(super) fn beside(tables: Vec<Self>) -> Self {
        let mut tables = tables.into_iter();
        let mut all = tables.next().unwrap_or_default();
        all.columns.extend(tables.flat_map(|table| table.columns));
        all
    }

    /// The inverse of [`Scores::beside`] for `tables` tables with as many columns each.
    pub(super) fn apart(self, tables: usize) -> Vec<Self> {
        let Self { names, columns } = self;
        let each = columns.len() / tables.max(1);
        let own = |table: usize| columns[table * each..(table + 1) * each].to_vec();
        (0..tables).map(|table| Self { names: names.clone(), columns: own(table) }).collect()
    }

    /// Computes the metrics of a batch of pairs, each `[B, 3, H, W]` uint8. Waits for the device.
    pub(super) fn add(
        &mut self,
        metrics: &[Box<dyn ImageMetric>],
        names: Vec<String>,
        originals: &Tensor,
        recons: &Tensor,
    ) {
        let images = names.len();
        self.names.extend(names);
        let measured: Vec<_> = metrics.iter().map(|metric| metric.measure(originals, recons)).collect();
        for (column, values) in self.columns.iter_mut().zip(measured) {
            match values {
                Ok(values) => column.values.extend(host(&values)),
                Err(absent) => {
                    column.values.extend(vec![f64::NAN; images]);
                    column.absent.get_or_insert((absent, 0)).1 += images;
                }
            }
        }
    }

    /// The mean of each column, with its bootstrap interval if requested.
    #[must_use]
    pub fn means(&self, intervals: bool) -> Figures {
        let mut figures = Figures::default();
        for column in &self.columns {
            match column.mean() {
                Ok(mean) => {
                    let interval = if intervals { interval(&column.values) } else { None };
                    figures.push_mean(column.name, mean, interval);
                }
                Err(reason) => figures.push_absent(column.name, reason),
            }
        }
        figures
    }

    /// The rows of the images in `names`.
    #[must_use]
    pub fn only(&self, names: &HashSet<String>) -> Self {
        let kept: Vec<usize> =
            (0..self.names.len()).filter(|&row| names.contains(&self.names[row])).collect();
        let column = |column: &Column| {
            let values: Vec<f64> = kept.iter().map(|&row| column.values[row]).collect();
            let without = values.iter().filter(|value| value.is_nan()).count();
            let absent = column.absent.clone().filter(|_| without > 0).map(|(absent, _)| (absent, without));
            Column { name: column.name, values, absent }
        };
        Self {
            names: kept.iter().map(|&row| self.names[row].clone()).collect(),
            columns: self.columns.iter().map(column).collect(),
        }
    }

    /// The `count` worst and `count` best images, at most half of all each. They are ranked by the
    /// first metric that all images have.
    #[must_use]
    pub fn extremes(&self, count: usize) -> Option<Extremes<'_>> {
        let column =
            self.columns.iter().find(|column| column.absent.is_none() && !column.values.is_empty())?;
        let mut ranked: Vec<_> =
            self.names.iter().map(String::as_str).zip(column.values.iter().copied()).collect();
        ranked.sort_by(|a, b| a.1.total_cmp(&b.1));
        if definition(column.name).is_some_and(|known| known.better == Better::Lower) {
            ranked.reverse();
        }
        let count = count.min(ranked.len().div_ceil(2));
        let worst = ranked.iter().take(count).copied().collect();
        let best = ranked.iter().rev().take(count).copied().collect();
        Some(Extremes { metric: column.name, worst, best })
    }
}

/// The images at both ends of a ranking, each with its value.
#[derive(Debug, PartialEq)]
pub struct Extremes<'a> {
    /// The metric that ranks them.
    pub metric: &'static str,
    /// The worst images, the worst first.
    pub worst: Vec<(&'a str, f64)>,
    /// The best images, the best first.
    pub best: Vec<(&'a str, f64)>,
}

impl Column {
    /// The mean over all images. If an image has no value, there is no mean: a mean over the others
    /// would look like one over all.
    fn mean(&self) -> Result<f64, String> {
        let images = self.values.len();
        match &self.absent {
            None => Ok(self.values.iter().sum::<f64>() / images as f64),
            Some((Absent(reason), without)) if *without == images => Err(reason.clone()),
            Some((Absent(reason), without)) => Err(format!("{reason} ({without} of {images})")),
        }
    }
}

/// Copies a one-dimensional tensor to the host. Waits for the device.
pub(super) fn host(values: &Tensor) -> Vec<f64> {
    Vec::try_from(values.to_kind(Kind::Double)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use tch::Device;

    use super::*;
    use crate::metrics::{Psnr, Ssim};

    #[test]
    fn tables_of_the_same_images_come_apart_again() {
        let table = |values: [f64; 2]| {
            let columns = vec![vec![values[0]; 2], vec![values[1]; 2]];
            let names = vec!["a".to_owned(), "b".to_owned()];
            Scores::of(names, vec!["psnr_db", "l1"], columns, vec![None, Some((Absent("small".into()), 1))])
        };
        let tables = vec![table([1.0, 2.0]), table([3.0, 4.0])];
        let apart = Scores::beside(tables).apart(2);
        assert_eq!(apart.len(), 2);
        for (table, values) in apart.iter().zip([[1.0, 2.0], [3.0, 4.0]]) {
            assert_eq!((&table.names[1][..], table.columns.len()), ("b", 2));
            let found: Vec<f64> = table.columns.iter().map(|column| column.values[0]).collect();
            assert_eq!(found, values);
            assert!(table.columns[1].absent.is_some());
        }
        // Without metrics of single images.
        assert_eq!(Scores::beside(vec![Scores::default(), Scores::default()]).apart(2).len(), 2);
    }

    #[test]
    fn one_image_without_a_value_leaves_no_mean() {
        let metrics: Vec<Box<dyn ImageMetric>> = vec![Box::new(Ssim), Box::new(Psnr)];
        let mut scores = Scores::new(&metrics);
        let image =
            |side: i64, level: i64| Tensor::full([1, 3, side, side], level, (Kind::Uint8, Device::Cpu));
        for (name, side, level) in [("large", 16, 9), ("small", 10, 8), ("middle", 12, 7)] {
            scores.add(&metrics, vec![name.into()], &image(side, 7), &image(side, level));
        }
        assert_eq!(scores.columns[0].mean(), Err("images under 11 px a side (1 of 3)".into()));
        assert!(scores.columns[1].mean().is_ok());
        assert!(scores.columns[0].values[1].is_nan());
        let extremes = scores.extremes(2).unwrap();
        assert_eq!(
            (extremes.metric, extremes.worst[0].0, extremes.best[0].0),
            ("psnr_db", "large", "middle")
        );
        assert_eq!(extremes.best[0].1, 100.0);
    }
}
