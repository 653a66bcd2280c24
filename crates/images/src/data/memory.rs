//! The memory of batches. It belongs to the caller and is handed out image by image to the decoding
//! threads.

use std::error::Error;

/// Memory that a batch is decoded into. It belongs to the caller, for instance as pinned memory of
/// a tensor.
///
/// It is split into the memory of its images, so that each thread can own one image's, and joined
/// when all are back.
pub trait BatchMemory: Sized + Send + 'static {
    /// The memory of one image.
    type Image: AsMut<[u8]> + Send + 'static;
    /// What remains without the images.
    type Rest: Send + 'static;

    /// Splits it into the memory of each of its `images` images, in order and of equal length.
    ///
    /// # Errors
    /// When it cannot be split.
    fn split(self, images: usize) -> Result<(Self::Rest, Vec<Self::Image>), MemoryError>;

    /// Joins the parts again.
    ///
    /// # Errors
    /// When `images` are not all images of `rest`, in order.
    fn join(rest: Self::Rest, images: Vec<Self::Image>) -> Result<Self, MemoryError>;
}

/// Copies when it is split and joined: for small images, and for programs that need no speed.
impl BatchMemory for Vec<u8> {
    type Image = Vec<u8>;
    type Rest = ();

    fn split(self, images: usize) -> Result<((), Vec<Vec<u8>>), MemoryError> {
        let bytes = self.len().checked_div(images).filter(|&bytes| bytes > 0);
        let bytes = bytes.ok_or("there is no memory to split")?;
        Ok(((), self.chunks_exact(bytes).map(<[u8]>::to_vec).collect()))
    }

    fn join((): (), images: Vec<Vec<u8>>) -> Result<Self, MemoryError> {
        Ok(images.concat())
    }
}

/// The reason why there is no memory for a batch.
pub type MemoryError = Box<dyn Error + Send + Sync>;

/// Allocates memory for images of the shape `[B, 3, H, W]`, one byte per value.
pub(super) type Allocate<M> = Box<dyn Fn([usize; 4]) -> Result<M, MemoryError> + Send>;
