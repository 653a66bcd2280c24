//! Statistics of tokens in the order in which they are made: their size when compressed, and the
//! usage in parts of them.

use std::collections::{HashSet, VecDeque};
use std::io::{self, Write};

use tch::Tensor;
use zstd::stream::write::Encoder;

use super::codebook::host;
use crate::world::{World, WorldError};

/// The number of tokens that `usage_64k` covers, as in papers.
const TAIL: usize = 1 << 16;
/// The zstd level: the highest without an extra-large window.
const LEVEL: i32 = 19;
/// Below this number of ids, a token file stores u16, otherwise i32.
const U16_IDS: i64 = 65_500;

/// Compresses all tokens of a set as a token file would store them, and counts the codes that parts
/// of them use. Memory does not grow with the number of tokens.
pub struct TokenStream {
    codebooks: i64,
    size: i64,
    batches: u64,
    /// The sum over batches of the share of codes that occur.
    usage_of_batches: f64,
    /// The most recent codes, each with its codebook: c·K + k.
    tail: VecDeque<i64>,
    compressor: Encoder<'static, Counter>,
    tokens: i64,
}

/// The statistics of a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamFigures {
    /// The share of codes that occur in a batch; the mean over batches.
    pub usage_batch: f64,
    /// The share of codes that occur among the last 65,536 tokens; of several processes, the mean
    /// over those of each.
    pub usage_64k: f64,
    /// The bits per token after compression by zstd.
    pub bits_per_token_zstd: f64,
}

/// What the statistics of a stream are computed from.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StreamSums {
    usage_of_batches: f64,
    batches: u64,
    usage_64k: f64,
    bytes: u64,
    tokens: i64,
}

impl StreamSums {
    /// The statistics of the streams of all processes, each with its own batches, last tokens and
    /// compressor; `None` without tokens.
    ///
    /// # Errors
    /// When the processes can't add up their sums.
    pub fn figures(self, world: &World) -> Result<Option<StreamFigures>, WorldError> {
        let Self { usage_of_batches, batches, usage_64k, bytes, tokens } = self;
        let streams = f64::from(u8::from(tokens > 0));
        let sums = [usage_of_batches, batches as f64, bytes as f64, tokens as f64, usage_64k, streams];
        let [usage_of_batches, batches, bytes, tokens, usage_64k, streams] = world.sum_each(sums)?;
        Ok((tokens > 0.0).then(|| StreamFigures {
            usage_batch: usage_of_batches / batches,
            usage_64k: usage_64k / streams,
            bits_per_token_zstd: 8.0 * bytes / tokens,
        }))
    }
}

/// A writer that counts bytes and discards them.
#[derive(Default)]
struct Counter(u64);

impl Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 += bytes.len() as u64;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl TokenStream {
    /// An empty stream of `codebooks` codebooks of `size` codes each.
    ///
    /// # Errors
    /// If zstd cannot allocate its memory.
    pub fn new(codebooks: i64, size: i64) -> io::Result<Self> {
        Ok(Self {
            codebooks,
            size,
            batches: 0,
            usage_of_batches: 0.0,
            tail: VecDeque::new(),
            compressor: Encoder::new(Counter::default(), LEVEL)?,
            tokens: 0,
        })
    }

    /// Adds a batch. Waits for the device.
    ///
    /// # Shapes
    /// `indices`: of any shape, int64, with a last axis of one entry per codebook when there are several.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn add(&mut self, indices: &Tensor) -> io::Result<()> {
        let codes = host(&indices.reshape([-1]));
        self.compressor.write_all(&bytes_of(&codes, self.size))?;
        let numbers: Vec<i64> = codes
            .chunks_exact(self.codebooks as usize)
            .flat_map(|token| token.iter().zip(0..).map(|(code, codebook)| codebook * self.size + code))
            .collect();
        self.usage_of_batches += self.usage(numbers.iter());
        self.batches += 1;
        self.tokens += (numbers.len() / self.codebooks as usize) as i64;
        self.tail.extend(numbers);
        let over = self.tail.len().saturating_sub(TAIL * self.codebooks as usize);
        self.tail.drain(..over);
        Ok(())
    }

    /// Compresses the rest, and returns what the statistics are computed from.
    ///
    /// # Errors
    /// If zstd fails.
    pub fn finish(self) -> io::Result<StreamSums> {
        let usage_64k = self.usage(self.tail.iter());
        Ok(StreamSums {
            usage_of_batches: self.usage_of_batches,
            batches: self.batches,
            usage_64k,
            bytes: self.compressor.finish()?.0,
            tokens: self.tokens,
        })
    }

    /// The share of all codes that occur among `numbers`.
    fn usage<'a>(&self, numbers: impl Iterator<Item = &'a i64>) -> f64 {
        numbers.collect::<HashSet<_>>().len() as f64 / (self.codebooks * self.size) as f64
    }
}

/// The bytes of the codes in a token file: little endian, u16 if all ids fit.
fn bytes_of(codes: &[i64], size: i64) -> Vec<u8> {
    if size < U16_IDS {
        codes.iter().flat_map(|&code| (code as u16).to_le_bytes()).collect()
    } else {
        codes.iter().flat_map(|&code| (code as i32).to_le_bytes()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(codebooks: i64, size: i64, batches: &[Vec<i64>]) -> StreamFigures {
        let mut stream = TokenStream::new(codebooks, size).unwrap();
        for batch in batches {
            let shape = if codebooks > 1 { vec![1, 1, -1, codebooks] } else { vec![1, 1, -1] };
            stream.add(&Tensor::from_slice(batch).view(shape.as_slice())).unwrap();
        }
        stream.finish().unwrap().figures(&World::single()).unwrap().unwrap()
    }

    #[test]
    fn usage_of_batches_and_of_the_tail() {
        let figures = stream(1, 4, &[vec![0, 0], vec![1, 2]]);
        assert_eq!((figures.usage_batch, figures.usage_64k), (0.375, 0.75));
        // Code 3 occurs once, before the last 65,536 tokens.
        let figures = stream(1, 4, &[vec![3], vec![0; TAIL]]);
        assert_eq!(figures.usage_64k, 0.25);
        // Two codebooks: code 0 of the first, codes 0 and 1 of the second.
        let figures = stream(2, 2, &[vec![0, 0, 0, 1]]);
        assert_eq!((figures.usage_batch, figures.usage_64k), (0.75, 0.75));
    }

    #[test]
    fn what_repeats_costs_nothing_and_noise_its_bits() {
        assert!(stream(1, 256, &[vec![7; 10_000]]).bits_per_token_zstd < 0.1);
        let mut state = 1u64;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as i64 % 256
        };
        let figures = stream(1, 256, &[(0..50_000).map(|_| noise()).collect()]);
        assert!((8.0..10.5).contains(&figures.bits_per_token_zstd), "{figures:?}");
    }

    #[test]
    fn no_tokens_are_no_figures() {
        let sums = TokenStream::new(1, 8).unwrap().finish().unwrap();
        assert_eq!(sums.figures(&World::single()).unwrap(), None);
    }
}
