//! Fixed published networks, with weights from files that the user gives: AlexNet and VGG16 as LPIPS compares images
//! with them, and the Inception of the Fréchet distance.
//!
//! Nothing is trained here: weights get no gradients, while images may. What measures computes in full float32, whatever
//! the caller's autocast; what a training minimises follows it. The files are safetensors that `scripts/convert_weights.py` makes of the published
//! PyTorch ones; they are read strictly, by name, shape and type.

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

/// Why a network was not loaded.
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// There is no such file, or it cannot be read.
    #[error("cannot read the weights {}; check the path{}", .path.display(), which_is_absent(.path, .source))]
    Read {
        /// What was given.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file holds something else.
    #[error(
        "{} seems to be {found}, and {wanted} are expected; convert the published files with scripts/convert_weights.py",
        .path.display()
    )]
    Unfit {
        /// What was given.
        path: PathBuf,
        /// What it is, as far as one can tell.
        found: String,
        /// What was asked for.
        wanted: &'static str,
    },
    /// libtorch could not hold the weights on the device.
    #[error("cannot load the weights {}", .path.display())]
    Torch {
        /// What was given.
        path: PathBuf,
        /// What libtorch said.
        source: TorchError,
    },
}

fn which_is_absent(path: &Path, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => format!(", which {}", absence(path)),
        _ => String::new(),
    }
}
