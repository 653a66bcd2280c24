//! Placement of labels above each other without overlap.

/// A run of adjacent labels that touch: the sum of the positions that each wants for the first one,
/// and their number.
struct Cluster {
    wanted: f64,
    count: usize,
}

/// Moves each of `heights` as little as possible (least squares) so that neighbours are at least
/// `gap` apart and keep their order. The whole column is then shifted into `low..=high`.
pub(super) fn spread(heights: &[f64], gap: f64, low: f64, high: f64) -> Vec<f64> {
    let mut order: Vec<usize> = (0..heights.len()).collect();
    order.sort_by(|&a, &b| heights[a].total_cmp(&heights[b]));
    // With the gaps subtracted, the heights must only be non-decreasing. This is a monotone
    // regression, solved by merging those that decrease.
    let mut clusters: Vec<Cluster> = vec![];
    for (at, &label) in order.iter().enumerate() {
        clusters.push(Cluster { wanted: heights[label] - gap * at as f64, count: 1 });
        while let [.., before, last] = &mut clusters[..] {
            if last.wanted / last.count as f64 > before.wanted / before.count as f64 {
                break;
            }
            before.wanted += last.wanted;
            before.count += last.count;
            clusters.pop();
        }
    }
    let above = gap * heights.len().saturating_sub(1) as f64;
    let starts = clusters.iter().flat_map(|cluster| {
        let start = (cluster.wanted / cluster.count as f64).min(high - above).max(low);
        std::iter::repeat_n(start, cluster.count)
    });
    let mut spread = vec![0.0; heights.len()];
    for (at, (start, &label)) in starts.zip(&order).enumerate() {
        spread[label] = start + gap * at as f64;
    }
    spread
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_move_only_where_they_touch() {
        assert_eq!(spread(&[50.0, 10.0, 30.0], 12.0, 0.0, 100.0), [50.0, 10.0, 30.0]);
        assert_eq!(spread(&[50.0, 50.0, 10.0], 12.0, 0.0, 100.0), [44.0, 56.0, 10.0]);
        assert_eq!(spread(&[], 12.0, 0.0, 100.0), [0.0; 0]);
    }

    #[test]
    fn labels_stay_within_the_frame() {
        assert_eq!(spread(&[99.0, 100.0, 98.0], 12.0, 0.0, 100.0), [88.0, 100.0, 76.0]);
        assert_eq!(spread(&[0.0, 1.0], 12.0, 0.0, 100.0), [0.0, 12.0]);
        let full = spread(&[5.0; 9], 12.0, 0.0, 50.0);
        assert_eq!(full[8] - full[0], 96.0, "too many for the frame keep their distance");
    }
}
