//! The entropy loss: each vector should be certain of its code, and on average every code should be
//! likely.

use tch::{Kind, Tensor};

use super::memory::MemoryBudget;
use super::straight_through::straight_through;
use crate::statistics::Monitor;
use crate::world::World;
use pixtok_torch::no_grad;

/// The number of tables of a chunk: probabilities, their logarithms, products.
const TABLES: i64 = 3;

/// The logarithm of the least probability that is distinguished from smaller ones, 3e-33. Below it
/// float32 loses bits, and processors take many times as long. It also keeps 0 from the logarithm
/// of a mean.
pub const LEAST_LOG: f64 = -75.0;

/// The result of [`assignment_entropy`]: three scalars.
#[derive(Debug)]
pub struct Entropies {
    /// E[H(p)] − H(E[p]), in nats, with its gradient.
    pub loss: Tensor,
    /// E[H(p)], detached.
    pub of_each: Tensor,
    /// H(E[p]), detached.
    pub of_mean: Tensor,
}

impl Entropies {
    /// Both entropies for the logs, in bits.
    pub fn monitors(&self) -> Vec<Monitor> {
        let bits = |name: &str, nats: &Tensor| Monitor {
            name: format!("codebook/{name}"),
            value: nats / std::f64::consts::LN_2,
        };
        vec![bits("entropy_of_each_bits", &self.of_each), bits("entropy_of_mean_bits", &self.of_mean)]
    }
}

/// The bytes of one vector's rows in the tables over `codes` codes.
fn row_bytes(codes: i64) -> i64 {
    TABLES * 4 * codes
}

/// The least memory in bytes of the loss over codes `[K, D]`: the tables of one vector, the weights
/// of the logits, their gradient, and two products of the size of the codes.
pub fn least_bytes(size: i64, dim: i64) -> i64 {
    row_bytes(size).saturating_add(size.saturating_mul(dim).saturating_mul(16))
}

/// The entropies of the soft assignment p = softmax(x·wᵀ + b) of N vectors to K codes (MAGVIT-2's
/// entropy penalty, arXiv 2310.05737, equation 5).
///
/// The whole `[N, K]` table never exists. A first pass adds up E[p] and E[H(p)]. They give the
/// derivative of the loss by each logit a: ∂L/∂a_nk = p_nk·(g_nk − Σ_j p_nj g_nj) with g_nk = (log
/// E[p]_k − log p_nk)/N. A second pass adds up the gradients of x, w and b, chunk by chunk. They
/// enter the graph through a linear form.
///
/// With several processes, E[p] is the mean over the vectors of all of them, and N and E[H(p)] are
/// those of this one. The loss of the whole batch is the mean of the processes' losses: E[H(p)] is
/// linear in the vectors, and H(E[p]) is the same everywhere. Its derivative by a logit of this
/// process is the above divided by the number of processes, and that is what averaging the
/// gradients over the processes makes of it.
///
/// # Shapes
/// `x [N, D]`, `w [K, D]`, `b [K]`, which learns when `w` does.
pub fn assignment_entropy(
    x: &Tensor,
    w: &Tensor,
    b: Option<&Tensor>,
    budget: MemoryBudget,
    world: &World,
) -> Entropies {
    let (n, k) = (x.size()[0], w.size()[0]);
    let tables = Tables::new(x, w, b, budget);
    let (of_each, mean) = no_grad(|| {
        let mut of_each = Tensor::zeros([], (Kind::Float, x.device()));
        let mut mean = Tensor::zeros([k], (Kind::Float, x.device()));
        for first in tables.chunks() {
            let (p, log_p) = tables.of(first);
            mean += p.sum_dim_intlist(0, false, Kind::Float);
            of_each -= tables.dot_rows(&p, &log_p).sum(Kind::Float);
        }
        (of_each / n as f64, world.all_mean(&(mean / n as f64)))
    });
    let log_mean = mean.log();
    let of_mean = -(&mean * &log_mean).sum(Kind::Float);
    let value = &of_each - &of_mean;
    if !x.requires_grad() && !w.requires_grad() {
        return Entropies { loss: value, of_each, of_mean };
    }
    let (dx, dw, db) = no_grad(|| {
        let (dx, mut dw, mut db) = (x.zeros_like(), w.zeros_like(), mean.zeros_like());
        for first in tables.chunks() {
            let (p, mut by_logit) = tables.of(first);
            let chunk = x.narrow(0, first, p.size()[0]);
            // Overwrites log p with g, then with ∂L/∂a. Divided by Σp, which rounding makes only
            // nearly 1, because the mean must cancel completely.
            by_logit -= &log_mean;
            by_logit /= -(n as f64);
            let total = p.sum_dim_intlist(1, true, Kind::Float);
            by_logit -= tables.dot_rows(&p, &by_logit) / total;
            by_logit *= &p;
            let _ = by_logit.matmul_out(&dx.narrow(0, first, p.size()[0]), w);
            // Codes that follow a moving average require no gradient.
            if w.requires_grad() {
                let _ = dw.addmm_(&by_logit.tr(), &chunk);
                db += by_logit.sum_dim_intlist(0, false, Kind::Float);
            }
        }
        (dx, dw, db)
    });
    let mut linear = (x * dx).sum(Kind::Float);
    if w.requires_grad() {
        linear += (w * dw).sum(Kind::Float);
        linear += b.map_or_else(|| Tensor::from(0f32).to_device(x.device()), |b| (b * db).sum(Kind::Float));
    }
    Entropies { loss: straight_through(&value, &linear), of_each, of_mean }
}

/// The probabilities of one chunk at a time, always in the same memory. New tables for each chunk
/// would need new pages each time and leave holes in the heap.
struct Tables<'a> {
    x: Tensor,
    w: Tensor,
    b: Option<&'a Tensor>,
    p: Tensor,
    log_p: Tensor,
    products: Tensor,
}

impl<'a> Tables<'a> {
    fn new(x: &Tensor, w: &Tensor, b: Option<&'a Tensor>, budget: MemoryBudget) -> Self {
        let (n, k) = (x.size()[0], w.size()[0]);
        let rows = (budget.block_bytes(x.device()) / row_bytes(k)).clamp(1, n.max(1));
        let table = || Tensor::empty([rows, k], (Kind::Float, x.device()));
        Self { x: x.detach(), w: w.detach().tr(), b, p: table(), log_p: table(), products: table() }
    }

    /// The first vector of each chunk.
    fn chunks(&self) -> impl Iterator<Item = i64> {
        (0..self.x.size()[0]).step_by(self.p.size()[0] as usize)
    }

    /// p and log p of the chunk that starts at `first`; valid until the next call.
    fn of(&self, first: i64) -> (Tensor, Tensor) {
        let count = self.p.size()[0].min(self.x.size()[0] - first);
        let (p, log_p) = (self.p.narrow(0, 0, count), self.log_p.narrow(0, 0, count));
        // First the logits, in the memory of the probabilities.
        let mut logits = self.x.narrow(0, first, count).matmul_out(&p, &self.w);
        if let Some(b) = self.b {
            logits += b;
        }
        let log_p = logits.internal_log_softmax_out(&log_p, 1, false).clamp_min_(LEAST_LOG);
        let p = log_p.exp_out(&p);
        (p, log_p)
    }

    /// Σ_k a_nk·b_nk of two tables, `[rows, 1]`. It is not a matrix product, because the plain sum
    /// of many thousand numbers is too inexact.
    fn dot_rows(&self, a: &Tensor, b: &Tensor) -> Tensor {
        let products = a.multiply_out(&self.products.narrow(0, 0, a.size()[0]), b);
        products.sum_dim_intlist(1, true, Kind::Float)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pixtok_base::seed::Seed;
    use tch::Device;

    /// The formula written out in float64 over the whole table.
    fn plain(x: &Tensor, w: &Tensor, b: &Tensor) -> Tensor {
        let log_p = (x.matmul(&w.tr()) + b).log_softmax(-1, Kind::Double);
        let p = log_p.exp();
        let mean = p.mean_dim(0, false, Kind::Double);
        let of_each = -(&p * log_p).sum_dim_intlist(-1, false, Kind::Double).mean(Kind::Double);
        of_each + (&mean * mean.log()).sum(Kind::Double)
    }

    #[test]
    fn chunks_give_the_value_and_gradients_of_the_whole() {
        pixtok_torch::reseed(Seed(5));
        let draw = |shape: &[i64]| Tensor::randn(shape, (Kind::Float, Device::Cpu));
        // 20,000 codes: a row takes 240 kB, so 1 MiB holds four rows.
        let values = [draw(&[35, 3]), draw(&[20_000, 3]), draw(&[20_000])];
        let ours = values.each_ref().map(|value| value.copy().set_requires_grad(true));
        let wide = values.each_ref().map(|value| value.to_kind(Kind::Double).set_requires_grad(true));
        let budget: MemoryBudget = "1MiB".parse().unwrap();
        assert_eq!(budget.bytes() / row_bytes(20_000), 4);
        let entropies = assignment_entropy(&ours[0], &ours[1], Some(&ours[2]), budget, World::alone());
        let theirs = plain(&wide[0], &wide[1], &wide[2]);
        let relative = |a: &Tensor, b: &Tensor| {
            let b = b.to_kind(Kind::Double);
            ((a - &b).abs().max() / b.abs().max()).double_value(&[])
        };
        assert!(relative(&entropies.loss, &theirs) < 1e-5);
        assert!(relative(&(&entropies.of_each - &entropies.of_mean), &theirs) < 1e-5);
        entropies.loss.backward();
        theirs.backward();
        for (ours, wide) in ours.iter().zip(&wide) {
            let off = relative(&ours.grad(), &wide.grad());
            assert!(off < 1e-5, "a gradient of shape {:?} is off by {off:e}", ours.size());
        }
    }

    #[test]
    fn even_and_certain_assignments_are_the_ends() {
        let codes = Tensor::eye(4, (Kind::Float, Device::Cpu));
        let loss = |x: &Tensor| {
            let entropies = assignment_entropy(x, &codes, None, MemoryBudget::default(), World::alone());
            entropies.loss.double_value(&[])
        };
        // Four vectors, each certain of a different code: 0 − log 4.
        assert!((loss(&(&codes * 1e3)) + 4f64.ln()).abs() < 1e-6);
        // All vectors certain of one code, and all undecided.
        assert!(loss(&(codes.select(0, 0).repeat([3, 1]) * 1e3)).abs() < 1e-6);
        assert!(loss(&Tensor::zeros([3, 4], (Kind::Float, Device::Cpu))).abs() < 1e-6);
    }
}
