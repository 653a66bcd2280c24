//! Fixed published networks: AlexNet and VGG16 for LPIPS, and the Inception network of the Fréchet
//! distance. The user gives their weights in files.
//!
//! Nothing is trained here: weights get no gradients, but images may. Metrics are computed in full
//! float32, whatever the caller's autocast; losses follow the caller's autocast. The files are
//! safetensors that `scripts/convert_weights.py` makes from the published PyTorch files. They are
//! checked strictly: names, shapes and types must match.

mod alexnet;
mod inception;
mod lpips;
mod vgg16;
mod weights;

use std::io;
use std::path::{Path, PathBuf};

use pixtok_base::paths::absence;
use pixtok_torch::TorchError;

pub use inception::Inception;
pub use lpips::{Backbone, Differences, Lpips};
use pixtok_base::{Class, Classified};

/// The reason why a network was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// The file does not exist or cannot be read.
    #[error("cannot read the weights {}; check the path{}", .path.display(), which_is_absent(.path, .source))]
    Read {
        /// The path as given.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file holds something other than the expected weights.
    #[error(
        "{} seems to be {found}, but {wanted} are needed; convert the published files with scripts/convert_weights.py",
        .path.display()
    )]
    Unfit {
        /// The path as given.
        path: PathBuf,
        /// What the file seems to hold.
        found: String,
        /// What was expected, in the plural.
        wanted: &'static str,
    },
    /// libtorch could not load the weights to the device.
    #[error("cannot load the weights {}", .path.display())]
    Torch {
        /// The path as given.
        path: PathBuf,
        /// libtorch's error.
        source: TorchError,
    },
}

fn which_is_absent(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(", which {}", absence(path)),
        _ => String::new(),
    }
}

impl Classified for NetError {
    fn class(&self) -> Class {
        Class::Misuse
    }
}
