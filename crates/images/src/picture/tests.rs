use image::DynamicImage;

use super::*;

fn gradient(width: usize, height: usize) -> Picture {
    let rgb = (0..3 * width * height).map(|i| (i * 7 % 251) as u8).collect();
    Picture { width, height, rgb }
}

#[test]
fn a_png_comes_back() {
    let picture = gradient(5, 7);
    let decoded = decode(&picture.to_png().unwrap(), &DecodeOptions::default()).unwrap();
    assert_eq!(*decoded, picture);
}

#[test]
fn a_buffer_of_the_wrong_length_is_an_error() {
    let picture = Picture { width: 5, height: 7, rgb: vec![0; 9] };
    assert!(picture.to_png().unwrap_err().to_string().contains("5x7"));
}

#[test]
fn sixteen_bits_are_rounded() {
    let values: Vec<u16> = (0..=u16::MAX).collect();
    let image = image::ImageBuffer::<image::Luma<u16>, _>::from_raw(256, 256, values.clone()).unwrap();
    let mut png = Vec::new();
    DynamicImage::ImageLuma16(image).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
    let picture = decode(&png, &DecodeOptions::default()).unwrap();
    for (value, pixel) in values.iter().zip(picture.rgb.chunks(3)) {
        let expected = (f64::from(*value) / 257.0).round() as u8;
        assert_eq!(pixel, [expected; 3], "{value}");
    }
}

#[test]
fn alpha_is_rounded_once() {
    let background = [200, 17, 3];
    let rgba: Vec<u8> = (0..256 * 256usize).flat_map(|i| [(i / 256) as u8, 90, 255, i as u8]).collect();
    let image = image::RgbaImage::from_raw(256, 256, rgba.clone()).unwrap();
    let mut png = Vec::new();
    DynamicImage::ImageRgba8(image).write_to(&mut Cursor::new(&mut png), ImageFormat::Png).unwrap();
    let picture = decode(&png, &DecodeOptions { background, ..Default::default() }).unwrap();
    for (source, pixel) in rgba.chunks(4).zip(picture.rgb.chunks(3)) {
        let alpha = f64::from(source[3]) / 255.0;
        for channel in 0..3 {
            let exact = f64::from(source[channel]) * alpha + f64::from(background[channel]) * (1.0 - alpha);
            assert!((f64::from(pixel[channel]) - exact).abs() <= 0.5 + 1e-9, "{source:?} {pixel:?}");
        }
    }
}

#[test]
fn overlong_and_missing_files_are_not_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("long.png");
    // A hole in the file system, not 4 GiB of data.
    fs::File::create(&path).unwrap().set_len(1 << 32).unwrap();
    let message = read(&path, &DecodeOptions::default()).unwrap_err().to_string();
    assert!(message.contains("4294967296 bytes"), "{message}");
    let message = read(&folder.path().join("gone.png"), &DecodeOptions::default()).unwrap_err().to_string();
    assert!(message.contains("cannot read it"), "{message}");
}

#[test]
fn a_limit_of_memory_reads_as_it_was_set() {
    let error = PictureError::Memory { bytes: 3 << 29, limit: (0.001 * f64::from(1 << 30)) as u64 };
    let message = error.to_string();
    assert!(message.contains("takes 1.50 GiB, more than data.decode_gib = 0.001 allows"), "{message}");
}
