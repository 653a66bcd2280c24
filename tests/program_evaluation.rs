//! `pixtok eval` on everything that it can measure: the same tokenizer has the same figures in
//! every form.
#![allow(clippy::unwrap_used, reason = "a test ends by panicking")]

mod common;
#[path = "common/numbers.rs"]
mod numbers;
#[path = "common/weights.rs"]
mod weights;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Output;

use common::{Scratch, device, pixtok, said};
use numbers::Numbers;
use pixtok::codec::trace;
use pixtok::config::Config;
use pixtok::model::Tokenizer;
use pixtok::variables::{Component, Variables};
use pixtok_images::picture::{DecodeOptions, Picture, decode};
use pixtok_torch::tensors;
use serde_json::{Map, Value};
use tch::{CModule, Device, Kind, Tensor};

fn eval(args: &[&str]) -> Output {
    let device = device();
    pixtok(&[&["eval", "--threads", "1", "--device", &device], args].concat())
}

/// The object of `--json -`.
fn figures(args: &[&str]) -> Map<String, Value> {
    let output = eval(&[args, &["--json", "-"]].concat());
    assert!(output.status.success(), "{}", said(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Image names and one column of a `--per-image` CSV.
fn column(csv: &Path, name: &str) -> Vec<(String, f64)> {
    let lines = fs::read_to_string(csv).unwrap();
    let mut rows = lines.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let place = rows.next().unwrap().iter().position(|field| *field == name).unwrap();
    rows.map(|row| (row[0].to_owned(), row[place].parse().unwrap_or(f64::NAN))).collect()
}

#[test]
fn figures_stand_on_the_values_of_the_images() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let (run, csv) = (text(&scratch.path("run")), scratch.path("images.csv"));
    let counts = scratch.path("counts.csv");
    let all = figures(&[&run, "--stability", "--per-image", &text(&csv), "--code-counts", &text(&counts)]);
    let psnr = column(&csv, "psnr_db");
    let mean = psnr.iter().map(|(_, value)| value).sum::<f64>() / psnr.len() as f64;
    assert!((all["psnr_db"].as_f64().unwrap() - mean).abs() < 1e-9);
    assert_eq!(all["images"], 3);
    let value = |name: &str| all[name].as_f64().unwrap_or_else(|| panic!("{name} is {}", all[name]));
    assert!(value("psnr_db_low") <= mean && mean <= value("psnr_db_high"));
    let least = psnr.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(all["worst_image"], least.0.as_str());
    // Nothing is left out silently.
    assert_eq!(all["ms_ssim"], Value::Null);
    assert_eq!(all["ms_ssim_note"], "images under 176 px a side");
    for share in ["shift", "jpeg75", "flip", "reencode"].map(|change| format!("stability_{change}")) {
        assert!((0.0..=1.0).contains(&value(&share)), "{share}");
    }
    assert_eq!(all["ssimulacra2"], Value::Null);
    assert_eq!(all["ssimulacra2_note"], "images under 113 px a side");
    for name in ["ssim", "l1", "usage_batch", "usage_64k", "bits_per_token_zstd", "encode_images_per_sec"] {
        value(name);
    }
    let hits = fs::read_to_string(&counts).unwrap();
    assert_eq!(hits.lines().next(), Some("code,count,codebook"));
    let rows = hits.lines().skip(1).map(|line| line.split(',').collect::<Vec<_>>());
    let total: i64 = rows.map(|row| if row[2] == "0" { row[1].parse::<i64>().unwrap() } else { 0 }).sum();
    assert_eq!(Some(total), all["tokens"].as_i64());

    let few = figures(&[&run, "--metrics", "ssim,psnr_db"]);
    assert!(few.contains_key("ssim") && !few.contains_key("l1") && !few.contains_key("ms_ssim_note"));
    assert_eq!(few["psnr_db"], all["psnr_db"]);
    // Figures on the training images have a note that says so.
    let of = |folder: &str| said(&eval(&[&run, "--data", &text(&scratch.path(folder))]));
    assert!(of("train").contains("are among those that this tokenizer was trained on"), "{}", of("train"));
    let val = of("val");
    assert!(!val.contains("trained on") && !val.contains("copies"), "{val}");
    fs::create_dir(scratch.path("copied")).unwrap();
    fs::copy(scratch.path("val/00.jpg"), scratch.path("copied/a.jpg")).unwrap();
    fs::copy(scratch.path("train/03.jpg"), scratch.path("copied/b.jpg")).unwrap();
    let copied = of("copied");
    let words = "1 of 2 images is a byte copy of a training image, for instance b.jpg, a copy of 03.jpg, so";
    assert!(copied.contains(words), "{copied}");
}

#[test]
fn a_validation_set_that_changed_since_the_run_is_pointed_out() {
    let scratch = Scratch::new();
    scratch.train("run", &["--set=train.steps=2"]);
    let (run, model) = (text(&scratch.path("run")), text(&scratch.path("model")));
    let words = ["export", &run, "--checkpoint", "best", "--out", &model, "--threads", "1"];
    let exported = pixtok(&words);
    assert!(exported.status.success(), "{}", said(&exported));
    let notes = |of: &str, args: &[&str]| {
        let figures = figures(&[&[of, "--metrics", "psnr_db"], args].concat());
        figures.get("notes").map(Value::to_string).unwrap_or_default()
    };
    let others = "are not those that this run validated on";
    for of in [&run, &model] {
        assert!(!notes(of, &[]).contains(others), "{}", notes(of, &[]));
    }
    let image = scratch.path("val/00.jpg");
    let bytes = fs::read(&image).unwrap();
    fs::copy(scratch.path("train/05.jpg"), &image).unwrap();
    let resized = notes(&run, &[]);
    assert!(resized.contains(&format!("{others} (some sizes differ)")), "{resized}");
    assert!(notes(&model, &[]).contains(others), "{}", notes(&model, &[]));
    // There is no note on other images, and after they are written again they count as the same.
    let val = text(&scratch.path("val"));
    assert!(!notes(&run, &["--data", &val]).contains(others));
    fs::write(&image, &bytes).unwrap();
    assert!(!notes(&run, &[]).contains(others));
    fs::write(scratch.path("val/more.jpg"), &bytes).unwrap();
    let printed = said(&eval(&[&run, "--metrics", "psnr_db"]));
    assert!(printed.contains(&format!("{others} (their list changed)")), "{printed}");
}

#[test]
fn reconstructions_in_a_folder_have_the_figures_of_the_tokenizer_that_made_them() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let (pictures, own, theirs) =
        (scratch.path("pictures"), scratch.path("own.csv"), scratch.path("theirs.csv"));
    let originals = text(&pictures.join("originals"));
    figures(&[&text(&scratch.path("run")), "--pictures", &text(&pictures), "--per-image", &text(&own)]);
    let reconstructions = text(&pictures.join("reconstructions"));
    let found = figures(&[&reconstructions, "--data", &originals, "--per-image", &text(&theirs)]);
    for metric in ["psnr_db", "ssim", "l1"] {
        let values = |csv| column(csv, metric).into_iter().map(|(_, value)| value).collect::<Vec<_>>();
        assert_eq!(values(&own), values(&theirs), "{metric}");
    }
    assert_eq!(found["usage"], Value::Null);
    assert!(found["usage_note"].as_str().unwrap().contains("no tokens"));
    // The protocol crops the originals to 32×32, like those beside the reconstructions.
    let renamed = scratch.path("renamed");
    fs::create_dir(&renamed).unwrap();
    for name in ["00", "01", "02"] {
        let file = format!("{name}.jpg.png");
        fs::copy(Path::new(&reconstructions).join(&file), renamed.join(&file)).unwrap();
    }
    let prepared = figures(&[&text(&renamed), "--protocol", &text(&scratch.path("tiny.toml"))]);
    assert_eq!(prepared["psnr_db"], found["psnr_db"]);
    // Two of the three are evaluated, and only those are needed.
    let few = scratch.path("few.toml");
    let config = fs::read_to_string(scratch.path("tiny.toml")).unwrap() + "[eval]\nmax_images = 2\n";
    fs::write(&few, config).unwrap();
    fs::remove_file(renamed.join("02.jpg.png")).unwrap();
    let some = figures(&[&text(&renamed), "--protocol", &text(&few)]);
    assert_eq!(some["images"], 2);
    fs::remove_file(renamed.join("01.jpg.png")).unwrap();
    let refused = eval(&[&text(&renamed), "--protocol", &text(&few)]);
    assert!(said(&refused).contains("01.jpg has no reconstruction"), "{}", said(&refused));
    let refused = eval(&[&reconstructions, "--data", &reconstructions]);
    assert!(said(&refused).contains("give two folders"), "{}", said(&refused));
    let refused = eval(&[&reconstructions]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(said(&refused).contains("--data"), "{}", said(&refused));
    fs::remove_file(Path::new(&reconstructions).join("00.jpg.png")).unwrap();
    let refused = eval(&[&reconstructions, "--data", &originals]);
    assert!(said(&refused).contains("00.jpg.png has no reconstruction"), "{}", said(&refused));
}

/// Writes the run's tokenizer as `encoder.pt` and `decoder.pt`, with an adapter that contains
/// `keys`.
fn traced(scratch: &Scratch, keys: &str) -> PathBuf {
    let run = scratch.path("run");
    let (config, _) = Config::read(&run.join("config.toml"), &[]).unwrap();
    let store = Variables::new(Device::Cpu);
    let tokenizer =
        Tokenizer::new(&store, config.model.settings(), &config.quantizer, config.data.image_size).unwrap();
    let weights = tensors::from_bytes(&fs::read(run.join("step-000012/model.safetensors")).unwrap()).unwrap();
    tensors::copy_into(&store.tensors(), &weights).unwrap();
    store.freeze(&Component::TOKENIZER);
    let size = config.data.image_size;
    trace::encoder(&tokenizer, size).unwrap().save(scratch.path("encoder.pt")).unwrap();
    trace::decoder(&tokenizer, size).unwrap().save(scratch.path("decoder.pt")).unwrap();
    let adapter = scratch.path("foreign.toml");
    let text = format!("encoder = \"encoder.pt\"\ndecoder = \"decoder.pt\"\nimage_size = 32\n{keys}");
    fs::write(&adapter, text).unwrap();
    adapter
}

#[test]
fn a_traced_pair_has_the_figures_of_its_origin() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let adapter = traced(&scratch, "codebook_size = 1000\ndownsample = 2\n");
    let (run, val) = (text(&scratch.path("run")), text(&scratch.path("val")));
    // Three images at a time, though the trace was made with one.
    let images = ["--data", &val];
    let (own, foreign) = (
        figures(&[&[run.as_str()][..], &images].concat()),
        figures(&[&[&*text(&adapter)][..], &images].concat()),
    );
    for name in ["images", "tokens", "usage", "entropy_bits", "bits_per_token_zstd", "codebook_size"] {
        assert_eq!(own[name], foreign[name], "{name}");
    }
    for name in ["psnr_db", "ssim", "l1"] {
        let (a, b) = (own[name].as_f64().unwrap(), foreign[name].as_f64().unwrap());
        // A few 8-bit values round differently.
        assert!((a - b).abs() < 1e-3 * a.abs(), "{name}: {a} and {b}");
    }
    let by_protocol = figures(&[&text(&adapter), "--protocol", &text(&scratch.path("tiny.toml"))]);
    assert_eq!(by_protocol["psnr_db"], foreign["psnr_db"]);
}

#[test]
fn an_adapter_that_is_wrong_is_refused_with_what_to_change() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let val = text(&scratch.path("val"));
    for (keys, parts) in [
        ("codebook_size = 1000\ndownsample = 4\n", &["[3, 16, 16]", "downsample 4"][..]),
        ("codebook_size = 1000\ndownsample = 3\n", &["image_size is 32", "multiple of downsample"]),
        ("codebook_size = 1\ndownsample = 2\n", &["codebook_size is 1", "2 or more"]),
        ("codebook_size = 7\ndownsample = 2\n", &["indices from", "codebook_size 7"]),
        ("codebook_size = 1000\ndownsample = 2\nindices_output = 1\n", &["indices_output is 1", "1 output"]),
        ("codebook_size = 1000\ndownsample = 2\ninput_range = [1, 1]\n", &["input_range", "black and white"]),
        ("codebook_size = 1000\ndownsample = 2\nlayuot = \"nchw\"\n", &["layuot", "did you mean \"layout\""]),
        ("codebook_size = 1000\ndownsample = 2\nlayout = \"nhwc\"\n", &["the encoder refuses the image"]),
    ] {
        let adapter = traced(&scratch, keys);
        let output = eval(&[&text(&adapter), "--data", &val]);
        let words = said(&output);
        assert_eq!(output.status.code(), Some(2), "{keys}: {words}");
        assert!(parts.iter().all(|part| words.contains(part)), "{keys}: {words}");
    }
    let adapter = traced(&scratch, "codebook_size = 1000\ndownsample = 2\n");
    fs::write(scratch.path("decoder.pt"), "no script").unwrap();
    let output = eval(&[&text(&adapter), "--data", &val]);
    assert_eq!(output.status.code(), Some(2));
    assert!(said(&output).contains("decoder.pt is no TorchScript file"), "{}", said(&output));
    fs::remove_file(scratch.path("encoder.pt")).unwrap();
    assert!(said(&eval(&[&text(&adapter), "--data", &val])).contains("encoder.pt does not exist"));
}

/// An adapter with `keys` for an untrained pair: codes are mean greys of 4×4 pixels, decoded to
/// values in `range`. The pair is traced with `fixed` images at a time, or for any number.
fn grey_pair(scratch: &Scratch, [black, white]: [f64; 2], fixed: Option<i64>, keys: &str) -> String {
    let traced = |name: &str, example: &Tensor, run: &dyn Fn(&Tensor) -> Tensor| {
        let mut forward = |inputs: &[Tensor]| vec![run(&inputs[0])];
        let module = CModule::create_by_tracing("Grey", "forward", &[example.shallow_clone()], &mut forward);
        module.unwrap().save(scratch.path(name)).unwrap();
    };
    let images = Tensor::zeros([fixed.unwrap_or(2), 3, 32, 32], (Kind::Float, Device::Cpu));
    let encode = |images: &Tensor| {
        let images = fixed.map_or(images.shallow_clone(), |count| images.view([count, 3, 32, 32]));
        let grey = images.mean_dim([1i64].as_slice(), true, Kind::Float);
        let means = grey.avg_pool2d([4, 4], [4, 4], [0, 0], false, true, None);
        ((means + 1.0) * 127.5).round().squeeze_dim(1).to_kind(Kind::Int)
    };
    let decode = |codes: &Tensor| {
        // Multiplied by 2^32, 32-bit numbers wrap to 0 and others turn white.
        let high = (codes * 65_536i64) * 65_536i64;
        let codes = (codes + high).clamp(0, 255).to_kind(Kind::Float);
        let grey = codes / 255.0 * (white - black) + black;
        let wide = grey.repeat_interleave_self_int(4, 1, None).repeat_interleave_self_int(4, 2, None);
        wide.unsqueeze(1).repeat([1, 3, 1, 1])
    };
    traced("grey-encoder.pt", &images, &encode);
    traced("grey-decoder.pt", &encode(&images), &decode);
    let adapter = scratch.path("grey.toml");
    let files = "encoder = \"grey-encoder.pt\"\ndecoder = \"grey-decoder.pt\"\n";
    fs::write(&adapter, format!("{files}codebook_size = 256\ndownsample = 4\nimage_size = 32\n{keys}"))
        .unwrap();
    text(&adapter)
}

/// The note on a decoder's range, in the object of `--json -`.
fn range_note(figures: &Map<String, Value>) -> Option<&str> {
    let notes = figures.get("notes")?.as_array().unwrap();
    notes.iter().map(|note| note.as_str().unwrap()).find(|note| note.contains("range"))
}

#[test]
fn a_decoder_of_another_range_is_not_measured_in_silence() {
    let scratch = Scratch::new();
    let val = text(&scratch.path("val"));
    let measured = |range, keys: &str| {
        let adapter = grey_pair(&scratch, range, None, keys);
        let output = eval(&[&adapter, "--data", &val, "--json", "-"]);
        let json = serde_json::from_slice::<Map<String, Value>>(&output.stdout);
        (said(&output), output.status.code(), json.unwrap_or_default())
    };
    let (words, code, right) = measured([-1.0, 1.0], "");
    assert_eq!((code, range_note(&right)), (Some(0), None), "{words}");
    let (words, code, _) = measured([0.0, 255.0], "");
    assert_eq!(code, Some(2), "{words}");
    assert!(
        words.contains("beyond twice its range") && words.contains("output_range = [0.0, 255.0] fits"),
        "{words}"
    );
    let (words, code, low) = measured([0.0, 1.0], "");
    assert_eq!(code, Some(0), "{words}");
    let db = |figures: &Map<String, Value>| figures["psnr_db"].as_f64().unwrap();
    assert!(db(&low) + 3.0 < db(&right), "{} and {}", db(&low), db(&right));
    let note = range_note(&low).unwrap();
    assert!(words.contains(note) && note.contains("the dark half"), "{note}");
    assert!(note.contains(&format!("output_range = [0.0, 1.0] fits: {:.2} dB", db(&right))), "{note}");
    let (words, _, stated) = measured([0.0, 1.0], "output_range = [0.0, 1.0]\n");
    assert_eq!((db(&stated), range_note(&stated)), (db(&right), None), "{words}");

    // A comparison with the pair as an arm shows the note too.
    grey_pair(&scratch, [0.0, 1.0], None, "");
    let sweep = "base = \"tiny.toml\"\n[[arms]]\nname = \"grey\"\npath = \"grey.toml\"\n";
    fs::write(scratch.path("sweep.toml"), sweep).unwrap();
    let (sweep, out, device) = (text(&scratch.path("sweep.toml")), scratch.path("out"), device());
    let output = pixtok(&["compare", &sweep, "--out", &text(&out), "--threads", "1", "--devices", &device]);
    assert!(output.status.success() && said(&output).contains("the dark half"), "{}", said(&output));
    assert!(fs::read_to_string(out.join("results.json")).unwrap().contains("the dark half"));
}

#[test]
fn a_codebook_size_that_is_too_large_is_noted() {
    let scratch = Scratch::new();
    let (adapter, val) = (grey_pair(&scratch, [-1.0, 1.0], None, ""), text(&scratch.path("val")));
    let noted = || {
        let notes = figures(&[&adapter, "--data", &val]).remove("notes");
        notes.is_some_and(|notes| notes.to_string().contains("states codebook_size 1024, but no index over"))
    };
    assert!(!noted());
    // The pair has 256 codes.
    let stated = fs::read_to_string(&adapter).unwrap();
    fs::write(&adapter, stated.replace("codebook_size = 256", "codebook_size = 1024")).unwrap();
    assert!(noted());
}

#[test]
fn a_pair_of_a_fixed_batch_is_measured_as_any_other() {
    let scratch = Scratch::new();
    let val = text(&scratch.path("val"));
    let any = figures(&[&grey_pair(&scratch, [-1.0, 1.0], None, ""), "--data", &val]);
    let adapter = grey_pair(&scratch, [-1.0, 1.0], Some(2), "");
    // A batch of two images, then one.
    let fixed = figures(&[&adapter, "--data", &val, "--batch-size", "2", "--stability"]);
    let alike = |found: &Map<String, Value>, name: &str| {
        let (a, b) = (found[name].as_f64().unwrap(), any[name].as_f64().unwrap());
        assert!((a - b).abs() < 1e-5 * b.abs(), "{name}: {a} and {b}");
    };
    for name in ["images", "psnr_db", "ssim", "l1", "tokens", "entropy_bits"] {
        alike(&fixed, name);
    }
    let refused = eval(&[&adapter, "--data", &val]);
    assert_eq!(refused.status.code(), Some(2), "{}", said(&refused));
    assert!(
        said(&refused).contains("takes 2 image(s) at a time, not 32; give --batch-size 2"),
        "{}",
        said(&refused)
    );
    // More than there are, so the batch is padded.
    let adapter = grey_pair(&scratch, [-1.0, 1.0], Some(8), "");
    alike(&figures(&[&adapter, "--data", &val, "--batch-size", "8"]), "psnr_db");
    let (tokens, pictures, device) =
        (text(&scratch.path("tokens")), text(&scratch.path("pictures")), device());
    let compute = ["--batch-size", "8", "--threads", "1", "--device", &device];
    let encode = ["encode", &adapter, "--data", &val, "--out", &tokens, "--format", "npy"];
    let decode = ["decode", &adapter, "--tokens", &tokens, "--out", &pictures];
    for verb in [&encode[..], &decode] {
        let output = pixtok(&[verb, &compute].concat());
        assert!(output.status.success(), "{}", said(&output));
    }
}

#[test]
fn metrics_with_weights_are_measured_or_say_what_they_lack() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let (run, all) = (text(&scratch.path("run")), Numbers::read("nets"));
    let (alex, inception) =
        (scratch.path("lpips-alex.safetensors"), scratch.path("inception-fid.safetensors"));
    weights::write(&all, "alex", &alex);
    weights::write(&all, "inception", &inception);
    let (alex, inception) = (text(&alex), text(&inception));

    let found = figures(&[&run, "--lpips-weights", &alex, "--fid-weights", &inception]);
    assert!(found["lpips_alex"].as_f64().unwrap() > 0.0 && found["rfid"].as_f64().unwrap() > 0.0);
    assert!(found["rfid_note"].as_str().unwrap().contains("of only 3 images"));
    assert_eq!(
        (&found["lpips_vgg"], found["lpips_vgg_note"].as_str().unwrap().contains("--lpips-weights")),
        (&Value::Null, true)
    );

    fs::create_dir(scratch.path("one")).unwrap();
    fs::copy(scratch.path("val/00.jpg"), scratch.path("one/00.jpg")).unwrap();
    let one = text(&scratch.path("one"));
    for (args, parts) in [
        (vec!["--fid-weights", &*alex], &["AlexNet", "Inception", "convert_weights.py"][..]),
        (vec!["--lpips-weights", &inception], &["Inception", "LPIPS"]),
        (vec!["--lpips-weights", &alex, "--lpips-weights", &alex], &["given already"]),
        (vec!["--lpips-weights", "absent"], &["absent", "check the path"]),
        (vec!["--metrics", "rfid"], &["rfid", "--fid-weights", "PIXTOK_WEIGHTS"]),
        (vec!["--metrics", "lpips"], &["\"lpips\" is not a metric", "lpips_alex"]),
        (vec!["--metrics", "ssim,ms_ssim"], &["ms_ssim", "176 pixels a side", "32×32"]),
        (vec!["--metrics", "ssimulacra2"], &["ssimulacra2", "113 pixels a side", "32×32"]),
        (vec!["--metrics", "ssim", "--fid-weights", &inception], &["--fid-weights", "--metrics"]),
        (vec!["--json", &one], &["is a folder", "give a file"]),
        (vec!["--data", &one, "--fid-weights", &inception], &["rfid", "2 images or more", "there is 1"]),
    ] {
        let output = eval(&[&[run.as_str()][..], &args].concat());
        let words = said(&output);
        assert_eq!(output.status.code(), Some(2), "{args:?}: {words}");
        assert!(parts.iter().all(|part| words.contains(part)), "{args:?}: {words}");
    }
}

#[test]
fn what_must_be_known_of_the_files_stands_beside_the_figures() {
    let folder = tempfile::tempdir().unwrap();
    let (originals, recons) = (folder.path().join("originals"), folder.path().join("recons"));
    for path in [&originals, &recons] {
        fs::create_dir(path).unwrap();
    }
    let grey = Picture { width: 16, height: 12, rgb: vec![128; 3 * 16 * 12] };
    for name in ["a.png", "b.png", "c.png"] {
        fs::write(originals.join(name), grey.to_png().unwrap()).unwrap();
        fs::write(recons.join(name), grey.to_png().unwrap()).unwrap();
    }
    let (data, recon) = (text(&originals), text(&recons));
    let clean = figures(&[&recon, "--data", &data]);
    assert!(!clean.contains_key("notes") && !clean.contains_key("left_out"), "{clean:?}");

    // One image with a transparent first pixel, and one in JPEG.
    let mut rgba: Vec<u8> = [128, 128, 128, 255].repeat(16 * 12);
    rgba[3] = 0;
    let seen_through = image::RgbaImage::from_raw(16, 12, rgba).unwrap();
    seen_through.save(recons.join("a.png")).unwrap();
    seen_through.save(originals.join("b.png")).unwrap();
    fs::remove_file(recons.join("c.png")).unwrap();
    fs::write(recons.join("c.jpg"), grey.to_jpeg(75).unwrap()).unwrap();
    let output = eval(&[&recon, "--data", &data]);
    for part in [
        "note: 1 of 3 originals have transparent pixels, which are measured over the colour 255,255,255",
        "note: 1 of 3 reconstructions have transparent pixels",
        "note: 1 of 3 reconstructions are in a format that loses detail (JPEG, lossy WebP) or have a palette",
    ] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    let noted = figures(&[&recon, "--data", &data]);
    assert_eq!(noted["notes"].as_array().unwrap().len(), 3);
    let on_grey = figures(&[&recon, "--data", &data, "--background", "128,128,128"]);
    assert_eq!((&on_grey["psnr_db"], on_grey["psnr_db"] != noted["psnr_db"]), (&100.0.into(), true));
    let refused = eval(&[&recon, "--data", &data, "--background", "1,2"]);
    assert!(said(&refused).contains("three numbers from 0 to 255"), "{}", said(&refused));
}

#[test]
fn reconstructions_in_the_wrong_place_or_without_an_original_are_noted() {
    let scratch = Scratch::new();
    let (originals, recons) = (scratch.path("val"), scratch.path("recons"));
    fs::create_dir(&recons).unwrap();
    for name in ["00", "01", "02"] {
        let bytes = fs::read(originals.join(format!("{name}.jpg"))).unwrap();
        let mut picture = decode(&bytes, &DecodeOptions::default()).unwrap().release();
        let rows = picture.rgb.chunks_exact(3 * picture.width);
        picture.rgb = rows.flat_map(|row| row.chunks_exact(3).rev().flatten().copied()).collect();
        fs::write(recons.join(format!("{name}.png")), picture.to_png().unwrap()).unwrap();
    }
    for name in ["y.png", "x.png"] {
        fs::copy(recons.join("00.png"), recons.join(name)).unwrap();
    }
    let (data, recon) = (text(&originals), text(&recons));
    let output = eval(&[&recon, "--data", &data]);
    for part in [
        "note: the reconstructions seem to be mirrored left to right: mirrored again, the middle of the \
         first 3 pairs has a PSNR of 100.00 dB instead of ",
        &format!("{recon} holds 2 images that have no original and will not be measured, for instance x.png"),
    ] {
        assert!(said(&output).contains(part), "{part}: {}", said(&output));
    }
    let noted = figures(&[&recon, "--data", &data]);
    assert_eq!(noted["notes"].as_array().unwrap().len(), 1, "{noted:?}");
}

#[test]
fn a_model_folder_is_a_config_beside_its_weights() {
    let scratch = Scratch::new();
    scratch.train("run", &[]);
    let (run, model) = (scratch.path("run"), scratch.path("model"));
    fs::create_dir(&model).unwrap();
    fs::copy(run.join("config.toml"), model.join("config.toml")).unwrap();
    fs::copy(run.join("step-000012/model.safetensors"), model.join("model.safetensors")).unwrap();
    let (own, copied) = (figures(&[&text(&run)]), figures(&[&text(&model)]));
    assert_eq!(own["psnr_db"], copied["psnr_db"]);
    assert_eq!(copied["step"], Value::Null);
}
