//! Fréchet distance between two sets of feature vectors.

use tch::{Device, Kind, Tensor};

use crate::world::{World, WorldError};
use pixtok_base::{Class, Classified};
use pixtok_torch::{TorchError, catching};

/// Mean and covariance of feature vectors. The vectors themselves are not kept: memory is that of
/// one covariance, whatever their number.
#[derive(Debug, Default)]
pub struct FeatureStatistics {
    sums: Option<Sums>,
    vectors: i64,
}

/// Sums over the vectors minus `shift`, in float64, on the device of the first batch.
#[derive(Debug)]
struct Sums {
    /// The mean of the first batch, `[D]`. Without the shift, Σxxᵀ − n·mean·meanᵀ would cancel if
    /// the mean is large compared with the spread.
    shift: Tensor,
    /// Σx, `[D]`.
    sum: Tensor,
    /// Σxxᵀ, `[D, D]`.
    products: Tensor,
}

/// The reason why two sets have no distance.
#[derive(Debug, thiserror::Error)]
pub enum FrechetError {
    /// A set has fewer than the two vectors that a covariance needs.
    #[error("a Fréchet distance needs at least 2 images in each set, but one has {0}; evaluate more images")]
    TooFew(i64),
    /// The vectors have different dimensions, so they come from different networks.
    #[error("features of {0} and of {1} dimensions have no distance; take both from one network")]
    Dimensions(i64, i64),
    /// A feature is infinite or NaN.
    #[error("a feature is not finite, so there is no Fréchet distance; check the network's weights")]
    NotFinite,
    /// libtorch failed to decompose the covariances.
    #[error("the covariances cannot be decomposed")]
    Torch(#[from] TorchError),
}

impl Classified for FrechetError {
    fn class(&self) -> Class {
        match self {
            Self::TooFew(_) => Class::BadData,
            Self::NotFinite => Class::NotFinite,
            Self::Dimensions(..) => Class::Failed,
            Self::Torch(error) => error.class(),
        }
    }
}

impl FeatureStatistics {
    /// Statistics without vectors.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a batch of vectors.
    ///
    /// # Shapes
    /// `features`: `[B, D]` floating point, with the same D each time.
    ///
    /// # Panics
    /// If D differs from that of the first batch.
    pub fn add(&mut self, features: &Tensor) {
        let vectors = features.size()[0];
        if vectors == 0 {
            return;
        }
        let x = features.detach().to_kind(Kind::Double);
        let sums = self.sums.get_or_insert_with(|| {
            let shift = x.mean_dim([0].as_slice(), false, Kind::Double);
            let dimensions = shift.numel() as i64;
            let products = Tensor::zeros([dimensions, dimensions], (Kind::Double, x.device()));
            Sums { sum: shift.zeros_like(), products, shift }
        });
        let x = x - &sums.shift;
        let _ = sums.sum.g_add_(&x.sum_dim_intlist([0].as_slice(), false, Kind::Double));
        let _ = sums.products.addmm_(&x.tr(), &x);
        self.vectors += vectors;
    }

    /// The statistics of the vectors of all processes.
    ///
    /// # Errors
    /// When the processes can't add up their sums.
    pub fn of_all(self, world: &World) -> Result<Self, WorldError> {
        if world.size() == 1 {
            return Ok(self);
        }
        let vectors = world.sum_of(self.vectors)?;
        // A process without vectors takes part in the sums too.
        let own = self.sums.as_ref().map_or(0, |sums| sums.shift.numel() as i64);
        let dimensions = world.gather(&Tensor::from_slice(&[own]))?.max().int64_value(&[]);
        if vectors == 0 {
            return Ok(Self::default());
        }
        let own = self.sums.unwrap_or_else(|| Sums::none(dimensions)).on_cpu();
        let shift = world.sum(&own.total(self.vectors))? / vectors as f64;
        let Sums { shift, sum, products } = own.about(shift, self.vectors);
        let sums = Sums { sum: world.sum(&sum)?, products: world.sum(&products)?, shift };
        Ok(Self { sums: Some(sums), vectors })
    }

    /// The number of vectors so far.
    #[must_use]
    pub fn vectors(&self) -> i64 {
        self.vectors
    }

    /// The mean; `None` without vectors.
    ///
    /// # Shapes
    /// `[D]` float64.
    #[must_use]
    pub fn mean(&self) -> Option<Tensor> {
        let Sums { shift, sum, .. } = self.sums.as_ref()?;
        Some(shift + sum / self.vectors as f64)
    }

    /// The covariance, with the number of vectors minus one as divisor; `None` for fewer than two
    /// vectors.
    ///
    /// # Shapes
    /// `[D, D]` float64.
    #[must_use]
    pub fn covariance(&self) -> Option<Tensor> {
        let Sums { sum, products, .. } = self.sums.as_ref().filter(|_| self.vectors > 1)?;
        let n = self.vectors as f64;
        Some((products - sum.outer(sum) / n) / (n - 1.0))
    }

    /// Mean and covariance in host memory.
    fn moments(&self) -> Result<(Tensor, Tensor), FrechetError> {
        let both = self.mean().zip(self.covariance()).ok_or(FrechetError::TooFew(self.vectors))?;
        Ok((both.0.to_device(Device::Cpu), both.1.to_device(Device::Cpu)))
    }
}

impl Sums {
    /// Those of no vectors.
    fn none(dimensions: i64) -> Self {
        let zeros = |shape: &[i64]| Tensor::zeros(shape, (Kind::Double, Device::Cpu));
        let (shift, sum) = (zeros(&[dimensions]), zeros(&[dimensions]));
        Self { shift, sum, products: zeros(&[dimensions, dimensions]) }
    }

    fn on_cpu(self) -> Self {
        let Self { shift, sum, products } = self;
        let [shift, sum, products] = [shift, sum, products].map(|tensor| tensor.to_device(Device::Cpu));
        Self { shift, sum, products }
    }

    /// The sum of the `vectors` vectors themselves, `[D]`.
    fn total(&self, vectors: i64) -> Tensor {
        &self.sum + &self.shift * vectors as f64
    }

    /// The same sums over the vectors minus another `shift`. With y = x − old shift and
    /// d = old − new shift, Σ(y + d)(y + d)ᵀ = Σyyᵀ + (Σy)dᵀ + d(Σy)ᵀ + n·ddᵀ.
    fn about(&self, shift: Tensor, vectors: i64) -> Self {
        let (d, n) = (&self.shift - &shift, vectors as f64);
        let mixed = self.sum.outer(&d);
        let products = &self.products + &mixed + mixed.tr() + d.outer(&d) * n;
        Self { sum: &self.sum + d * n, products, shift }
    }
}

/// The Fréchet distance of two normal distributions with these means and covariances, ‖μa − μb‖² +
/// tr(Σa + Σb − 2(ΣaΣb)^½) (Dowson and Landau 1982; Heusel et al. 2017, arXiv 1706.08500). Waits
/// for the device.
///
/// # Errors
/// [`FrechetError`], also if a set has fewer than two vectors.
pub fn frechet_distance(a: &FeatureStatistics, b: &FeatureStatistics) -> Result<f64, FrechetError> {
    let ((mean_a, cov_a), (mean_b, cov_b)) = (a.moments()?, b.moments()?);
    let (dim_a, dim_b) = (mean_a.numel() as i64, mean_b.numel() as i64);
    if dim_a != dim_b {
        return Err(FrechetError::Dimensions(dim_a, dim_b));
    }
    let means = (mean_a - mean_b).square().sum(Kind::Double).double_value(&[]);
    let traces = (cov_a.trace() + cov_b.trace()).double_value(&[]);
    if !(means + traces).is_finite() {
        return Err(FrechetError::NotFinite);
    }
    let root = catching(|| trace_of_root(&cov_a, &cov_b))?;
    // For equal sets, rounding can make the result slightly negative.
    Ok((means + traces - 2.0 * root).max(0.0))
}

/// tr((AB)^½) for symmetric A = FFᵀ and B = GGᵀ. AB has the eigenvalues of (FᵀG)(FᵀG)ᵀ, and their
/// roots are the singular values of FᵀG. Eigenvalues of a product are avoided, because the root of
/// their rounding error is large. Covariances of few vectors have many zero eigenvalues, whose
/// errors would add up.
fn trace_of_root(a: &Tensor, b: &Tensor) -> f64 {
    let product = factor(a).tr().matmul(&factor(b));
    product.linalg_norm_ord_str("nuc", [0, 1].as_slice(), false, Kind::Double).double_value(&[])
}

/// F with FFᵀ = `covariance`, `[D, D]`.
fn factor(covariance: &Tensor) -> Tensor {
    let (values, vectors) = covariance.linalg_eigh("L");
    vectors * values.clamp_min(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn random(vectors: i64, dimensions: i64) -> Tensor {
        Tensor::randn([vectors, dimensions], (Kind::Double, Device::Cpu))
    }

    fn of(features: &Tensor) -> FeatureStatistics {
        let mut statistics = FeatureStatistics::new();
        statistics.add(features);
        statistics
    }

    fn far(a: &Tensor, b: &Tensor) -> f64 {
        (a - b).abs().max().double_value(&[])
    }

    #[test]
    fn moments_do_not_depend_on_the_batches_and_survive_a_large_mean() {
        let features = random(23, 5) + 1e6;
        let mut parts = FeatureStatistics::new();
        assert!(parts.mean().is_none() && parts.covariance().is_none());
        for (start, length) in [(0, 1), (1, 0), (1, 15), (16, 7)] {
            parts.add(&features.narrow(0, start, length));
        }
        let mean = features.mean_dim([0].as_slice(), false, Kind::Double);
        let centred = &features - &mean;
        let covariance = centred.tr().matmul(&centred) / 22.0;
        assert_eq!(parts.vectors(), 23);
        for statistics in [&parts, &of(&features)] {
            assert!(far(&statistics.mean().unwrap(), &mean) < 1e-8);
            assert!(far(&statistics.covariance().unwrap(), &covariance) < 1e-8);
        }
    }

    /// As when processes add them up: parts with means of their own, one of them empty.
    #[test]
    fn sums_about_another_shift_add_up() {
        let features = random(23, 5) + Tensor::from_slice(&[1e4, 0.0, -3.0, 7.0, 1e6]);
        let parts = [(0, 3), (3, 0), (3, 20)].map(|(start, length)| {
            let part = of(&features.narrow(0, start, length));
            (part.sums.unwrap_or_else(|| Sums::none(5)).on_cpu(), part.vectors)
        });
        let add = |tensors: Vec<Tensor>| tensors.iter().fold(Tensor::zeros_like(&tensors[0]), |a, b| a + b);
        let shift = add(parts.iter().map(|(sums, vectors)| sums.total(*vectors)).collect()) / 23.0;
        let parts = parts.map(|(sums, vectors)| sums.about(shift.shallow_clone(), vectors));
        let sum = add(parts.iter().map(|sums| sums.sum.shallow_clone()).collect());
        let products = add(parts.iter().map(|sums| sums.products.shallow_clone()).collect());
        let joined = FeatureStatistics { sums: Some(Sums { shift, sum, products }), vectors: 23 };
        let whole = of(&features);
        assert!(far(&joined.mean().unwrap(), &whole.mean().unwrap()) < 1e-8);
        assert!(far(&joined.covariance().unwrap(), &whole.covariance().unwrap()) < 1e-7);
        let single = whole.of_all(&World::single()).unwrap();
        assert_eq!(frechet_distance(&joined, &single).unwrap().round(), 0.0);
    }

    #[test]
    fn normal_distributions_along_a_line_are_as_far_as_the_formula_says() {
        // In one dimension: (μa − μb)² + (σa − σb)².
        let a = of(&Tensor::from_slice(&[0.0f64, 2.0]).view([2, 1]));
        let b = of(&Tensor::from_slice(&[3.0f64, 9.0, 6.0]).view([3, 1]));
        let expected = 25.0 + (2f64.sqrt() - 3.0).powi(2);
        assert!((frechet_distance(&a, &b).unwrap() - expected).abs() < 1e-12);
        assert!((frechet_distance(&b, &a).unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn few_vectors_of_many_dimensions_are_enough() {
        // Scaled by 3 about an unchanged mean: tr Σ (1 + 9 − 2·3).
        let (base, shift) = (random(4, 64), random(1, 64));
        let mean = base.mean_dim([0].as_slice(), true, Kind::Double);
        let (a, b) = (of(&(&base + &shift)), of(&((&base - &mean) * 3.0 + &mean + &shift)));
        let trace = a.covariance().unwrap().trace().double_value(&[]);
        let distance = frechet_distance(&a, &b).unwrap();
        assert!((distance / (4.0 * trace) - 1.0).abs() < 1e-7, "{distance} against {}", 4.0 * trace);
        let none = frechet_distance(&a, &a).unwrap();
        assert!((0.0..1e-7 * trace).contains(&none), "{none:e}");
    }

    #[test]
    fn what_has_no_distance_is_told() {
        let whole = of(&random(5, 3));
        let said = |other: &FeatureStatistics| frechet_distance(&whole, other).unwrap_err().to_string();
        assert!(said(&of(&random(1, 3))).contains("at least 2 images in each set, but one has 1"));
        assert!(said(&FeatureStatistics::new()).contains("one has 0"));
        assert!(said(&of(&random(5, 4))).contains("of 3 and of 4 dimensions"));
        assert!(said(&of(&(random(5, 3) * f64::NAN))).contains("not finite"));
    }
}
