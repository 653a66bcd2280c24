//! Tests a tokenizer whose tokens form a sequence in everything that a grid goes through.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tch::{Device, Kind, Tensor};

use crate::batches::{Loader, picture_of, tensor_of};
use crate::codec::Codec;
use crate::codec::trace;
use crate::commands::inspect;
use crate::config::Config;
use crate::evaluate::{Measures, Options, Subject, evaluate};
use crate::export::{
    DecodeOptions, EncodeOptions, Encoded, IdOptions, Part, Progress, TakeOptions, Watch, decode_by,
    encode_by,
};
use crate::model::{
    self, Decode, Decoder, Encoder, ImageSize, ModelError, TokenShape, Tokenizer, images_from_bytes,
};
use crate::outputs::write_png;
use crate::quantizer::Mode;
use crate::run::{Compute, ModelChoice, Opened, Tell, Trained, WeightsChoice, publish_toy};
use crate::variables::{Component, Init, Scope, Variables};
use crate::world::World;
use pixtok_base::seed::Seed;
use pixtok_images::data::{Dataset, Split};
use pixtok_images::picture::{DecodeOptions as PictureOptions, Picture, read};
use pixtok_tokens::{Axes, FormatKind, Grid, Preset, TokenSet};
use pixtok_torch::{DeviceChoice, Precision, no_grad};

/// Of its images.
pub(crate) const SIZE: ImageSize = ImageSize { height: 16, width: 24 };
const PIXELS: i64 = 3 * 16 * 24;
/// The number of tokens of an image, and of numbers in a latent.
pub(super) const TOKENS: i64 = 5;
pub(crate) const SEQUENCE: TokenShape = TokenShape::Sequence { n: TOKENS as u32 };
pub(super) const DIM: i64 = 2;

/// A matrix from all pixels to all latents.
#[derive(Debug)]
struct Linear {
    weight: Tensor,
    shape: TokenShape,
}

impl Linear {
    fn new(scope: &Scope, from: i64, to: i64, shape: TokenShape) -> Self {
        let init = Init::Gaussian { mean: 0.0, deviation: (from as f64).powf(-0.5) };
        Self { weight: scope.matrix("weight", [from, to], init), shape }
    }

    fn positions(&self) -> i64 {
        self.shape.positions() as i64
    }
}

impl Encoder for Linear {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        if image == SIZE {
            return Ok(self.shape);
        }
        Err(ModelError::Network(format!("images are of {SIZE} pixels here, and this one of {image}")))
    }

    /// Nothing takes it for a promise that images of other sizes work.
    fn side_multiple(&self) -> i64 {
        4
    }

    fn only_size(&self) -> Option<ImageSize> {
        Some(SIZE)
    }

    fn device(&self) -> Device {
        self.weight.device()
    }

    fn forward(&self, images: &Tensor, _mode: Mode) -> Tensor {
        images.flatten(1, -1).matmul(&self.weight).view([-1, self.positions(), DIM]) * 3.0
    }
}

impl Decoder for Linear {
    fn last_layer(&self) -> &Tensor {
        &self.weight
    }

    fn forward(&self, z_q: &Tensor, shape: TokenShape, image: ImageSize, _how: &Decode) -> Tensor {
        assert_eq!((shape, image), (self.shape, SIZE));
        z_q.flatten(1, 2).matmul(&self.weight).view([-1, 3, 16, 24])
    }
}

/// The toy in training, with a config that has the same quantizer.
pub(crate) fn parts(quantizer: &str, shape: TokenShape) -> (Config, Tokenizer, Variables) {
    let text = format!("[data]\ntrain = \"none\"\nimage_size = [16, 24]\n[quantizer]\n{quantizer}\n");
    let config: Config = toml::from_str(&text).unwrap();
    let (config, store) = (config.resolved(), Variables::new(Device::Cpu));
    pixtok_torch::reseed(Seed(1));
    let quantizer = config.quantizer.settings().build(&store.scope(Component::Quantizer), DIM).unwrap();
    let numbers = shape.positions() as i64 * DIM;
    let encoder = Linear::new(&store.scope(Component::Encoder), PIXELS, numbers, shape);
    let decoder = Linear::new(&store.scope(Component::Decoder), numbers, PIXELS, shape);
    let tokenizer = Tokenizer::from_parts(Box::new(encoder), quantizer, Box::new(decoder));
    (config, tokenizer, store)
}

/// The toy as if it was trained.
pub(crate) fn toy(quantizer: &str) -> Trained {
    toy_of(quantizer, SEQUENCE)
}

/// The same with tokens in another shape.
pub(crate) fn toy_of(quantizer: &str, shape: TokenShape) -> Trained {
    let (config, tokenizer, store) = parts(quantizer, shape);
    Trained::from_parts(config, tokenizer, store)
}

pub(crate) const FSQ: &str = "kind = \"fsq\"\nlevels = [5, 3]";
pub(crate) const RESIDUAL: &str =
    "kind = \"residual\"\nstages = 2\neach = { kind = \"fsq\", levels = [5, 3] }";

/// Seven pictures in a folder.
pub(super) fn pictures(folder: &Path) -> PathBuf {
    let images = folder.join("images");
    pixtok_torch::reseed(Seed(2));
    for i in 0..7 {
        let noise = Tensor::randint(256, [3, 16, 24], (Kind::Uint8, Device::Cpu));
        write_png(&images.join(format!("{i}.png")), &picture_of(&noise).unwrap()).unwrap();
    }
    images
}

pub(super) fn picture(path: &Path) -> Picture {
    read(path, &PictureOptions::default()).unwrap().release()
}

fn compute() -> Compute {
    Compute { device: DeviceChoice::Cpu, threads: None }
}

pub(super) fn encoding(data: &Path, out: &Path, format: FormatKind) -> EncodeOptions {
    EncodeOptions {
        tokenizer: PathBuf::new(),
        choice: ModelChoice::default(),
        compute: compute(),
        data: data.to_owned(),
        take: TakeOptions::default(),
        out: out.to_owned(),
        format,
        whole: false,
        image_size: None,
        resize: None,
        flip: false,
        prefix: None,
        ids: IdOptions::default(),
        shard_rows: Some(3),
        shard_bytes: None,
        part: None,
        val_share: None,
        prefix_keys: false,
        batch_size: Some(4),
        verify: true,
    }
}

pub(super) fn decoding(tokens: &Path, out: &Path) -> DecodeOptions {
    DecodeOptions {
        tokenizer: PathBuf::new(),
        choice: WeightsChoice {
            checkpoint: None,
            weights: None,
            precision: Precision::Fp32,
            positions: None,
        },
        compute: compute(),
        tokens: tokens.to_owned(),
        like: None,
        skip_bad: false,
        out: out.to_owned(),
        sheets: false,
        limit: None,
        batch_size: Some(4),
        force: false,
    }
}

struct Nobody;

impl Watch for Nobody {
    fn begin(&mut self, _total: u64, _done: u64) {}

    fn show(&mut self, _progress: &Progress) {}

    fn end(&mut self) {}
}

pub(super) fn encoded(opened: &Opened, options: &EncodeOptions) -> anyhow::Result<Encoded> {
    encode_by(opened, Part::ALL, Device::Cpu, options, Tell::to(&|_| ()), &mut Nobody)
}

/// Images are encoded to files and decoded, with one codebook and with two.
#[test]
fn a_sequence_comes_back_from_every_format() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    for (quantizer, numbers) in [(FSQ, 1), (RESIDUAL, 2)] {
        let opened = Opened::Own(Box::new(toy(quantizer)));
        for &format in FormatKind::ALL {
            let name = format!("{format}-{numbers}");
            let (out, back) = (scratch.path().join(&name), scratch.path().join(format!("{name}-images")));
            let made = encoded(&opened, &encoding(&images, &out, format)).unwrap();
            assert!(matches!(made, Encoded::Whole(_)), "{name}");

            let sets = TokenSet::find(&out).unwrap();
            let sidecar = &sets[0].sidecar;
            assert!(sidecar.grid.is_sequence() && sidecar.axes == Axes::Sequence, "{name}");
            assert_eq!(sidecar.length, Some(TOKENS as u32 * numbers), "{name}");
            let rows: Vec<_> = sets[0].rows().map(Result::unwrap).collect();
            assert!(rows.iter().all(|row| row.grid == Grid { h: 1, w: 5 }), "{name}");
            let words = inspect::stated(&sets[0]);
            assert!(words.contains("a sequence of 5 for images of 16×24 pixels"), "{name}: {words}");

            let written =
                decode_by(&opened, Device::Cpu, &sets, &decoding(&out, &back), Tell::to(&|_| ())).unwrap();
            assert_eq!((written, rows.len()), (7, 7), "{name}");
            for row in &rows {
                let original = tensor_of(&picture(&images.join(format!("{}.png", row.key)))).unwrap();
                // A batch of one, because matrix products of different sizes may differ in their
                // last bits.
                let codec = opened.codec();
                let indices = codec.encode(&original.unsqueeze(0)).unwrap();
                let recon = codec.decode(&indices, SIZE).unwrap().get(0);
                let stored = tensor_of(&picture(&back.join(format!("{}.png", row.key)))).unwrap();
                let off = (recon.to_kind(Kind::Int) - stored.to_kind(Kind::Int)).abs().max();
                assert!(off.int64_value(&[]) <= 1, "{name}: {}", row.key);
            }
        }
    }
}

#[test]
fn what_only_a_grid_can_do_is_refused_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    let opened = Opened::Own(Box::new(toy(FSQ)));
    let plain = || encoding(&images, &scratch.path().join("out"), FormatKind::Npy);
    let eol = IdOptions { eol: Some(100), ..IdOptions::default() };
    let sizes = IdOptions { size_tokens: Some("grid:100".parse().unwrap()), ..IdOptions::default() };
    let preset = IdOptions { preset: Some(Preset::Emu3), ..IdOptions::default() };
    let words = |opened: &Opened, options: &EncodeOptions| {
        format!("{:#}", encoded(opened, options).map(|_| ()).unwrap_err())
    };
    for (options, part) in [
        (EncodeOptions { whole: true, ..plain() }, "--fit whole"),
        (EncodeOptions { ids: eol, ..plain() }, "--eol"),
        (EncodeOptions { ids: sizes, ..plain() }, "--size-tokens"),
        (EncodeOptions { ids: preset, ..plain() }, "presets with them"),
    ] {
        let words = words(&opened, &options);
        assert!(words.contains(part) && words.contains("sequence"), "{words}");
    }
    // A grid of one size is no grid of any.
    let grid = Opened::Own(Box::new(toy_of(FSQ, TokenShape::Grid { h: 4, w: 6 })));
    for opened in [&opened, &grid] {
        let options = EncodeOptions { image_size: Some(32), ..plain() };
        let words = words(opened, &options);
        assert!(words.contains("--image-size is 32") && words.contains("exactly 16×24 pixels"), "{words}");
    }
    let words = words(&grid, &EncodeOptions { whole: true, ..plain() });
    assert!(words.contains("--fit whole") && words.contains("exactly 16×24 pixels; leave it out"), "{words}");
    assert!(!scratch.path().join("out").exists());
}

#[test]
fn a_sequence_is_evaluated_without_its_mirror_image() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    let trained = toy(RESIDUAL);
    let dataset = Arc::new(Dataset::open(&images, Split::All).unwrap());
    let loader = Loader::eval(dataset, &trained.config.data, 4, None, Device::Cpu, &World::single()).unwrap();
    let codec = trained.codec();
    let subject = Subject::Codec { codec: &codec, loader, stability: true };
    let options =
        Options { device: Device::Cpu, pictures: Default::default(), foreign: false, world: World::single() };
    let figures = evaluate(subject, &Measures::cheap(), &options).unwrap().figures;
    let value = |name: &str| figures.value(name);
    assert_eq!(value("images"), Some(7.0));
    let (bits, pixels) = (2.0 * 15f64.log2(), 16.0 * 24.0);
    assert!((value("bits_per_pixel").unwrap() - bits * 5.0 / pixels).abs() < 1e-9);
    assert!(value("stability_shift").is_some() && value("stability_reencode").is_some());
    // It is no figure of a sequence, and the table says why.
    assert_eq!(value("stability_flip"), None);
    let table = figures.table();
    let row = table.lines().find(|line| line.contains("stability_flip")).unwrap();
    assert!(row.contains("the tokens are a sequence; only those of a grid have a mirror image"), "{row}");
}

#[test]
fn a_sequence_trains() {
    for quantizer in [FSQ, RESIDUAL] {
        let (_config, tokenizer, store) = parts(quantizer, SEQUENCE);
        let images = random_images();
        let out = tokenizer.forward(&images, Mode::train(Seed(4))).unwrap();
        assert_eq!((out.recon.size(), out.latents.size()), (images.size(), vec![3, 5, 2]));
        (&out.recon - &images).square().mean(Kind::Float).backward();
        for name in ["encoder.weight", "decoder.weight"] {
            let gradient = store.tensors()[name].grad();
            assert!(gradient.defined(), "{quantizer}: {name}");
            let largest = gradient.abs().max().double_value(&[]);
            assert!(largest.is_finite() && largest > 0.0, "{quantizer}: {name} has a gradient of {largest}");
        }
        // The decoder is one matrix, so its gradient is known.
        let error = (&out.recon - &images).flatten(1, -1) * (2.0 / images.numel() as f64);
        let expected = out.quantized.latent.flatten(1, 2).tr().matmul(&error);
        let off = (store.tensors()["decoder.weight"].grad() - &expected).abs().max();
        assert!(off.double_value(&[]) <= 1e-5 * expected.abs().max().double_value(&[]), "{quantizer}");
    }
}

/// `[3, 3, 16, 24]` in [−1, 1].
fn random_images() -> Tensor {
    pixtok_torch::reseed(Seed(3));
    images_from_bytes(&Tensor::randint(256, [3, 3, 16, 24], (Kind::Uint8, Device::Cpu)))
}

#[test]
fn a_sequence_is_traced() {
    for (quantizer, axes) in [(FSQ, vec![3, 5]), (RESIDUAL, vec![3, 5, 2])] {
        let trained = toy(quantizer);
        let images = random_images();
        let encoder = trace::encoder(&trained.tokenizer, SIZE).unwrap();
        let decoder = trace::decoder(&trained.tokenizer, SIZE).unwrap();
        assert_eq!(no_grad(|| encoder.forward_ts(&[&images])).unwrap().size(), axes);
        let found = trace::compare(&trained.tokenizer, (&encoder, &decoder), &images).unwrap();
        assert_eq!((found.positions, found.wrong), (15, 0), "{found:?}");
        assert!(found.image_difference < 1e-5, "{found:?}");
    }
    // A different size is refused before anything is computed.
    let trained = toy(FSQ);
    let wide = Tensor::zeros([1, 3, 16, 32], (Kind::Uint8, Device::Cpu));
    assert!(trained.codec().encode(&wide).unwrap_err().to_string().contains("[16, 32]"));
    assert_eq!(model::size_of(&wide), ImageSize { height: 16, width: 32 });
}

/// For `scripts/test_python.py`: in `PIXTOK_SEQUENCES` the pictures, and in a folder for each
/// quantizer the exported toy, its tokens in every format, and the pictures that `pixtok decode`
/// makes of them.
#[test]
#[ignore = "scripts/test_python.py runs it, with a folder, and reads what it writes"]
fn folders_for_python() {
    let root = PathBuf::from(std::env::var_os("PIXTOK_SEQUENCES").unwrap());
    let images = pictures(&root);
    for (name, quantizer) in [("fsq", FSQ), ("residual", RESIDUAL)] {
        let folder = root.join(name);
        fs::create_dir(&folder).unwrap();
        let trained = toy(quantizer);
        publish_toy(&trained, &folder.join("model")).unwrap();
        let opened = Opened::Own(Box::new(trained));
        for &format in FormatKind::ALL {
            let out = folder.join(format.to_string());
            encoded(&opened, &encoding(&images, &out, format)).unwrap();
        }
        let sets = TokenSet::find(&folder.join("npy")).unwrap();
        let options = decoding(&folder.join("npy"), &folder.join("pictures"));
        decode_by(&opened, Device::Cpu, &sets, &options, Tell::to(&|_| ())).unwrap();
    }
}

/// The network of its config has positions that extend.
#[test]
fn a_sidecar_names_the_positions_of_its_tokenizer() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    for (model, stated) in [("kind = \"cnn\"", None), ("kind = \"vit\"\nextension = \"ntk\"", Some("ntk"))] {
        let opened = Opened::Own(Box::new(toy(&format!("{FSQ}\n[model]\n{model}"))));
        let out = scratch.path().join(stated.unwrap_or("none"));
        encoded(&opened, &encoding(&images, &out, FormatKind::Npy)).unwrap();
        let sets = TokenSet::find(&out).unwrap();
        assert_eq!(sets[0].sidecar.positions.map(|positions| positions.to_string()).as_deref(), stated);
        assert_eq!(
            inspect::stated(&sets[0]).contains("positions     ntk, at sizes beyond"),
            stated.is_some()
        );
    }
}

/// Readers in other languages find h and w in their usual places.
#[test]
fn a_sidecar_says_that_it_is_of_a_sequence() {
    let scratch = tempfile::tempdir().unwrap();
    let images = pictures(scratch.path());
    let opened = Opened::Own(Box::new(toy(FSQ)));
    let out = scratch.path().join("out");
    encoded(&opened, &encoding(&images, &out, FormatKind::Npy)).unwrap();
    let path = out.join("tokens.json");
    let text = fs::read_to_string(&path).unwrap();
    let mut stated: serde_json::Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stated["grid"], serde_json::json!({ "h": 1, "w": 5, "shape": "sequence" }));
    for (grid, part) in [
        (serde_json::json!({ "h": 1, "w": 5 }), "its grid has no downsample"),
        (serde_json::json!({ "h": 2, "w": 5, "shape": "sequence" }), "not of one length"),
        (serde_json::json!({ "h": 1, "w": null, "shape": "sequence" }), "not of one length"),
        (serde_json::json!({ "h": 1, "w": 5, "shape": "sequence", "downsample": 8 }), "has a downsample"),
    ] {
        stated["grid"] = grid;
        fs::write(&path, stated.to_string()).unwrap();
        let words = TokenSet::find(&out).map(|_| ()).unwrap_err().to_string();
        assert!(words.contains(part), "{words}");
    }
}
