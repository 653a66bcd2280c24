//! `README.md` of an exported tokenizer: a model card for Hugging Face, filled in from the run.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::Result;

use super::validation::Validation;
use super::{DECODER, ENCODER, modules_size};
use crate::config::{CHANGES_FILE, Config};
use crate::model::TokenShape;
use crate::run::Trained;
use pixtok_report::Better;
use pixtok_torch::PrecisionChoice;

/// The text of the card.
pub(super) fn markdown(trained: &Trained, out: &Path, validation: &Validation) -> Result<String> {
    let name = out.file_name().map_or_else(|| "tokenizer".into(), |name| name.to_string_lossy());
    let kind = trained.config.quantizer.kind();
    Ok([
        front_matter(&kind),
        format!("# {name}\n"),
        what_it_is(trained, &kind)?,
        measurements(trained, validation),
        training(trained)?,
        use_with_pixtok(trained),
        use_with_python(trained),
        files(trained),
    ]
    .join("\n"))
}

fn front_matter(kind: &str) -> String {
    format!(
        "---\n# Yours to choose: nothing in the weights says it..\nlicense: \
         unknown\nlibrary_name: pixtok\ntags:\n- pixtok\n- image-tokenizer\n- discrete-tokens\n- {kind}\n- torchscript\n---\n"
    )
}

fn what_it_is(trained: &Trained, kind: &str) -> Result<String> {
    let (config, shape) = (&trained.config, trained.tokenizer.codebook());
    let (multiple, tokens) = (trained.tokenizer.side_multiple(), trained.shape()?);
    let (height, width) = config.image_size();
    let mut codes = format!("{} codes of {} numbers", shape.size, shape.dim);
    if shape.codebooks > 1 {
        codes = format!("{} codebooks of {codes}", shape.codebooks);
    }
    let axis = if shape.codebooks > 1 { format!(", {}", shape.codebooks) } else { String::new() };
    let any = format!("any height and width that {multiple} divides");
    let sizes = match (trained.tokenizer.only_size(), modules_size(trained)) {
        (Some(_), _) => "this size alone".to_owned(),
        (None, None) => any,
        (None, Some(_)) => format!("{any}, and `{ENCODER}` and `{DECODER}` this size alone"),
    };
    let (set, each, axes) = match (tokens, trained.pixels_per_token()?) {
        (TokenShape::Grid { .. }, Some(piece)) => (
            "grid",
            format!("one for each {}×{} pixels", piece.height, piece.width),
            format!("H/{}, W/{}", piece.height, piece.width),
        ),
        (tokens, _) => {
            let n = tokens.positions();
            ("sequence", format!("{n} for an image"), n.to_string())
        }
    };
    let per_pixel = shape.bits_per_token() * tokens.positions() as f64 / (height * width) as f64;
    Ok(format!(
        "A discrete image tokenizer: an encoder turns an image into a small {set} of integers, and a decoder turns them back \
         into an image. Made with pixtok {}.\n\n\
         | | |\n|---|---|\n\
         | quantizer | {kind}, {codes} |\n\
         | tokens | {each}, {:.2} bits each ({:.3} bits per pixel) |\n\
         | images | trained at {height}×{width}; {sizes} |\n\
         {}| indices | int64, `[B, {axes}{axis}]`, from 0 to {} |\n\
         | parameters | {} |\n",
        env!("CARGO_PKG_VERSION"),
        shape.bits_per_token(),
        per_pixel,
        positions(trained),
        shape.size - 1,
        trained.parameters,
    ))
}

/// What is done with positions at other sizes, as a row; empty where nothing can be.
fn positions(trained: &Trained) -> String {
    trained.extension().map_or_else(String::new, |extension| {
        format!("| positions at larger sizes | `{extension}`; `--positions` of pixtok chooses another |\n")
    })
}

fn measurements(trained: &Trained, validation: &Validation) -> String {
    let mut text = "## Measurements\n\n".to_owned();
    let Some(step) = trained.step.filter(|_| !validation.figures.is_empty()) else {
        text += "The run did not measure these weights. `pixtok eval` on this folder does.\n";
        return text;
    };
    let data = &trained.config.data;
    let images = match (&data.val, &data.val_split) {
        _ if validation.other_images => "other images than those that its `config.toml` names".to_owned(),
        (Some(path), _) => format!("the images in `{path}`"),
        (None, Some(split)) => format!("the split `{split}` of `{}`", data.train),
        (None, None) => format!("{} of the images in `{}`, kept from training", data.val_share, data.train),
    };
    let _ = writeln!(
        text,
        "By the run itself at step {step}, {} weights, in float32, on {images}. Usage and perplexity depend on how many tokens \
         are looked at.\n\n| figure | value | better | meaning |\n|---|---|---|---|",
        trained.choice.weights.name()
    );
    for (definition, value) in &validation.figures {
        let better = match definition.better {
            Better::Higher => "higher",
            Better::Lower => "lower",
            Better::Neither => "",
        };
        let digits = definition.digits;
        let _ = writeln!(text, "| {} | {value:.digits$} | {better} | {} |", definition.name, definition.text);
    }
    if let Some(best) = &validation.best {
        let chosen = if trained.chosen_by.is_some() {
            " on these very images, so the figures are too good"
        } else {
            ""
        };
        let _ = writeln!(text, "\nOf the run's checkpoints it is the best by `{}`{chosen}.", best.metric);
    }
    text
}

fn training(trained: &Trained) -> Result<String> {
    let Config { data, train, seed, .. } = &trained.config;
    let done = trained.step.map_or_else(
        || format!("for up to {} steps", train.steps),
        |step| format!("for {step} of {} steps, {} weights,", train.steps, trained.choice.weights.name()),
    );
    // The config of imported weights leaves this at `auto`.
    let precision = match train.precision {
        PrecisionChoice::Auto => String::new(),
        precision => format!(", in {precision}"),
    };
    // The location of the images is described in words, and settings of evaluations are left out.
    let mut settings = toml::Table::try_from(&trained.config)?;
    settings.retain(|section, _| section != "data" && section != "eval");
    let changes = trained.changes.iter().fold(String::new(), |list, change| list + &format!("- {change}\n"));
    let sizes = data.sizes().iter().map(|size| format!("{}×{}", size.height, size.width));
    let sizes = sizes.collect::<Vec<_>>().join(", ");
    let above = "\nThese settings changed while it trained:\n\n";
    let changes = if changes.is_empty() { changes } else { format!("{above}{changes}") };
    Ok(format!(
        "## Training\n\nOn `{}`, {done} with {} images of {sizes} pixels a step{precision}, seed {seed}. The settings (all of them \
         are in `config.toml`):\n\n```toml\n{}```\n{changes}",
        data.train,
        train.batch_size,
        toml::to_string(&settings)?,
    ))
}

fn use_with_pixtok(trained: &Trained) -> String {
    let data = &trained.config.data;
    let size = data.image_size;
    // The same as what `encode` does by itself, for square images.
    let covers = |&short: &u32| short == size.height && short == size.width;
    let resize = data.resize.filter(|short| !covers(short)).map_or_else(String::new, |short| {
        format!(
            "\n`eval` and `prepare` resize the short side of a picture to {short} pixels before they crop {}×{} at the centre. \
             `encode` resizes it to the crop, so that less is cut; with `--resize {short}` it prepares pictures as they do.\n",
            size.height, size.width
        )
    });
    format!(
        "## With pixtok\n\nThis folder stands where pixtok takes a run:\n\n```\npixtok eval THIS_FOLDER --data PICTURES\npixtok \
         encode THIS_FOLDER --data PICTURES --out tokens --format parquet\npixtok reconstruct THIS_FOLDER photo.jpg --out \
         reconstructed\npixtok codebook THIS_FOLDER --out codes.npy\n```\n{resize}"
    )
}

fn use_with_python(trained: &Trained) -> String {
    let last = trained.tokenizer.codebook().size - 1;
    let sides = match modules_size(trained) {
        None => format!("multiples of {}", trained.tokenizer.side_multiple()),
        Some(size) => format!("{} and {}", size.height, size.width),
    };
    // Digits are rounded, all other codes searched for.
    let search = if trained.tokenizer.quantizer.digits().is_none() {
        "\nThe encoder compares every position with every code in one table of B·h·w·K float32 numbers: keep batches small where K \
         is large.\n"
    } else {
        ""
    };
    format!(
        "## With PyTorch alone\n\n```python\nimport numpy, torch\nfrom PIL import Image\n\n\
         encoder = torch.jit.load(\"{ENCODER}\")  # map_location=\"cuda\" for a GPU\n\
         decoder = torch.jit.load(\"{DECODER}\")\n\
         pixels = numpy.array(Image.open(\"photo.png\").convert(\"RGB\"))  # height and width: {sides}\n\
         images = torch.from_numpy(pixels).permute(2, 0, 1)[None] / 127.5 - 1  # [B, 3, H, W] in [-1, 1]\n\
         with torch.no_grad():\n    indices = encoder(images)\n    recon = decoder(indices)  # not clamped\n\
         pixels = ((recon + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)\n```\n{search}\n\
         `{DECODER}` raises nothing for an index that no code has: below 0 it paints code 0, beyond {last} code {last}. \
         Check indices that come from elsewhere, a language model say:\n\n\
         ```python\nassert 0 <= indices.min() and indices.max() <= {last}\n```\n\n\
         As a module with its parts, from pixtok's `python/pixtok_reader` (a folder to copy, which reads `config.json` and \
         `model.safetensors`):\n\n\
         ```python\nfrom pixtok_reader.model import load\n\ntokenizer = load(\"THIS_FOLDER\")\nindices = tokenizer.encode(images)\n\
         recon = tokenizer.decode(indices)  # a ValueError for an index that no code has, with its place\n```\n"
    )
}

fn files(trained: &Trained) -> String {
    let (begun, changes) = if trained.changes.is_empty() {
        ("", String::new())
    } else {
        let row = format!("| `{CHANGES_FILE}` | settings that changed while it trained |\n");
        (" as it was when the run began", row)
    };
    let sizes = match modules_size(trained) {
        None => "any batch and image size",
        Some(_) => "any batch of images of this size",
    };
    format!(
        "## Files\n\n| file | |\n|---|---|\n\
         | `model.safetensors` | weights and the quantizer's buffers |\n\
         | `config.json` | sizes, the network with every number worked out, the quantizer, how images are prepared; \
         `weights_blake3` is the blake3 hash of `model.safetensors`, and `keeps_tokens_of`, if it is there, that of the weights that first \
         made these tokens |\n\
         | `config.toml` | the run's whole config{begun}, for pixtok |\n{changes}\
         | `{ENCODER}`, `{DECODER}` | TorchScript, float32, for {sizes} |\n"
    )
}
