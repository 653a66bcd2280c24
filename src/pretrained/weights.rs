//! Loads a frozen network from a file of weights.

use std::fs;
use std::path::Path;

use tch::{Device, Tensor, nn};

use super::NetError;
use pixtok_base::sniff::{Kind as FileKind, sniff};
use pixtok_torch::tensors::{self, CopyError, Tensors};
use pixtok_torch::{TorchError, catching};

/// The networks whose weight files are recognised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Network {
    LpipsAlex,
    LpipsVgg,
    Inception,
}

impl Network {
    /// The network that these names and shapes belong to, even if some tensors are missing.
    fn of(tensors: &Tensors) -> Option<Self> {
        if tensors.contains_key("Conv2d_1a_3x3.conv.weight") {
            return Some(Self::Inception);
        }
        match tensors.get("features.0.weight").map(Tensor::size)?.as_slice() {
            [64, 3, 11, 11] => Some(Self::LpipsAlex),
            [64, 3, 3, 3] => Some(Self::LpipsVgg),
            _ => None,
        }
    }

    fn in_words(self) -> &'static str {
        match self {
            Self::LpipsAlex => "weights of LPIPS with AlexNet",
            Self::LpipsVgg => "weights of LPIPS with VGG16",
            Self::Inception => "weights of Inception",
        }
    }
}

/// The tensors of a weight file, and the network that they belong to.
pub(super) struct Weights<'a> {
    path: &'a Path,
    wanted: &'static str,
    network: Network,
    tensors: Tensors,
}

impl<'a> Weights<'a> {
    /// Reads a weight file. `wanted` says in errors what is expected, in the plural.
    pub fn read(path: &'a Path, wanted: &'static str) -> Result<Self, NetError> {
        let bytes = fs::read(path).map_err(|source| NetError::Read { path: path.to_owned(), source })?;
        let unfit = |found: String| NetError::Unfit { path: path.to_owned(), found, wanted };
        // torch.save writes a zip archive; before PyTorch 1.6 it wrote a bare pickle.
        if let FileKind::TorchZip | FileKind::Zip | FileKind::Pickle = sniff(&bytes) {
            return Err(unfit("a PyTorch file (.pth)".to_owned()));
        }
        let tensors = tensors::from_bytes(&bytes)
            .map_err(|reason| unfit(format!("an incomplete or invalid safetensors file ({reason})")))?;
        let network =
            Network::of(&tensors).ok_or_else(|| unfit("weights of an unknown network".to_owned()))?;
        Ok(Self { path, wanted, network, tensors })
    }

    /// The network that the weights belong to.
    pub fn network(&self) -> Network {
        self.network
    }

    /// The error for weights of a network other than the requested one.
    pub fn of_another(&self) -> NetError {
        self.unfit(self.network.in_words().to_owned())
    }

    /// Builds a frozen network on `device` with these weights. `build` must name its variables as
    /// the file does.
    pub fn fill<N>(&self, device: Device, build: impl FnOnce(&nn::Path) -> N) -> Result<N, NetError> {
        let refused = |source: TorchError| NetError::Torch { path: self.path.to_owned(), source };
        let (store, net) = catching(|| {
            let mut store = nn::VarStore::new(device);
            let net = build(&store.root());
            store.freeze();
            (store, net)
        })
        .map_err(refused)?;
        let variables: Tensors = store.variables().into_iter().collect();
        tensors::copy_into(&variables, &self.tensors).map_err(|error| match error {
            CopyError::Mismatch(differences) => {
                self.unfit(format!("{} that do not fit ({differences})", self.network.in_words()))
            }
            CopyError::Torch { source, .. } => refused(source.into()),
        })?;
        Ok(net)
    }

    fn unfit(&self, found: String) -> NetError {
        NetError::Unfit { path: self.path.to_owned(), found, wanted: self.wanted }
    }
}

/// A convolution whose weights are loaded later.
pub(super) fn conv(
    path: &nn::Path,
    channels: (i64, i64),
    kernel: i64,
    stride: i64,
    padding: i64,
) -> nn::Conv2D {
    let zero = nn::Init::Const(0.0);
    let config = nn::ConvConfig { stride, padding, ws_init: zero, bs_init: zero, ..Default::default() };
    nn::conv2d(path, channels.0, channels.1, kernel, config)
}

/// Writes a file with all tensors of the network that `build` makes, each filled by `fill`, for
/// tests to load.
#[cfg(test)]
pub(super) fn write_file<N>(path: &Path, build: impl FnOnce(&nn::Path) -> N, fill: impl Fn(&mut Tensor)) {
    let store = nn::VarStore::new(Device::Cpu);
    build(&store.root());
    let mut variables: Tensors = store.variables().into_iter().collect();
    pixtok_torch::no_grad(|| variables.values_mut().for_each(fill));
    tensors::write(path, &variables).unwrap();
}

#[cfg(test)]
mod tests {
    use super::super::{Inception, Lpips};
    use super::*;
    use tch::Kind;

    /// The error of loading each network from a file of these bytes.
    fn said(bytes: &[u8]) -> [String; 2] {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("given.safetensors");
        fs::write(&path, bytes).unwrap();
        [
            Lpips::load(&path, Device::Cpu).unwrap_err().to_string(),
            Inception::load(&path, Device::Cpu).unwrap_err().to_string(),
        ]
    }

    fn file(tensors: &[(&str, &[i64], Kind)]) -> Vec<u8> {
        let make = |&(name, shape, kind): &(&str, &[i64], Kind)| {
            (name.to_owned(), Tensor::zeros(shape, (kind, Device::Cpu)))
        };
        let mut bytes = vec![];
        tensors::write_to(&mut bytes, &tensors.iter().map(make).collect()).unwrap();
        bytes
    }

    const ALEX: (&str, &[i64], Kind) = ("features.0.weight", &[64, 3, 11, 11], Kind::Float);
    const VGG: (&str, &[i64], Kind) = ("features.0.weight", &[64, 3, 3, 3], Kind::Float);
    const INCEPTION: (&str, &[i64], Kind) = ("Conv2d_1a_3x3.conv.weight", &[32, 3, 3, 3], Kind::Float);

    #[test]
    fn a_file_of_something_else_is_told_with_what_it_is_and_what_is_expected() {
        let cases = [
            (b"PK\x03\x04archive".to_vec(), "seems to be a PyTorch file (.pth)"),
            (b"\x80\x02\x8a\nl\xfc\x9cF".to_vec(), "seems to be a PyTorch file (.pth)"),
            (vec![], "seems to be an incomplete or invalid safetensors file ("),
            (file(&[("weight", &[5, 7], Kind::Float)]), "seems to be weights of an unknown network"),
        ];
        for (bytes, found) in cases {
            for (message, wanted) in said(&bytes).into_iter().zip(["LPIPS (AlexNet or VGG16)", "Inception"]) {
                assert!(message.contains("given.safetensors") && message.contains(found), "{message}");
                assert!(message.contains(&format!(", but weights of {wanted} are needed")), "{message}");
                assert!(message.ends_with("convert the published files with scripts/convert_weights.py"));
            }
        }
    }

    #[test]
    fn one_network_is_not_taken_for_another() {
        let [of_lpips, _] = said(&file(&[INCEPTION]));
        assert!(of_lpips.contains("seems to be weights of Inception, but weights of LPIPS"), "{of_lpips}");
        for (first, name) in [(ALEX, "AlexNet"), (VGG, "VGG16")] {
            let [_, of_inception] = said(&file(&[first]));
            let expected = format!("seems to be weights of LPIPS with {name}, but weights of Inception are");
            assert!(of_inception.contains(&expected), "{of_inception}");
        }
    }

    #[test]
    fn files_are_read_strictly() {
        // torchvision's AlexNet as published: with a classifier, without the heads of LPIPS.
        let classifier: (&str, &[i64], Kind) = ("classifier.6.bias", &[1000], Kind::Float);
        let [message, _] = said(&file(&[ALEX, classifier]));
        let parts =
            ["weights of LPIPS with AlexNet that do not fit (14 missing", "1 unexpected (\"classifier.6"];
        assert!(parts.iter().all(|part| message.contains(part)), "{message}");
        let half = ("Conv2d_1a_3x3.conv.weight", INCEPTION.1, Kind::Half);
        let [_, message] = said(&file(&[half]));
        assert!(
            message.contains("1 different (\"Conv2d_1a_3x3.conv.weight\" is [32, 3, 3, 3] Half"),
            "{message}"
        );
    }

    #[test]
    fn a_file_that_is_not_there_is_named() {
        let error = Lpips::load(Path::new("nowhere/lpips.safetensors"), Device::Cpu).unwrap_err();
        assert!(
            matches!(error, NetError::Read { .. }) && error.to_string().contains("nowhere/lpips"),
            "{error}"
        );
    }
}
