//! The sizes of the images that a network is trained on.

use super::ImageSize;
use pixtok_images::data;

/// What a network has to know of the sizes of its training images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrainedSizes {
    /// The size that the network is planned for, `data.image_size`.
    pub image: ImageSize,
    /// The largest height and the largest width of all, from which positions extend. There may be no
    /// image that has both.
    pub largest: ImageSize,
}

/// A training on images of one size.
impl From<ImageSize> for TrainedSizes {
    fn from(image: ImageSize) -> Self {
        Self { image, largest: image }
    }
}

/// A training on `data.image_size` and on all sizes of `data.buckets`.
impl From<&data::Config> for TrainedSizes {
    fn from(data: &data::Config) -> Self {
        let image = data.image_size;
        let largest = data.sizes().iter().fold(image, |most, size| ImageSize {
            height: most.height.max(size.height),
            width: most.width.max(size.width),
        });
        Self { image, largest }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_largest_height_and_width_may_be_of_two_images() {
        let of = |text: &str| TrainedSizes::from(&toml::from_str::<data::Config>(text).unwrap());
        let at = |height, width| ImageSize { height, width };
        assert_eq!(of("image_size = [48, 64]"), TrainedSizes::from(at(48, 64)));
        let several = of("image_size = 64\nbuckets = [[48, 80], 64, [96, 32]]");
        assert_eq!(several, TrainedSizes { image: at(64, 64), largest: at(96, 80) });
    }
}
