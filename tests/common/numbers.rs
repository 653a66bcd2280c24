//! Stored numbers of other implementations, and the allowed differences.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;

use pixtok::quantizer::digits::MixedRadix;
use pixtok::quantizer::{
    CodebookShape, Mode, Quantized, Quantizer, QuantizerConfig, QuantizerError, StartOutcome, Words,
};
use pixtok::statistics::{Statistic, UpdateReport};
use pixtok::variables::{Component, Variables};
use pixtok_base::seed::Seed;
use pixtok_torch::cuda_devices;
use tch::{Device, Kind, Tensor};

/// The tensors of one file of `tests/reference/`, on the device of the tests.
pub struct Numbers(HashMap<String, Tensor>);

impl Numbers {
    pub fn read(name: &str) -> Self {
        let path = format!("{}/tests/reference/{name}.safetensors", env!("CARGO_MANIFEST_DIR"));
        let device = device();
        let tensors = Tensor::read_safetensors(&path).unwrap_or_else(|e| panic!("{path}: {e}"));
        Self(tensors.into_iter().map(|(name, tensor)| (name, tensor.to_device(device))).collect())
    }

    pub fn get(&self, key: &str) -> Tensor {
        self.find(key).unwrap_or_else(|| panic!("no `{key}`"))
    }

    pub fn find(&self, key: &str) -> Option<Tensor> {
        self.0.get(key).map(Tensor::shallow_clone)
    }

    /// Name and tensor of everything stored under `prefix`.
    pub fn under(&self, prefix: &str) -> Vec<(String, Tensor)> {
        let own = |(key, tensor): (&String, &Tensor)| {
            Some((key.strip_prefix(prefix)?.to_owned(), tensor.shallow_clone()))
        };
        self.0.iter().filter_map(own).collect()
    }
}

/// The device of the tests: `PIXTOK_TEST_DEVICE`, or the CPU.
pub fn device() -> Device {
    match std::env::var("PIXTOK_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => {
            // This also loads libtorch's CUDA half.
            assert!(cuda_devices().unwrap_or_else(|e| panic!("{e}")) > 0, "there is no CUDA device");
            Device::Cuda(0)
        }
        Ok(other) => panic!("PIXTOK_TEST_DEVICE is `{other}`: set it to cpu or cuda"),
    }
}

/// Asserts |a − b| ≤ `relative` · max|b| everywhere.
pub fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, relative: f64) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    let worst = (&ours - &theirs).abs().max().double_value(&[]);
    let allowed = relative * theirs.abs().max().double_value(&[]);
    // Written so that NaN fails.
    assert!(worst <= allowed, "{what}: differs by {worst:e}, allowed are {allowed:e}");
}

/// A quantizer and the store of its variables.
pub fn quantizer(config: serde_json::Value, channels: i64) -> (Variables, Box<dyn Quantizer>) {
    let config: QuantizerConfig = serde_json::from_value(config).unwrap_or_else(|e| panic!("{e}"));
    let store = Variables::new(device());
    let quantizer = config
        .settings()
        .build(&store.root(Component::Quantizer), channels)
        .unwrap_or_else(|e| panic!("{e}"));
    (store, Box::new(OnGrids(quantizer)))
}

/// A quantizer that takes latents in the shape of a convolution: z `[B, C, h, w]` instead of `[B,
/// N, C]`, and indices `[B, h, w]` instead of `[B, N]`.
#[derive(Debug)]
pub struct OnGrids(pub Box<dyn Quantizer>);

impl OnGrids {
    /// `[B, C, h, w]` -> `[B, N, C]`.
    fn flat(z: &Tensor) -> Tensor {
        z.permute([0, 2, 3, 1]).flatten(1, 2)
    }

    /// `[B, N, C]` -> `[B, C, h, w]`.
    fn grid(latent: &Tensor, h: i64, w: i64) -> Tensor {
        latent.unflatten(1, [h, w]).permute([0, 3, 1, 2])
    }
}

impl Quantizer for OnGrids {
    fn start_vectors(&self) -> Option<i64> {
        self.0.start_vectors()
    }

    fn start(
        &mut self,
        z: &Tensor,
        seed: Seed,
        going_on: &mut dyn FnMut() -> bool,
    ) -> Result<StartOutcome, QuantizerError> {
        self.0.start(&Self::flat(z), seed, going_on)
    }

    fn quantize(&self, z: &Tensor, mode: Mode) -> Quantized {
        let (h, w) = (z.size()[2], z.size()[3]);
        let made = self.0.quantize(&Self::flat(z), mode);
        Quantized {
            latent: Self::grid(&made.latent, h, w),
            indices: made.indices.unflatten(1, [h, w]),
            ..made
        }
    }

    fn lookup(&self, indices: &Tensor) -> Tensor {
        let (h, w) = (indices.size()[1], indices.size()[2]);
        Self::grid(&self.0.lookup(&indices.flatten(1, 2)), h, w)
    }

    fn codes(&self, codebook: i64, indices: &Tensor) -> Tensor {
        let (h, w) = (indices.size()[1], indices.size()[2]);
        Self::grid(&self.0.codes(codebook, &indices.flatten(1, 2)), h, w)
    }

    fn codebook(&self) -> CodebookShape {
        self.0.codebook()
    }

    fn update(&mut self, statistics: &[Statistic], seed: Seed) -> UpdateReport {
        self.0.update(statistics, seed)
    }

    fn digits(&self) -> Option<&MixedRadix> {
        self.0.digits()
    }

    fn collapse_remedy(&self, vectors: i64) -> Words {
        self.0.collapse_remedy(vectors)
    }
}

/// A copy that receives gradients.
pub fn leaf(value: &Tensor) -> Tensor {
    value.copy().set_requires_grad(true)
}
