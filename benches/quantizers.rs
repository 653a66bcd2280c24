//! What a quantizer adds to a training step, by kind and codebook size, and the nearest-code search beside
//! `torch.cdist` and `argmin`. `just bench-quantizers`; docs/quantizers.md has the table of kinds.
//! With `--search K,D,VECTORS` the search alone, as JSON (`just bench`).
//!
//! Everything that is compared is timed in turn, A B A B, and the medians are compared.
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "a program that prints and stops at the first error"
)]

#[path = "../tests/common/peak.rs"]
mod peak;

use std::time::Instant;

use peak::{forget_peak, peak_bytes};

use pixtok::quantizer::{Mode, Quantizer, QuantizerConfig};
use pixtok::variables::{Component, Variables};
use pixtok_base::seed::Seed;
use pixtok_torch::no_grad;
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// A batch of the yardstick: 32 images of 16×16 latent positions.
const GRID: [i64; 3] = [32, 16, 16];
/// Sixteen times as many.
const LARGE_GRID: [i64; 3] = [128, 32, 32];
const ROUNDS: usize = 15;
const SEARCH_ROUNDS: usize = 5;
/// What is timed takes at least this long.
const SHORTEST_SECS: f64 = 0.02;

fn median(mut times: Vec<f64>) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

fn seconds(body: impl FnOnce()) -> f64 {
    let start = Instant::now();
    body();
    start.elapsed().as_secs_f64()
}

/// Medians of the calls' times, which are made in turn; of a short call each time is the mean of several.
fn interleaved(calls: &mut [Box<dyn FnMut() + '_>], rounds: usize) -> Vec<f64> {
    let repeats: Vec<usize> = calls
        .iter_mut()
        .map(|call| {
            call();
            (SHORTEST_SECS / seconds(&mut *call)).ceil().clamp(1.0, 1000.0) as usize
        })
        .collect();
    let mut times = vec![vec![]; calls.len()];
    for _ in 0..rounds {
        for ((call, &repeats), times) in calls.iter_mut().zip(&repeats).zip(&mut times) {
            times.push(seconds(|| (0..repeats).for_each(|_| call())) / repeats as f64);
        }
    }
    times.into_iter().map(median).collect()
}

/// A quantizer with latents of its natural width.
struct Case {
    quantizer: Box<dyn Quantizer>,
    z: Tensor,
    g: Tensor,
    _store: Variables,
}

impl Case {
    fn new(config: &Value, grid: [i64; 3]) -> Self {
        let config: QuantizerConfig = serde_json::from_value(config.clone()).unwrap();
        let width = config.settings().natural_width();
        let store = Variables::new(Device::Cpu);
        pixtok_torch::reseed(Seed(1));
        let mut quantizer = config.settings().build(&store.root(Component::Quantizer), width).unwrap();
        let draw = || Tensor::randn([grid[0], grid[1] * grid[2], width], (Kind::Float, Device::Cpu));
        if quantizer.start_vectors().is_some() {
            quantizer.start(&draw(), Seed(2), &mut || true).unwrap();
        }
        Self { quantizer, z: draw().set_requires_grad(true), g: draw(), _store: store }
    }

    /// Forward with losses, backward from the latent and the losses, update.
    fn step(&mut self) {
        let quantized = self.quantizer.quantize(&self.z, Mode::train(Seed(3)));
        let losses = quantized.losses.iter().map(|term| &term.value * term.weight);
        let total = losses.fold((&quantized.latent * &self.g).sum(Kind::Float), |sum, term| sum + term);
        total.backward();
        self.quantizer.update(&quantized.statistics, Seed(4));
    }
}

/// A config with about 2^bits codes, of these levels where the kind has levels.
type Configure = fn(u32, &[i64]) -> Value;

/// Level sets with about 2^bits codes.
const LEVELS: [(u32, &[i64]); 5] = [
    (8, &[8, 6, 5]),
    (10, &[8, 5, 5, 5]),
    (12, &[7, 5, 5, 5, 5]),
    (14, &[8, 8, 8, 6, 5]),
    (16, &[8, 8, 8, 5, 5, 5]),
];

/// One row for each kind, one column for each size, all timed in turn.
fn own_time(kinds: &[(&str, Configure)], grid: [i64; 3]) {
    let mut cases: Vec<Case> = vec![];
    for (_, config) in kinds {
        cases.extend(LEVELS.iter().map(|(bits, levels)| Case::new(&config(*bits, levels), grid)));
    }
    let mut calls: Vec<Box<dyn FnMut() + '_>> = vec![];
    for case in &mut cases {
        calls.push(Box::new(|| case.step()));
    }
    let medians = interleaved(&mut calls, ROUNDS);
    let vectors: i64 = grid.iter().product();
    println!("\nMilliseconds of forward, backward and update for {vectors} latent vectors:\n");
    println!("| kind | 2^8 | 2^10 | 2^12 | 2^14 | 2^16 | 2^16 / 2^8 |\n|---|---|---|---|---|---|---|");
    for ((kind, _), times) in kinds.iter().zip(medians.chunks(LEVELS.len())) {
        let cells: Vec<String> = times.iter().map(|time| format!("{:.2}", time * 1e3)).collect();
        println!("| {kind} | {} | {:.2} |", cells.join(" | "), times[LEVELS.len() - 1] / times[0]);
    }
}

/// Through a VQ's `quantize`, which does little else in evaluation.
fn search() {
    println!("Nearest code:\n");
    println!(
        "| K | D | vectors | seconds | torch.cdist and argmin | ratio | MiB above the inputs | cdist's | differ | ties |"
    );
    println!("|{}", "---|".repeat(10));
    for (k, d, n) in [(65536, 8, 32768), (16384, 32, 8192), (16384, 64, 8192), (16384, 256, 8192)] {
        search_beside_cdist(k, d, n);
    }
}

/// A VQ with drawn codes, and vectors to look up.
struct Lookup {
    vq: Box<dyn Quantizer>,
    codes: Tensor,
    vectors: Tensor,
    z: Tensor,
    _store: Variables,
}

impl Lookup {
    fn new([k, d, n]: [i64; 3]) -> Self {
        let config = json!({ "kind": "vq", "codebook_size": k, "codebook_dim": d, "start": "uniform" });
        let config: QuantizerConfig = serde_json::from_value(config).unwrap();
        let store = Variables::new(Device::Cpu);
        let vq = config.settings().build(&store.root(Component::Quantizer), d).unwrap();
        pixtok_torch::reseed(Seed(5));
        let codes = Tensor::randn([k, d], (Kind::Float, Device::Cpu));
        no_grad(|| store.tensors()["codebook"].shallow_clone().copy_(&codes));
        let vectors = Tensor::randn([n, d], (Kind::Float, Device::Cpu));
        let z = vectors.view([1, n, d]);
        Self { vq, codes, vectors, z, _store: store }
    }

    fn indices(&self) -> Tensor {
        self.vq.quantize(&self.z, Mode::Eval).indices.view([-1])
    }
}

/// Alone, for `just bench`, whose peers are measured in Python: one line of JSON.
fn search_alone(shape: [i64; 3]) {
    let lookup = Lookup::new(shape);
    let _guard = tch::no_grad_guard();
    let (_, extra_bytes) = with_peak(|| lookup.indices());
    let mut calls: Vec<Box<dyn FnMut()>> = vec![Box::new(|| drop(lookup.indices()))];
    let seconds = interleaved(&mut calls, SEARCH_ROUNDS)[0];
    println!("{}", json!({ "seconds": seconds, "extra_bytes": extra_bytes }));
}

fn search_beside_cdist(k: i64, d: i64, n: i64) {
    let lookup = Lookup::new([k, d, n]);
    let Lookup { codes, vectors, .. } = &lookup;
    let _guard = tch::no_grad_guard();
    let ours = || lookup.indices();
    let theirs = || Tensor::cdist(vectors, codes, 2.0, None::<i64>).argmin(1, false);

    let (found, our_bytes) = with_peak(ours);
    let (expected, their_bytes) = with_peak(theirs);
    let mut calls: Vec<Box<dyn FnMut()>> = vec![Box::new(|| drop(ours())), Box::new(|| drop(theirs()))];
    let medians = interleaved(&mut calls, SEARCH_ROUNDS);

    let differ = found.ne_tensor(&expected).nonzero().squeeze_dim(1);
    let distance = |indices: &Tensor| {
        let chosen = codes.index_select(0, &indices.index_select(0, &differ)).to_kind(Kind::Double);
        let vectors = vectors.index_select(0, &differ).to_kind(Kind::Double);
        (vectors - chosen).square().sum_dim_intlist(1, false, Kind::Double).sqrt()
    };
    let (a, b) = (distance(&found), distance(&expected));
    // Equally near in float64, but for a millionth.
    let ties = ((&a - &b).abs() / &b).lt(1e-6).sum(Kind::Int64).int64_value(&[]);
    println!(
        "| {k} | {d} | {n} | {:.3} | {:.3} | {:.1} | {} | {} | {} | {ties} |",
        medians[0],
        medians[1],
        medians[1] / medians[0],
        our_bytes >> 20,
        their_bytes >> 20,
        differ.size()[0],
    );
}

/// The result, and how much memory the process had at most above what it had before.
fn with_peak(body: impl FnOnce() -> Tensor) -> (Tensor, i64) {
    forget_peak();
    let before = peak_bytes();
    let result = body();
    (result, peak_bytes() - before)
}

/// K, D and vectors after `--search`, if it is there; cargo adds a `--bench` of its own.
fn search_argument() -> Option<[i64; 3]> {
    let shape = std::env::args().skip_while(|argument| argument != "--search").nth(1)?;
    let numbers: Vec<i64> = shape.split(',').map(|number| number.parse().unwrap()).collect();
    Some(numbers.try_into().unwrap())
}

fn main() {
    if let Some(shape) = search_argument() {
        return search_alone(shape);
    }
    println!("{} threads of libtorch\n", tch::get_num_threads());
    let kinds: [(&str, Configure); 4] = [
        ("FSQ", |_, levels| json!({ "kind": "fsq", "levels": levels })),
        ("LFQ", |bits, _| json!({ "kind": "lfq", "bits": bits })),
        ("VQ", |bits, _| json!({ "kind": "vq", "codebook_size": 1i64 << bits, "codebook_dim": 8 })),
        ("SimVQ", |bits, _| json!({ "kind": "simvq", "codebook_size": 1i64 << bits, "codebook_dim": 8 })),
    ];
    // What takes memory first, while there is none of earlier work to use again.
    search();
    own_time(&kinds[..1], LARGE_GRID);
    own_time(&kinds, GRID);
}
