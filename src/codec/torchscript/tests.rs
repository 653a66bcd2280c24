use std::fs;

use super::*;

/// The size of the images.
const SIZE: ImageSize = ImageSize { height: 20, width: 28 };
/// Pixels per position.
const FACTOR: i64 = 4;

/// A traced module with one argument.
fn traced(example: &Tensor, run: impl Fn(&Tensor) -> Tensor) -> CModule {
    let mut forward = |inputs: &[Tensor]| vec![run(&inputs[0])];
    no_grad(|| CModule::create_by_tracing("Module", "forward", &[example.shallow_clone()], &mut forward))
        .unwrap()
}

/// The mean grey of 4×4 pixels as one of 256 codes, `[B, h, w]` of `kind`.
fn grey_codes(images: &Tensor, kind: Kind) -> Tensor {
    let means = images.mean_dim([1i64].as_slice(), true, Kind::Float).avg_pool2d(
        [FACTOR, FACTOR],
        [FACTOR, FACTOR],
        [0, 0],
        false,
        true,
        None,
    );
    ((means + 1.0) * 127.5).round().clamp(0.0, 255.0).squeeze_dim(1).to_kind(kind)
}

/// Codes as images in `range`.
fn grey_images(codes: &Tensor, [black, white]: [f64; 2]) -> Tensor {
    let grey = codes.to_kind(Kind::Float) / 255.0 * (white - black) + black;
    let wide = grey.repeat_interleave_self_int(FACTOR, 1, None).repeat_interleave_self_int(FACTOR, 2, None);
    wide.unsqueeze(1).repeat([1, 3, 1, 1])
}

/// A pair in a folder, loaded through an adapter with additional `keys`.
struct Pair {
    folder: tempfile::TempDir,
}

impl Pair {
    fn new(
        images: &Tensor,
        encoder: impl Fn(&Tensor) -> Tensor,
        decoder: impl Fn(&Tensor) -> Tensor,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let images = images.to_kind(Kind::Float) / 127.5 - 1.0;
        traced(&images, &encoder).save(folder.path().join("encoder.pt")).unwrap();
        traced(&encoder(&images), decoder).save(folder.path().join("decoder.pt")).unwrap();
        Self { folder }
    }

    fn load(&self, keys: &str) -> TorchScript {
        let files = "encoder = \"encoder.pt\"\ndecoder = \"decoder.pt\"\n";
        let text = format!("{files}codebook_size = 256\ndownsample = {FACTOR}\nimage_size = 32\n{keys}");
        let path = self.folder.path().join("adapter.toml");
        fs::write(&path, &text).unwrap();
        TorchScript::load(toml::from_str(&text).unwrap(), &path, Device::Cpu).unwrap()
    }
}

/// Ramps of 20×28 pixels, each a little brighter than the previous one.
fn images(count: i64) -> Tensor {
    let shift = Tensor::arange(count, (Kind::Int64, Device::Cpu)).reshape([count, 1, 1, 1]);
    (ramp(count, (20, 28), Device::Cpu).to_kind(Kind::Int64) + shift).clamp(0, 255).to_kind(Kind::Uint8)
}

const UNIT: [f64; 2] = [-1.0, 1.0];

fn refusal(pair: &mut TorchScript, count: i64, batch_size: usize) -> String {
    pair.try_on(&images(count), batch_size).unwrap_err().to_string()
}

/// The only doubt about a pair.
fn single_note(pair: &TorchScript) -> &str {
    assert_eq!(pair.notes().len(), 1, "{:?}", pair.notes());
    &pair.notes()[0]
}

#[test]
fn indices_go_back_in_the_type_and_shape_that_the_encoder_gave() {
    // Multiplied by 2^32, 32-bit numbers wrap to 0 and others turn white.
    let decode = |codes: &Tensor| {
        let high = (codes * 65_536i64) * 65_536i64;
        grey_images(&(codes + high).clamp(0, 255), UNIT)
    };
    let pair = Pair::new(&images(2), |images| grey_codes(images, Kind::Int), decode);
    let mut pair = pair.load("");
    pair.try_on(&images(3), 32).unwrap();
    let indices = pair.encode(&images(5)).unwrap();
    assert_eq!((indices.kind(), indices.size()), (Kind::Int64, vec![5, 5, 7]));
    assert_eq!(pair.decode(&indices, SIZE).unwrap().size(), [5, 3, 20, 28]);
    assert_eq!(pair.notes(), [""; 0]);

    let flat = |images: &Tensor| grey_codes(images, Kind::Int).flatten(1, 2);
    let decode = |codes: &Tensor| grey_images(&codes.view([-1, 5, 7]), UNIT);
    let mut pair = Pair::new(&images(2), flat, decode).load("");
    pair.try_on(&images(3), 32).unwrap();
    assert_eq!(pair.decode(&indices, SIZE).unwrap().size(), [5, 3, 20, 28]);
}

#[test]
fn a_pair_of_a_fixed_batch_gets_whole_ones() {
    let fixed = |images: &Tensor| grey_codes(&images.view([4, 3, 20, 28]), Kind::Int64);
    let files = Pair::new(&images(4), fixed, |codes| grey_images(&codes.view([4, 5, 7]), UNIT));
    let any =
        Pair::new(&images(4), |images| grey_codes(images, Kind::Int64), |codes| grey_images(codes, UNIT));
    let (mut pair, mut other) = (files.load(""), any.load(""));
    other.try_on(&images(4), 4).unwrap();
    // A whole batch, then the last one; or a set with fewer images than a batch.
    for (first, batch_size) in [(4, 4), (3, 4)] {
        pair.try_on(&images(first), batch_size).unwrap();
        for count in [1, 3, 4] {
            let indices = pair.encode(&images(count)).unwrap();
            assert_eq!(indices, other.encode(&images(count)).unwrap());
            assert_eq!(pair.decode(&indices, SIZE).unwrap(), other.decode(&indices, SIZE).unwrap());
        }
    }
    let mut pair = files.load("");
    for (count, batch_size) in [(32, 32), (9, 32), (8, 8)] {
        let words = refusal(&mut pair, count, batch_size);
        assert!(words.contains(&format!("takes 4 image(s) at a time, not {batch_size}")), "{words}");
        assert!(words.contains("--batch-size 4"), "{words}");
    }
    let words = refusal(&mut pair, 2, 2);
    assert!(words.contains("the encoder refuses the images") && words.contains("--batch-size"), "{words}");
    // A pair that was traced with a single image and is tried on one.
    let single = |images: &Tensor| grey_codes(&images.view([1, 3, 20, 28]), Kind::Int64);
    let mut pair = Pair::new(&images(1), single, |codes| grey_images(codes, UNIT)).load("");
    assert!(refusal(&mut pair, 3, 32).contains("--batch-size 1"));
    pair.try_on(&images(1), 32).unwrap();
    let words = pair.encode(&images(3)).unwrap_err().to_string();
    assert!(words.contains("--batch-size"), "{words}");
}

#[test]
fn a_range_that_cannot_be_is_refused_and_a_doubtful_one_noted() {
    let pair = |range| {
        Pair::new(
            &images(2),
            |images| grey_codes(images, Kind::Int64),
            move |codes| grey_images(codes, range),
        )
    };
    let words = refusal(&mut pair([0.0, 255.0]).load(""), 3, 32);
    assert!(words.contains("beyond twice its range, input_range = [-1.0, 1.0]"), "{words}");
    assert!(words.contains("output_range = [0.0, 255.0] fits"), "{words}");
    let mut right = pair([0.0, 255.0]).load("output_range = [0.0, 255.0]\n");
    right.try_on(&images(3), 32).unwrap();
    assert_eq!(right.notes(), [""; 0]);

    let mut doubtful = pair([0.0, 1.0]).load("");
    doubtful.try_on(&images(3), 32).unwrap();
    let words = single_note(&doubtful);
    assert!(words.contains("dark half") && words.contains("output_range = [0.0, 1.0] fits"), "{words}");
    // Once the range is stated, there is no note.
    let mut right = pair([0.0, 1.0]).load("output_range = [0.0, 1.0]\n");
    right.try_on(&images(3), 32).unwrap();
    assert_eq!(right.notes(), [""; 0]);
    let (a, b) = (right.decode(&right.encode(&images(3)).unwrap(), SIZE).unwrap(), images(3));
    assert!((a.to_kind(Kind::Int64) - b.to_kind(Kind::Int64)).abs().max().int64_value(&[]) <= 20);
}

#[test]
fn an_input_range_that_fits_better_is_noted_alone() {
    // A pair that works in [0, 1] on both sides, and one whose decoder makes [-1, 1].
    let pair = |range| {
        Pair::new(
            &images(2),
            |images| grey_codes(&(images * 2.0 - 1.0), Kind::Int64),
            move |codes| grey_images(codes, range),
        )
    };
    for (range, keys, part) in [
        ([0.0, 1.0], "", "input_range = [0.0, 1.0] fits better: "),
        ([0.0, 1.0], "output_range = [0.0, 1.0]\n", "input_range = [0.0, 1.0] fits better: "),
        ([0.0, 1.0], "input_range = [0.0, 255.0]\n", "input_range = [0.0, 1.0] fits better: "),
        (UNIT, "", "input_range = [0.0, 1.0] with output_range = [-1.0, 1.0] fits better: "),
        (
            UNIT,
            "input_range = [0.0, 255.0]\noutput_range = [-1.0, 1.0]\n",
            "input_range = [0.0, 1.0] fits better: ",
        ),
    ] {
        let mut pair = pair(range).load(keys);
        pair.try_on(&images(3), 32).unwrap();
        let words = single_note(&pair);
        assert!(words.starts_with(part) && words.contains("dB on the first images instead of"), "{words}");
        assert!(pair.input_doubtful(), "{keys}");
    }
    let mut right = pair([0.0, 1.0]).load("input_range = [0.0, 1.0]\n");
    right.try_on(&images(3), 32).unwrap();
    assert_eq!((right.notes(), right.input_doubtful()), (&[][..], false));
}

/// `[2, 3, 20, 28]`: a ramp, and the same ramp with a quarter of the brightness.
fn bright_and_dark() -> Tensor {
    Tensor::cat(&[images(1), images(1).floor_divide_scalar(4)], 0)
}

/// Batch normalisation in training mode: by the mean and deviation of the batch. A ramp stays in
/// [−1, 1].
fn normalised(images: &Tensor) -> Tensor {
    let none = None::<&Tensor>;
    images.batch_norm(none, none, none, none, true, 0.1, 1e-5, false) * 0.5
}

#[test]
fn a_pair_with_dropout_is_noted() {
    let encode = |images: &Tensor| grey_codes(images, Kind::Int64);
    let decode = |codes: &Tensor| grey_images(codes, UNIT);
    let mut pair = Pair::new(&images(2), |images| encode(&images.dropout(0.5, true)), decode).load("");
    pair.try_on(&images(3), 32).unwrap();
    let words = single_note(&pair);
    assert!(words.contains("the encoder is random") && words.contains("of the first images"), "{words}");
    assert!(words.contains("call .eval() before torch.jit.trace"), "{words}");

    let mut pair = Pair::new(&images(2), encode, |codes| decode(codes).dropout(0.5, true) * 0.5).load("");
    pair.try_on_ramp(1, (20, 28), 32, Device::Cpu).unwrap();
    let words = single_note(&pair);
    assert!(words.contains("the decoder is random: on a ramp from black to white"), "{words}");
    assert!(words.contains("call .eval() before torch.jit.trace"), "{words}");
}

#[test]
fn a_pair_that_normalises_batches_is_noted() {
    let encode = |images: &Tensor| grey_codes(images, Kind::Int64);
    let decode = |codes: &Tensor| grey_images(codes, UNIT);
    let indices = "an image's indices depend on the other images of its batch";
    let files = Pair::new(&images(2), |images| encode(&normalised(images)), decode);
    let mut pair = files.load("");
    // More images than are tried, once as many as a batch has, once fewer.
    for (images, batch_size) in [(bright_and_dark().repeat([3, 1, 1, 1]), 6), (bright_and_dark(), 32)] {
        pair.try_on(&images, batch_size).unwrap();
        let words = single_note(&pair);
        assert!(words.contains(indices) && words.contains("call .eval() before torch.jit.trace"), "{words}");
    }
    // A single image, and copies of one.
    for count in [1, 4] {
        pair.try_on_ramp(count, (20, 28), 4, Device::Cpu).unwrap();
        assert!(single_note(&pair).contains(indices), "{:?}", pair.notes());
    }
    // A difference of one level is harmless, though most indices differ by one.
    pair.try_on(&images(3), 3).unwrap();
    assert_eq!(pair.notes(), [""; 0]);

    let fixed = |images: &Tensor| encode(&normalised(&images.view([4, 3, 20, 28])));
    let mut pair = Pair::new(&images(4), fixed, decode).load("");
    pair.try_on(&bright_and_dark(), 4).unwrap();
    assert!(single_note(&pair).contains(indices), "{:?}", pair.notes());

    let mut pair = Pair::new(&images(2), encode, |codes| normalised(&decode(codes)) * 0.8).load("");
    pair.try_on(&bright_and_dark(), 32).unwrap();
    let words = single_note(&pair);
    assert!(words.contains("a reconstruction depends on the other images of its batch"), "{words}");
}
