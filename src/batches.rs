//! Converts the images of `pixtok_images` to tensors and back: batches of a data set, and single
//! pictures.

use std::sync::Arc;

use pixtok_base::seed::Seed;
use pixtok_images::data::{
    self, BatchMemory, Config, Cursor, DataError, Dataset, MemoryError, Share, threads,
};
use pixtok_images::picture::Picture;
use pixtok_torch::{HostBytes, HostRow, SplitBytes, TorchError};
use tch::{Device, Kind, Tensor};

use crate::world::World;

/// A batch whose images are `[B, 3, H, W]` uint8 on the CPU, in pinned memory if they go to CUDA.
pub type Batch = data::Batch<Tensor>;

/// The memory of a batch, held by a tensor.
#[derive(Debug)]
struct Memory(HostBytes);

impl BatchMemory for Memory {
    type Image = HostRow;
    type Rest = SplitBytes;

    fn split(self, _images: usize) -> Result<(SplitBytes, Vec<HostRow>), MemoryError> {
        Ok(self.0.split())
    }

    fn join(rest: SplitBytes, images: Vec<HostRow>) -> Result<Self, MemoryError> {
        Ok(Self(rest.join(images)?))
    }
}

/// Loads the batches of a data set ahead ([`data::Loader`]), as tensors.
#[derive(Debug)]
pub struct Loader {
    dataset: Arc<Dataset>,
    batches: data::Loader<Memory>,
}

impl Loader {
    /// The same as [`data::Loader::train`], for a model on `device` and this process's share of
    /// `world`. `batch_size` is the number of images in a batch of all processes together.
    ///
    /// # Errors
    /// The same as [`data::Loader::train`].
    pub fn train(
        dataset: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        seed: Seed,
        start: Cursor,
        device: Device,
        world: &World,
    ) -> Result<Self, DataError> {
        let (set, memory) = (Arc::clone(&dataset), memory_for(device));
        let config = &sharing_processors(config, world);
        let batches = data::Loader::train(set, config, batch_size, seed, start, share_of(world), memory)?;
        Ok(Self { dataset, batches })
    }

    /// The same as [`data::Loader::eval`], for a model on `device` and this process's share of
    /// `world`.
    ///
    /// # Errors
    /// The same as [`data::Loader::eval`].
    pub fn eval(
        dataset: Arc<Dataset>,
        config: &Config,
        batch_size: usize,
        max_images: Option<usize>,
        device: Device,
        world: &World,
    ) -> Result<Self, DataError> {
        let (set, memory) = (Arc::clone(&dataset), memory_for(device));
        let config = &sharing_processors(config, world);
        let batches = data::Loader::eval(set, config, batch_size, max_images, share_of(world), memory)?;
        Ok(Self { dataset, batches })
    }

    /// The data set that the batches come from.
    #[must_use]
    pub fn dataset(&self) -> &Arc<Dataset> {
        &self.dataset
    }
}

/// The share of a data set's images that this process takes.
#[must_use]
pub fn share_of(world: &World) -> Share {
    Share { rank: world.rank() as usize, size: world.size() as usize }
}

/// The settings of one of several processes. One decoding thread per core is then a thread per core
/// that a process has for itself.
fn sharing_processors(config: &Config, world: &World) -> Config {
    let sharing = world.on_these_processors() as usize;
    let workers = match config.workers {
        0 if sharing > 1 => (threads(0) / sharing).max(1),
        workers => workers,
    };
    Config { workers, ..config.clone() }
}

fn memory_for(device: Device) -> impl Fn([usize; 4]) -> Result<Memory, MemoryError> + Send + 'static {
    move |shape| Ok(Memory(HostBytes::new(&shape.map(|side| side as i64), device)?))
}

impl Iterator for Loader {
    type Item = Result<Batch, DataError>;

    fn next(&mut self) -> Option<Self::Item> {
        let batch = match self.batches.next()? {
            Ok(batch) => batch,
            Err(error) => return Some(Err(error)),
        };
        let data::Batch { images, image_indices, names, labels, marks, cursor, bad } = batch;
        let tensor = images.0.into_rows(names.len() as i64);
        let images = tensor.map_err(|error| DataError::BatchMemory(error.into()));
        let batch = |images| data::Batch { images, image_indices, names, labels, marks, cursor, bad };
        Some(images.map(batch))
    }
}

/// Makes a picture from a tensor on any device.
///
/// # Shapes
/// `tensor`: `[3, H, W]` uint8.
///
/// # Errors
/// When the tensor has a different shape or kind.
pub fn picture_of(tensor: &Tensor) -> Result<Picture, TorchError> {
    let shape = tensor.size();
    let (height, width) = match (shape.as_slice(), tensor.kind()) {
        (&[3, height, width], Kind::Uint8) if height > 0 && width > 0 => (height, width),
        (_, kind) => {
            let words = format!(
                "a picture is a uint8 tensor [3, H, W] of at least one pixel; got {kind:?} {shape:?}"
            );
            return Err(TorchError::Other(words));
        }
    };
    let interleaved = tensor.f_to_device(Device::Cpu)?.f_permute([1, 2, 0])?.f_contiguous()?;
    let mut rgb = vec![0; interleaved.numel()];
    interleaved.f_copy_data_u8(&mut rgb, interleaved.numel())?;
    Ok(Picture { width: width as usize, height: height as usize, rgb })
}

/// Makes a tensor on the CPU from a picture.
///
/// # Shapes
/// Returns `[3, H, W]` uint8.
///
/// # Errors
/// When libtorch refuses, for instance because `rgb` does not have 3 * width * height bytes.
pub fn tensor_of(picture: &Picture) -> Result<Tensor, TorchError> {
    let (height, width) = (picture.height as i64, picture.width as i64);
    let interleaved = Tensor::f_from_slice(&picture.rgb)?.f_view([height, width, 3])?;
    Ok(interleaved.f_permute([2, 0, 1])?.f_contiguous()?)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use pixtok_images::data::{ImageSize, Split};

    use super::*;

    fn picture(width: usize, height: usize) -> Picture {
        let rgb = (0..3 * width * height).map(|i| (i * 7 % 251) as u8).collect();
        Picture { width, height, rgb }
    }

    #[test]
    fn pictures_and_tensors_are_inverses() {
        let picture = picture(5, 7);
        let tensor = tensor_of(&picture).unwrap();
        assert_eq!(tensor.size(), [3, 7, 5]);
        assert_eq!(tensor.int64_value(&[1, 2, 3]), i64::from(picture.rgb[3 * (2 * 5 + 3) + 1]));
        assert_eq!(picture_of(&tensor).unwrap(), picture);
        assert!(tensor_of(&Picture { width: 5, height: 7, rgb: vec![0; 9] }).is_err());
    }

    #[test]
    fn other_tensors_are_refused() {
        let float = Tensor::zeros([3, 5, 7], (Kind::Float, Device::Cpu));
        assert!(picture_of(&float).unwrap_err().to_string().contains("Float [3, 5, 7]"));
        let flat = Tensor::zeros([5, 7], (Kind::Uint8, Device::Cpu));
        assert!(picture_of(&flat).is_err());
        let none = Tensor::zeros([3, 0, 7], (Kind::Uint8, Device::Cpu));
        assert!(picture_of(&none).is_err());
    }

    #[test]
    fn batches_are_tensors_and_the_last_is_shorter() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["a", "b", "c"] {
            fs::write(folder.path().join(name).with_extension("png"), picture(5, 7).to_png().unwrap())
                .unwrap();
        }
        let dataset = Arc::new(Dataset::open(folder.path(), Split::All).unwrap());
        let config = Config { image_size: ImageSize { height: 7, width: 5 }, ..Config::default() };
        let loader = Loader::eval(dataset, &config, 2, None, Device::Cpu, &World::single()).unwrap();
        let batches: Vec<Batch> = loader.map(Result::unwrap).collect();
        let sizes: Vec<Vec<i64>> = batches.iter().map(|batch| batch.images.size()).collect();
        assert_eq!(sizes, [[2, 3, 7, 5], [1, 3, 7, 5]]);
        for image in batches.iter().flat_map(|batch| (0..batch.images.size()[0]).map(|i| batch.images.get(i)))
        {
            assert_eq!(picture_of(&image).unwrap(), picture(5, 7));
        }
    }
}
