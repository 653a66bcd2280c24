use std::path::Path;
use std::time::{Duration, Instant};

use fast_image_resize::Resizer;

use super::super::resample::cut;
use super::*;
use crate::picture::{DecodeOptions, decode};

const FILTERS: [(Filter, &str); 4] = [
    (Filter::Lanczos, "lanczos"),
    (Filter::Bicubic, "bicubic"),
    (Filter::Bilinear, "bilinear"),
    (Filter::Box, "box"),
];

fn transform(
    height: u32,
    width: u32,
    resize: Option<u32>,
    filter: Filter,
    crop: Crop,
    flip: bool,
) -> Transform {
    let size = ImageSize { height, width };
    Transform { size, resize, filter, crop, flip, stretch: false, bucketed: false }
}

fn picture(height: usize, width: usize) -> Picture {
    let rgb = (0..3 * width * height).map(|i| (i * i * 31 % 251) as u8).collect();
    Picture { width, height, rgb }
}

fn image(transform: &Transform, picture: &Picture, seed: u64) -> Vec<u8> {
    let mut planes = vec![0; transform.image_bytes()];
    transform.apply(picture, Seed(seed), &mut planes).unwrap();
    planes
}

/// A part of `picture` as [3, H, W], pixel by pixel.
fn part(picture: &Picture, top: usize, left: usize, height: usize, width: usize) -> Vec<u8> {
    let at = |c: usize, y: usize, x: usize| picture.rgb[3 * ((top + y) * picture.width + left + x) + c];
    (0..3)
        .flat_map(|c| (0..height).flat_map(move |y| (0..width).map(move |x| (c, y, x))))
        .map(|(c, y, x)| at(c, y, x))
        .collect()
}

fn mirrored(planes: &[u8], width: usize) -> Vec<u8> {
    planes.chunks(width).flat_map(|row| row.iter().rev().copied()).collect()
}

#[test]
fn at_scale_one_a_crop_is_a_copy() {
    let picture = picture(96, 96);
    for (filter, _) in FILTERS {
        let centre = transform(64, 48, Some(96), filter, Crop::Centre {}, false);
        assert_eq!(image(&centre, &picture, 0), part(&picture, 16, 24, 64, 48));
        let random = transform(64, 48, Some(96), filter, Crop::Random {}, true);
        for seed in 0..20 {
            let window = random.window(96.0, 96.0, Seed(seed));
            let expected = part(&picture, window.top as usize, window.left as usize, 64, 48);
            let expected = if window.mirrored { mirrored(&expected, 48) } else { expected };
            assert_eq!(image(&random, &picture, seed), expected);
        }
    }
}

#[test]
fn crops_reach_every_place_and_half_are_mirrored() {
    let random = transform(5, 7, Some(9), Filter::Box, Crop::Random {}, true);
    let windows: Vec<Window> = (0..2000).map(|seed| random.window(9.0, 9.0, Seed(seed))).collect();
    for top in 0..=4 {
        for left in 0..=2 {
            assert!(windows.iter().any(|w| (w.top, w.left) == (f64::from(top), f64::from(left))));
        }
    }
    let mirrored = windows.iter().filter(|window| window.mirrored).count();
    assert!((900..1100).contains(&mirrored), "{mirrored}");
}

#[test]
fn values_agree_with_pillow() {
    // tests/reference/zoo.py, RESIZES: (source height, width), (resized height, width), offset,
    // size.
    let cases = [
        ("down", [53.0, 73.0], [24.0, 33.0], [3.0, 7.0], [16, 20]),
        ("up", [9.0, 11.0], [40.0, 49.0], [5.0, 8.0], [32, 40]),
        ("same", [53.0, 73.0], [53.0, 73.0], [11.0, 20.0], [32, 40]),
    ];
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/zoo/resize");
    let read =
        |name: String| decode(&std::fs::read(folder.join(name)).unwrap(), &DecodeOptions::default()).unwrap();
    for (name, source, resized, offset, [height, width]) in cases {
        let picture = read(format!("{name}.png"));
        let scale = [source[0] / resized[0], source[1] / resized[1]];
        let window = Window {
            top: offset[0] * scale[0],
            left: offset[1] * scale[1],
            height: f64::from(height) * scale[0],
            width: f64::from(width) * scale[1],
            mirrored: false,
        };
        for (filter, filter_name) in FILTERS {
            let expected = read(format!("{name}-{filter_name}.png"));
            let mut got = vec![0; expected.rgb.len()];
            cut(
                View::of(&picture),
                window,
                ImageSize { height, width },
                filter,
                &mut Resizer::new(),
                &mut got,
            )
            .unwrap();
            let largest = got.iter().zip(&expected.rgb).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(largest <= 2, "{name} {filter_name}: {largest}");
        }
    }
}

/// The reference: resize the whole picture, then crop.
fn resized_then_cut(picture: &Picture, filter: Filter, to: ImageSize, top: usize, left: usize) -> Vec<u8> {
    let (height, width) = (to.height as usize, to.width as usize);
    let whole = Window {
        left: 0.0,
        top: 0.0,
        width: picture.width as f64,
        height: picture.height as f64,
        mirrored: false,
    };
    let mut rgb = vec![0; 3 * height * width];
    cut(View::of(picture), whole, to, filter, &mut Resizer::new(), &mut rgb).unwrap();
    part(&Picture { width, height, rgb }, top, left, 16, 20)
}

#[test]
fn one_step_equals_resize_then_crop() {
    let picture = picture(53, 73);
    for (filter, name) in FILTERS {
        // To odd sides: with even ones the box filter's edge can fall on the centre of a pixel.
        // Then the last bit decides whether that pixel counts, as in any implementation.
        let once = transform(16, 20, Some(27), filter, Crop::Random {}, false);
        for seed in 0..20 {
            let window = once.window(73.0, 53.0, Seed(seed));
            let to = ImageSize { height: 27, width: 37 };
            let (top, left) = ((window.top * 27.0 / 53.0).round(), (window.left * 37.0 / 73.0).round());
            let expected = resized_then_cut(&picture, filter, to, top as usize, left as usize);
            let got = image(&once, &picture, seed);
            // Both passes have the same order and round; coefficients may differ in their last bit.
            let largest = got.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(largest <= 1, "{name} at {top}, {left}: {largest}");
        }
    }
}

#[test]
fn without_a_size_the_crop_is_just_covered() {
    let centre = transform(48, 80, None, Filter::Lanczos, Crop::Centre {}, false);
    let window = centre.window(200.0, 100.0, Seed(0));
    assert_eq!((window.width, window.left), (200.0 * 80.0 / 96.0, 8.0 * 200.0 / 96.0));
    assert_eq!((window.height, window.top), (100.0, 0.0));
    let window = centre.window(100.0, 300.0, Seed(0));
    assert_eq!((window.width, window.left), (100.0, 0.0));
    assert_eq!((window.height, window.top), (60.0, 120.0));
}

#[test]
fn windows_stay_inside_any_picture() {
    let resized = Crop::RandomResized { scale: [0.05, 1.0], ratio: [0.5, 2.0] };
    let transforms = [
        transform(64, 48, None, Filter::Lanczos, Crop::Random {}, false),
        transform(64, 48, Some(67), Filter::Lanczos, Crop::Random {}, false),
        transform(64, 48, None, Filter::Lanczos, resized, false),
    ];
    for transform in &transforms {
        for (seed, (height, width)) in
            [(1, 1), (1, 10_000), (10_000, 1), (7, 5), (64, 48), (97, 131), (333, 1001)]
                .into_iter()
                .enumerate()
        {
            let picture = picture(height, width);
            for trial in 0..50 {
                image(transform, &picture, 100 * seed as u64 + trial);
            }
        }
    }
}

#[test]
fn a_very_long_picture_costs_no_more_than_its_crop() {
    let random = transform(64, 64, Some(64), Filter::Lanczos, Crop::Random {}, false);
    let picture = picture(1, 10_000);
    let started = Instant::now();
    image(&random, &picture, 3);
    // Resized as a whole, it would be 64 x 640,000 pixels.
    assert!(started.elapsed() < Duration::from_millis(200), "{:?}", started.elapsed());
}

#[test]
fn resized_crops_keep_to_their_ranges() {
    let (scale, ratio) = ([0.2, 0.6], [0.5, 2.0]);
    let resized = transform(8, 8, None, Filter::Box, Crop::RandomResized { scale, ratio }, false);
    for seed in 0..500 {
        let window = resized.window(150.0, 100.0, Seed(seed));
        let (area, shape) = (window.width * window.height / 15_000.0, window.width / window.height);
        assert!((scale[0] - 1e-9..scale[1] + 1e-9).contains(&area), "{area}");
        assert!((ratio[0] - 1e-9..ratio[1] + 1e-9).contains(&shape), "{shape}");
    }
    // No part of a strip has such an area and shape, so the centre is used.
    let window = resized.window(1000.0, 1.0, Seed(0));
    assert_eq!((window.left, window.top, window.width, window.height), (499.0, 0.0, 2.0, 1.0));
}

#[test]
fn enlarged_parts_that_begin_on_a_whole_pixel_are_read_inside_the_picture() {
    let picture = picture(9, 11);
    for (filter, name) in FILTERS {
        // Three pixels for one: every third offset starts or ends exactly at one of the picture's
        // pixels.
        let enlarged = transform(16, 20, Some(27), filter, Crop::Random {}, false);
        for seed in 0..100 {
            let window = enlarged.window(11.0, 9.0, Seed(seed));
            let (top, left) = ((window.top * 3.0).round() as usize, (window.left * 3.0).round() as usize);
            let to = ImageSize { height: 27, width: 33 };
            let expected = resized_then_cut(&picture, filter, to, top, left);
            let got = image(&enlarged, &picture, seed);
            let largest = got.iter().zip(&expected).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
            assert!(largest <= 1, "{name} at {top}, {left}: {largest}");
        }
    }
}

#[test]
fn what_is_kept_gives_nearly_the_same_image_and_the_same_whenever() {
    let mut largest = [0; 4];
    for (height, width) in [(53, 73), (73, 53), (41, 200), (16, 20), (375, 500), (9, 11)] {
        let picture = picture(height, width);
        for ((filter, _), largest) in FILTERS.into_iter().zip(&mut largest) {
            for resize in [None, Some(27), Some(64)] {
                let random = transform(16, 20, resize, filter, Crop::Random {}, true);
                assert!(random.keeps(&picture));
                let whole = random.whole(picture.clone()).unwrap();
                for seed in 0..20 {
                    let mut planes = vec![0; random.image_bytes()];
                    random.finish(whole.view(), Seed(seed), &mut planes).unwrap();
                    let direct = image(&random, &picture, seed);
                    let difference = planes.iter().zip(&direct).map(|(a, b)| a.abs_diff(*b)).max().unwrap();
                    *largest = difference.max(*largest);
                }
            }
        }
    }
    // As the docs of `cache_gib` say. A box's edge can fall on the centre of a pixel, see above.
    assert!(largest[..3].iter().all(|&difference| difference <= 2), "{largest:?}");
}

#[test]
fn a_picture_that_is_cut_first_is_kept_as_it_is() {
    let crop = Crop::RandomResized { scale: [0.3, 1.0], ratio: [0.75, 1.333] };
    let resized = transform(16, 20, None, Filter::Bicubic, crop, true);
    let picture = picture(53, 973);
    assert!(resized.keeps(&picture));
    let whole = resized.whole(picture.clone()).unwrap();
    for seed in 0..20 {
        let mut planes = vec![0; resized.image_bytes()];
        resized.finish(whole.view(), Seed(seed), &mut planes).unwrap();
        assert_eq!(planes, image(&resized, &picture, seed));
    }
    let random = transform(16, 20, Some(64), Filter::Bicubic, Crop::Random {}, true);
    assert!(!random.keeps(&picture), "its resized form would be 18 times as wide as high");
}

#[test]
fn small_pictures_are_known_to_be_enlarged() {
    let enlarged = |resize, height, width| {
        let transform = transform(32, 48, resize, Filter::Bicubic, Crop::Centre {}, false);
        transform.enlarges(&picture(height, width))
    };
    assert!(enlarged(None, 31, 48) && enlarged(None, 32, 47) && enlarged(Some(64), 63, 200));
    assert!(!enlarged(None, 32, 48) && !enlarged(None, 100, 60) && !enlarged(Some(64), 64, 64));
}

/// A bucket's image shows the whole picture but for what its aspect takes off one pair of sides.
#[test]
fn a_bucket_cuts_no_more_than_it_needs() {
    for crop in [Crop::Random {}, Crop::Centre {}] {
        let whole = transform(64, 64, None, Filter::Bilinear, crop, true);
        for (height, width) in [(64, 64), (48, 80), (96, 40), (40, 104)] {
            let bucket = whole.of_bucket(ImageSize { height, width });
            for seed in 0..300 {
                let side = |name: &str| 20.0 + (Seed(seed).derive(name, &[]).0 % 900) as f64;
                let picture = [side("width"), side("height")];
                let window = bucket.window(picture[0], picture[1], Seed(seed));
                // The largest part of the picture that has the bucket's aspect.
                let scale = (picture[0] / f64::from(width)).min(picture[1] / f64::from(height));
                let largest = [f64::from(width) * scale, f64::from(height) * scale];
                // The resized sides are whole pixels.
                let loss = |axis: usize| largest[axis] - [window.width, window.height][axis];
                assert!(loss(0) < scale && loss(1) < scale, "{picture:?} to {height}×{width}: {window:?}");
                let inside = |start: f64, length: f64, all: f64| start >= 0.0 && start + length <= all + 1e-9;
                assert!(inside(window.left, window.width, picture[0]));
                assert!(inside(window.top, window.height, picture[1]));
            }
        }
    }
}
