//! `pixtok encode`, `decode`, `inspect` and `merge`: what is encoded is decoded again, whatever
//! happens in between.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

#[path = "encode/bad_input.rs"]
mod bad_input;
mod common;
#[path = "encode/fine_tuning.rs"]
mod fine_tuning;
#[path = "encode/generated.rs"]
mod generated;
#[path = "encode/inputs.rs"]
mod inputs;
#[path = "encode/job.rs"]
mod job;
#[path = "encode/keys.rs"]
mod keys;
#[path = "encode/labels.rs"]
mod labels;
#[path = "encode/merge.rs"]
mod merge;
#[path = "encode/parts.rs"]
mod parts;
#[path = "encode/splits.rs"]
mod splits;
#[path = "encode/ways.rs"]
mod ways;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Scratch, contents, device, photographs, pixtok, said};
use pixtok::batches::{Loader, picture_of};
use pixtok::codec::{Codec, Own};
use pixtok::config::Config;
use pixtok::export::Coder;
use pixtok::model::Tokenizer;
use pixtok::variables::Variables;
use pixtok::world::World;
use pixtok_images::data::{Dataset, Split};
use pixtok_images::picture::{DecodeOptions, Picture, read};
use pixtok_tokens::{Division, Format, FormatKind, Row, TokenSet};
use pixtok_torch::Precision;
use pixtok_torch::tensors;
use tch::{Device, Tensor};

/// The names of the formats that have `property`, and of the others.
fn formats(property: impl Fn(&dyn Format) -> bool) -> [Vec<&'static str>; 2] {
    let (having, others): (Vec<FormatKind>, Vec<FormatKind>) =
        FormatKind::ALL.iter().copied().partition(|kind| property(kind.format()));
    [having, others].map(|kinds| kinds.into_iter().map(FormatKind::name).collect())
}

/// Two stages, so that tokens have an additional axis.
const RESIDUAL: &str = "quantizer={kind=\"residual\",stages=2,each={kind=\"fsq\",levels=[8,5]}}";

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// A scratch folder with trained runs and `images/`, 23 photographs in two classes.
struct Export {
    scratch: Scratch,
}

impl Export {
    fn new() -> Self {
        let scratch = Scratch::new();
        for (i, photograph) in photographs("train").into_iter().take(23).enumerate() {
            let folder = scratch.path("images").join(["birds", "trees"][i % 2]);
            fs::create_dir_all(&folder).unwrap();
            fs::copy(photograph, folder.join(format!("{i:02}.jpg"))).unwrap();
        }
        Self { scratch }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.scratch.path(name)
    }

    fn try_encode(&self, run: &str, out: &str, args: &[&str]) -> Output {
        let device = device();
        let (run, images, out) = (text(&self.path(run)), text(&self.path("images")), text(&self.path(out)));
        let mut all = vec!["encode", &run, "--out", &out, "--device", &device];
        if !args.contains(&"--threads") {
            all.extend(["--threads", "1"]);
        }
        if !args.contains(&"--data") {
            all.extend(["--data", &images]);
        }
        if !args.contains(&"--batch-size") {
            all.extend(["--batch-size", "4"]);
        }
        all.extend(args);
        pixtok(&all)
    }

    fn encode(&self, run: &str, out: &str, args: &[&str]) -> String {
        let output = self.try_encode(run, out, args);
        assert!(output.status.success(), "{args:?}: {}", said(&output));
        said(&output)
    }

    fn decode(&self, run: &str, tokens: &str, out: &str, args: &[&str]) -> Output {
        let device = device();
        let (run, tokens, out) = (text(&self.path(run)), text(&self.path(tokens)), text(&self.path(out)));
        let all = ["decode", &run, "--tokens", &tokens, "--out", &out, "--threads", "1", "--device", &device];
        pixtok(&[&all[..], &["--batch-size", "4"], args].concat())
    }

    fn rows(&self, out: &str) -> Vec<Row> {
        let sets = TokenSet::find(&self.path(out)).unwrap();
        sets.iter().flat_map(|set| set.rows().collect::<Vec<_>>()).map(Result::unwrap).collect()
    }

    fn set(&self, out: &str) -> TokenSet {
        TokenSet::find(&self.path(out)).unwrap().remove(0)
    }
}

/// A run's tokenizer.
struct Trained {
    config: Config,
    tokenizer: Tokenizer,
    _store: Variables,
}

impl Trained {
    fn open(run: &Path) -> Self {
        let (config, _) = Config::read(&run.join("config.toml"), &[]).unwrap();
        let store = Variables::new(Device::Cpu);
        let tokenizer =
            Tokenizer::new(&store, config.model.settings(), &config.quantizer, config.data.image_size)
                .unwrap();
        let weights =
            tensors::from_bytes(&fs::read(run.join("step-000012/model.safetensors")).unwrap()).unwrap();
        tensors::copy_into(&store.tensors(), &weights).unwrap();
        Self { config, tokenizer, _store: store }
    }

    fn codec(&self) -> Own<'_> {
        Own { tokenizer: &self.tokenizer, precision: Precision::Fp32 }
    }

    /// The indices of each image of a folder by its key, computed in memory in batches of 4 padded
    /// with black.
    fn indices(&self, images: &Path) -> BTreeMap<String, Tensor> {
        let dataset = Dataset::open(images, Split::All).unwrap();
        let loader =
            Loader::eval(dataset.into(), &self.config.data, 4, None, Device::Cpu, &World::single()).unwrap();
        let mut all = BTreeMap::new();
        for batch in loader.map(Result::unwrap) {
            let missing = 4 - batch.images.size()[0];
            let full = batch.images.constant_pad_nd([0, 0, 0, 0, 0, 0, 0, missing]);
            let indices = self.codec().encode(&full).unwrap();
            for (i, name) in (0..).zip(&batch.names) {
                let key = name.rsplit_once('.').unwrap().0.to_owned();
                all.insert(key, indices.narrow(0, i, 1).copy());
            }
        }
        all
    }

    /// The coder that gives a set's ids their meaning.
    fn coder(&self, set: &TokenSet) -> Coder<'_> {
        let stated = &set.sidecar.tokenizer;
        Coder {
            codebooks: stated.codebooks,
            radix: stated.digits.then(|| self.tokenizer.quantizer.digits().unwrap()),
            arrangement: stated.arrangement,
            vocabulary: set.sidecar.vocabulary(&set.folder).unwrap(),
            framing: set.sidecar.specials.clone(),
        }
    }
}

fn picture(path: &Path) -> Picture {
    read(path, &DecodeOptions::default()).unwrap().release()
}

/// images → tokens → file → images equals images → tokens → images, bit for bit.
#[test]
fn what_was_encoded_is_decoded_from_every_format() {
    let export = Export::new();
    for (run, setting) in [("fsq", None), ("vq", Some(common::VQ)), ("residual", Some(RESIDUAL))] {
        let settings: Vec<&str> = setting.into_iter().flat_map(|setting| ["--set", setting]).collect();
        export.scratch.train(run, &settings);
        let trained = Trained::open(&export.path(run));
        let expected = trained.indices(&export.path("images"));
        for &kind in FormatKind::ALL {
            let format = kind.name();
            let out = format!("{run}-{format}");
            let printed = export.encode(run, &out, &["--format", format, "--shard-rows", "9", "--verify"]);
            assert!(printed.contains("23") && printed.contains("verified: "), "{printed}");
            let set = export.set(&out);
            assert_eq!(set.sidecar.shard_rows, [9, 9, 5], "{out}");
            let coder = trained.coder(&set);
            let rows = export.rows(&out);
            assert_eq!(rows.len(), 23);
            for row in &rows {
                let indices = coder.indices(row.grid, &row.ids).unwrap();
                assert_eq!(indices, expected[&row.key], "{out} {}", row.key);
            }
            let output = export.decode(run, &out, &format!("{out}-images"), &[]);
            assert!(output.status.success(), "{out}: {}", said(&output));
            for rows in rows.chunks(4) {
                // Padded with the last one.
                let last = &expected[&rows[rows.len() - 1].key];
                let given = rows.iter().map(|row| &expected[&row.key]);
                let indices: Vec<&Tensor> = given.chain(std::iter::repeat(last)).take(4).collect();
                let images = trained
                    .codec()
                    .decode(&Tensor::cat(&indices, 0), trained.config.data.image_size)
                    .unwrap();
                for (i, row) in (0..).zip(rows) {
                    let written = picture(&export.path(&format!("{out}-images/{}.png", row.key)));
                    assert_eq!(written, picture_of(&images.get(i)).unwrap(), "{out} {}", row.key);
                }
            }
        }
    }
}
