//! Resizing a part of a picture must not read outside the picture. Without AddressSanitizer these
//! tests only run the cases; `just test-asan` runs them with it.
#![allow(
    clippy::unwrap_used,
    unsafe_code,
    reason = "a test ends by panicking, and names versions that the processor has"
)]

use fast_image_resize::images::{Image, ImageRef};
use fast_image_resize::{CpuExtensions, Filter, FilterType, PixelType, ResizeAlg, ResizeOptions, Resizer};

/// The versions of the library's loops that this processor supports.
fn versions() -> Vec<CpuExtensions> {
    #[cfg(target_arch = "x86_64")]
    let all = vec![CpuExtensions::None, CpuExtensions::Sse4_1, CpuExtensions::Avx2];
    #[cfg(target_arch = "aarch64")]
    let all = vec![CpuExtensions::None, CpuExtensions::Neon];
    #[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
    let all = vec![CpuExtensions::None];
    all.into_iter().filter(CpuExtensions::is_supported).collect()
}

/// The filters of `data.filter`.
fn filters() -> [FilterType; 4] {
    let bicubic = Filter::new("Catmull-Rom", pixtok_pixels::catmull_rom, 2.0).unwrap();
    [FilterType::Lanczos3, FilterType::Custom(bicubic), FilterType::Bilinear, FilterType::Box]
}

/// Start and length of parts of a side of `length` pixels that are resized to `target`: the whole
/// side, parts at either edge, whole and fractional pixels, and parts whose first or last new pixel
/// falls on the middle of an old one.
fn parts(length: f64, target: f64) -> Vec<(f64, f64)> {
    let half = (length / 2.0).max(1.0);
    let scale = half / target;
    let offset = (1.0 - scale) / 2.0;
    let parts = [
        (0.0, length),
        (0.0, half),
        (length - half, half),
        (length - 1.0, 1.0),
        (0.25, length - 0.25),
        (length - half - 1.0 / 3.0, half),
        (0.0, 1.0 / 3.0),
        (offset, half),
        (offset + 1.0, half),
        (length - half - offset, half),
        (length - half - offset - 1.0, half),
    ];
    parts.into_iter().filter(|(start, part)| *start >= 0.0 && start + part <= length).collect()
}

#[test]
fn no_part_of_a_picture_is_resized_from_beside_it() {
    let sides: [usize; 8] = [1, 2, 3, 5, 8, 17, 33, 64];
    let targets: [u32; 6] = [1, 2, 7, 16, 33, 64];
    let mut cases = 0;
    for (version, filter) in
        versions().into_iter().flat_map(|version| filters().map(|filter| (version, filter)))
    {
        let mut resizer = Resizer::new();
        // SAFETY: the processor has this version.
        unsafe { resizer.set_cpu_extensions(version) };
        for (index, &width) in sides.iter().enumerate() {
            // The buffer is exactly as long as the picture, so that the memory behind it is not
            // ours.
            let height = sides[(index + 3) % sides.len()];
            let pixels = vec![200u8; 3 * width * height].into_boxed_slice();
            let source = ImageRef::new(width as u32, height as u32, &pixels, PixelType::U8x3).unwrap();
            for (at, &wide) in targets.iter().enumerate() {
                let high = targets[(at + 2) % targets.len()];
                for (left, part_width) in parts(width as f64, f64::from(wide)) {
                    for (top, part_height) in parts(height as f64, f64::from(high)) {
                        let mut resized = vec![0u8; 3 * (wide * high) as usize].into_boxed_slice();
                        let mut target =
                            Image::from_slice_u8(wide, high, &mut resized, PixelType::U8x3).unwrap();
                        let options = ResizeOptions::new().resize_alg(ResizeAlg::Convolution(filter)).crop(
                            left,
                            top,
                            part_width,
                            part_height,
                        );
                        pixtok_pixels::resize(&mut resizer, &source, &mut target, &options).unwrap();
                        // The picture has one colour, so any other value was read from outside it.
                        assert!(
                            resized.iter().all(|value| value.abs_diff(200) <= 1),
                            "{version:?} {filter:?}: {width}x{height} at {left},{top} {part_width}x{part_height} to {wide}x{high}"
                        );
                        cases += 1;
                    }
                }
            }
        }
    }
    assert!(cases > 10_000, "{cases}");
}
