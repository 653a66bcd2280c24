//! A TorchScript encoder and decoder as a codec, as an [`Adapter`] describes them.

use std::path::{Path, PathBuf};

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::{Adapter, AdapterError, Codec, CodecError, Layout, Vocabulary, is_finite};
use crate::torch::{catching, no_grad};

/// Both modules on a device, tried on one grey image.
#[derive(Debug)]
pub struct TorchScript {
    adapter: Adapter,
    encoder: CModule,
    decoder: CModule,
    /// The encoder's own indices are `[B, h·w]`, not `[B, h, w]`.
    flat: bool,
}

impl TorchScript {
    /// Loads the pair that `adapter`, read from the file `path`, describes, and passes one grey image through it.
    ///
    /// # Errors
    /// [`AdapterError`]: a file that is no TorchScript, or shapes and indices that are not as the adapter says.
    pub fn load(adapter: Adapter, path: &Path, device: Device) -> Result<Self, AdapterError> {
        adapter.check(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let encoder = load_module(&folder.join(&adapter.encoder), device)?;
        let decoder = load_module(&folder.join(&adapter.decoder), device)?;
        let mut pair = Self { adapter, encoder, decoder, flat: false };
        let side = i64::from(pair.adapter.image_size);
        let grey = Tensor::full([1, 3, side, side], 128, (Kind::Uint8, device));
        let grid = side / pair.adapter.downsample;
        let tried = pair.raw_indices(&grey).and_then(|raw| {
            pair.flat = raw.size().get(1) == Some(&(grid * grid)) && grid > 1;
            pair.decode(&pair.encode(&grey)?)
        });
        let disagreement = match tried {
            Ok(recon) if recon.size() == grey.size() => return Ok(pair),
            Ok(recon) => format!(
                "the decoder makes images {:?} of images {:?}; correct layout, downsample or decoder",
                recon.size(),
                grey.size()
            ),
            Err(error) => error.to_string(),
        };
        Err(AdapterError::Disagrees { path: path.to_owned(), disagreement })
    }

    /// What the adapter says.
    #[must_use]
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The encoder's indices in its own shape.
    fn raw_indices(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        let output = catching(|| {
            let [black, white] = self.adapter.input_range;
            let scaled = images.to_kind(Kind::Float) * ((white - black) / 255.0) + black;
            let ordered = match self.adapter.layout {
                Layout::Nchw => scaled,
                Layout::Nhwc => scaled.permute([0, 2, 3, 1]).contiguous(),
            };
            let input = IValue::Tensor(ordered.to_kind(self.adapter.number.kind()));
            no_grad(|| self.encoder.forward_is(&[input]))
        })?;
        let output = output.map_err(|error| disagrees("the encoder refuses the image", &error))?;
        let place = self.adapter.indices_output;
        let tensors = tensors_of(output);
        let outputs = tensors.len();
        tensors.into_iter().nth(place).flatten().ok_or_else(|| {
            CodecError::Disagrees(format!(
                "indices_output is {place}, and the encoder has {outputs} output(s), of which that is no tensor"
            ))
        })
    }

    /// What the grid must be for images of this size.
    fn expected(&self, images: &Tensor) -> Vec<i64> {
        let (size, factor) = (images.size(), self.adapter.downsample);
        let mut grid = vec![size[0], size[2] / factor, size[3] / factor];
        if self.adapter.codebooks > 1 {
            grid.push(self.adapter.codebooks);
        }
        grid
    }
}

impl Codec for TorchScript {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { codebooks: self.adapter.codebooks, size: self.adapter.codebook_size }
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        let raw = self.raw_indices(images)?;
        if raw.is_floating_point() {
            return Err(CodecError::Disagrees(format!(
                "output {} of the encoder holds {:?} numbers, not indices; correct indices_output",
                self.adapter.indices_output,
                raw.kind()
            )));
        }
        let grid = self.expected(images);
        let flat = [&grid[..1], &[grid[1] * grid[2]], &grid[3..]].concat();
        if raw.size() != if self.flat { &flat } else { &grid }[..] {
            return Err(CodecError::Disagrees(format!(
                "the encoder makes indices {:?} of images {:?}, and the adapter's downsample {} and codebooks {} mean {grid:?} \
                 (or {flat:?}); correct them or indices_output",
                raw.size(),
                images.size(),
                self.adapter.downsample,
                self.adapter.codebooks,
            )));
        }
        let indices = raw.to_kind(Kind::Int64).reshape(grid.as_slice());
        let (low, high) = (indices.min().int64_value(&[]), indices.max().int64_value(&[]));
        if low < 0 || high >= self.adapter.codebook_size {
            return Err(CodecError::Disagrees(format!(
                "the encoder makes indices from {low} to {high}, outside 0 to {} of codebook_size {}; correct codebook_size or \
                 indices_output",
                self.adapter.codebook_size - 1,
                self.adapter.codebook_size
            )));
        }
        Ok(indices)
    }

    fn decode(&self, indices: &Tensor) -> Result<Tensor, CodecError> {
        let own = if self.flat { indices.flatten(1, 2) } else { indices.shallow_clone() };
        let output = catching(|| no_grad(|| self.decoder.forward_is(&[IValue::Tensor(own)])))?;
        let output = output.map_err(|error| disagrees("the decoder refuses the indices", &error))?;
        let Some(Some(images)) = tensors_of(output).into_iter().next() else {
            return Err(CodecError::Disagrees("the decoder's first output is no tensor".into()));
        };
        if images.dim() != 4 {
            return Err(CodecError::Disagrees(format!("the decoder makes {:?}, not images", images.size())));
        }
        if !is_finite(&images) {
            return Err(CodecError::NotFinite("reconstructions"));
        }
        let images = match self.adapter.layout {
            Layout::Nchw => images,
            Layout::Nhwc => images.permute([0, 3, 1, 2]).contiguous(),
        };
        let [black, white] = self.adapter.output_range.unwrap_or(self.adapter.input_range);
        let levels = (images.to_kind(Kind::Float) - black) * (255.0 / (white - black));
        Ok(levels.round().clamp(0.0, 255.0).to_kind(Kind::Uint8))
    }
}

fn load_module(path: &PathBuf, device: Device) -> Result<CModule, AdapterError> {
    let failed = |reason: String| AdapterError::NotTorchScript { path: path.clone(), reason };
    // libtorch's own words for a missing file name a line of its source.
    if !path.exists() {
        return Err(AdapterError::Missing(path.clone()));
    }
    let mut module =
        CModule::load_on_device(path, device).map_err(|error| failed(first_line(&error).to_owned()))?;
    module.set_eval();
    Ok(module)
}

/// The tensors of an output or a tuple of outputs, in order; `None` for an output that is none.
fn tensors_of(output: IValue) -> Vec<Option<Tensor>> {
    let tensor = |value| if let IValue::Tensor(tensor) = value { Some(tensor) } else { None };
    match output {
        IValue::Tuple(values) | IValue::GenericList(values) => values.into_iter().map(tensor).collect(),
        IValue::TensorList(tensors) => tensors.into_iter().map(Some).collect(),
        other => vec![tensor(other)],
    }
}

fn disagrees(what: &str, error: &tch::TchError) -> CodecError {
    CodecError::Disagrees(format!("{what}: {}", first_line(error)))
}

/// libtorch's message without its stack.
fn first_line(error: &tch::TchError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // An error inside a script ends with its cause, after the script's own trace.
    let cause = lines.iter().find_map(|line| line.strip_prefix("RuntimeError: "));
    let line = cause.or(lines.first().copied()).unwrap_or_default();
    // Guesses at the reason follow its first sentence.
    line.split(". ").next().unwrap_or(line).trim_end_matches('.').to_owned()
}
