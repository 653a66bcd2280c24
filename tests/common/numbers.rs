//! Stored numbers of other implementations, and how near ours must be.
#![allow(dead_code, reason = "each test file uses a part")]

use std::collections::HashMap;

use pixtok::quantizer::{Quantizer, QuantizerConfig};
use pixtok::variables::{Component, Variables};
use pixtok_torch::cuda_devices;
use tch::{Device, Kind, Tensor};

/// The tensors of one file of `tests/reference/`, on the device of the test.
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

/// Where tests compute: `PIXTOK_TEST_DEVICE`, or the CPU.
pub fn device() -> Device {
    match std::env::var("PIXTOK_TEST_DEVICE").as_deref() {
        Err(_) | Ok("cpu") => Device::Cpu,
        Ok("cuda") => {
            // Which also loads libtorch's CUDA half.
            assert!(cuda_devices().unwrap_or_else(|e| panic!("{e}")) > 0, "there is no CUDA device");
            Device::Cuda(0)
        }
        Ok(other) => panic!("PIXTOK_TEST_DEVICE is `{other}`: set it to cpu or cuda"),
    }
}

/// |a − b| ≤ `relative` · max|b|, everywhere.
pub fn assert_close(what: &str, ours: &Tensor, theirs: &Tensor, relative: f64) {
    assert_eq!(ours.size(), theirs.size(), "{what}: shape");
    let (ours, theirs) = (ours.to_kind(Kind::Double), theirs.to_kind(Kind::Double));
    let worst = (&ours - &theirs).abs().max().double_value(&[]);
    let allowed = relative * theirs.abs().max().double_value(&[]);
    // Written so that a value that is not a number fails.
    assert!(worst <= allowed, "{what}: differs by {worst:e}, allowed are {allowed:e}");
}

/// A quantizer on its own, and the store of its variables.
pub fn quantizer(config: serde_json::Value, channels: i64) -> (Variables, Box<dyn Quantizer>) {
    let config: QuantizerConfig = serde_json::from_value(config).unwrap_or_else(|e| panic!("{e}"));
    let store = Variables::new(device());
    let quantizer = config
        .settings()
        .build(&store.root(Component::Quantizer), channels)
        .unwrap_or_else(|e| panic!("{e}"));
    (store, quantizer)
}

/// A copy that gradients flow to.
pub fn leaf(value: &Tensor) -> Tensor {
    value.copy().set_requires_grad(true)
}
