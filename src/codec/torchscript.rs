//! A TorchScript encoder and decoder as a codec, described by an [`Adapter`].

use std::path::{Path, PathBuf};

use tch::{CModule, Device, IValue, Kind, Tensor};

use super::range::{Finding, Ranges, USUAL, better_input, judge, levels};
use super::{Adapter, AdapterError, Codec, CodecError, Half, Layout, Vocabulary, is_finite, steadiness};
use crate::model::{ImageSize, TokenShape};
use pixtok_torch::{catching, no_grad};

/// If any number of images works, this many are enough to check the pair.
const ENOUGH_IMAGES: i64 = 4;

/// Both modules, loaded on a device.
#[derive(Debug)]
pub struct TorchScript {
    adapter: Adapter,
    /// The adapter's file.
    path: PathBuf,
    encoder: CModule,
    decoder: CModule,
    form: Form,
    /// Doubts about the pair, one sentence each.
    notes: Vec<String>,
    /// Whether one of them is that another `input_range` fits better.
    input_doubtful: bool,
}

/// The form of the modules' inputs and indices, learned from the first images.
#[derive(Debug, Clone, Copy)]
struct Form {
    /// Whether the encoder's own indices are `[B, h·w]` instead of `[B, h, w]`.
    flat: bool,
    /// The type of the indices.
    kind: Kind,
    /// The only batch size that the modules take; absent if any batch size works.
    batch: Option<i64>,
}

impl TorchScript {
    /// Loads the pair that `adapter`, read from the file `path`, describes. Before any other use,
    /// call [`TorchScript::try_on`] or [`TorchScript::try_on_ramp`].
    ///
    /// # Errors
    /// [`AdapterError`]: a value out of its range, or a file that is not TorchScript.
    pub fn load(adapter: Adapter, path: &Path, device: Device) -> Result<Self, AdapterError> {
        adapter.check(path)?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let encoder = load_module(&folder.join(&adapter.encoder), device)?;
        let decoder = load_module(&folder.join(&adapter.decoder), device)?;
        let form = Form { flat: false, kind: Kind::Int64, batch: None };
        Ok(Self {
            adapter,
            path: path.to_owned(),
            encoder,
            decoder,
            form,
            notes: vec![],
            input_doubtful: false,
        })
    }

    /// Passes the first images through the pair. This shows the form of its indices, whether it
    /// takes any number of images at a time or only `batch_size`, whether the ranges that the
    /// adapter states suit it, and whether it always gives the same result for an image.
    ///
    /// # Shapes
    /// `images`: `[B, 3, H, W]` uint8, on the pair's device, B from 1 to `batch_size`.
    ///
    /// # Errors
    /// [`AdapterError::Disagrees`]: shapes, indices or a range that differ from what the adapter
    /// states, or modules that do not take this number of images at a time.
    pub fn try_on(&mut self, images: &Tensor, batch_size: usize) -> Result<(), AdapterError> {
        self.first(images, "the first images", batch_size)
    }

    /// Tries the pair without images: on `count` horizontal ramps from black to white.
    ///
    /// # Errors
    /// The same as [`TorchScript::try_on`].
    pub fn try_on_ramp(
        &mut self,
        count: usize,
        (height, width): (i64, i64),
        batch_size: usize,
        device: Device,
    ) -> Result<(), AdapterError> {
        let images = ramp(count as i64, (height, width), device);
        self.first(&images, "a ramp from black to white", batch_size)
    }

    /// See [`TorchScript::try_on`]; `words` describe the images.
    fn first(&mut self, images: &Tensor, words: &str, batch_size: usize) -> Result<(), AdapterError> {
        let (given, full) = (images.size()[0], batch_size as i64);
        let stated = self.adapter.input_range;
        let attempt =
            |count: i64, batch: Option<i64>| self.attempt(&images.narrow(0, 0, count), batch, stated);
        let tried = match attempt(given, None) {
            Ok((form, made)) => {
                // The last batch may be smaller.
                let fixed = given == full && full > 1 && attempt(1, None).is_err();
                Ok((Form { batch: fixed.then_some(full), ..form }, made))
            }
            Err(error) if given < full => attempt(given, Some(full)).map_err(|_| error),
            Err(error) => Err(error),
        };
        let (form, made) = tried.map_err(|error| {
            let others =
                std::iter::successors(Some(1), |count| Some(2 * count)).take_while(|&count| count < full);
            let takes = others.into_iter().find(|&count| attempt(given.min(count), Some(count)).is_ok());
            self.disagreement(match takes {
                Some(count) => format!(
                    "the pair takes {count} image(s) at a time, not {full}; give --batch-size {count} \
                     (eval.batch_size)"
                ),
                None => error.to_string(),
            })
        })?;
        let (key, range) = self.adapter.range();
        // A pair that refuses values in another range has none better.
        let others = USUAL.into_iter().filter(|other| *other != stated);
        let others = others
            .filter_map(|other| Some((other, self.attempt(images, form.batch, other).ok()?.1)))
            .collect::<Vec<_>>();
        let ranges = Ranges { input: stated, output: self.adapter.output_range };
        let input = better_input(ranges, &made, &others, (images, words));
        self.input_doubtful = input.is_some();
        self.notes = match judge(&made, (images, words), key, range, input) {
            Finding::Fits => vec![],
            Finding::Doubtful(words) => vec![words],
            Finding::Wrong(words) => return Err(self.disagreement(words)),
        };
        self.form = form;
        let any_number = given == full && form.batch.is_none();
        let few = images.narrow(0, 0, if any_number { given.min(ENOUGH_IMAGES) } else { given });
        let unsteady = steadiness::notes(&*self, &few, words);
        let unsteady = unsteady.map_err(|error| self.disagreement(error.to_string()))?;
        self.notes.extend(unsteady);
        Ok(())
    }

    /// Doubts about the pair that the first images raised, one sentence each.
    #[must_use]
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// Whether the first images showed that another `input_range` fits better. Other oddities of the
    /// pair's results may follow from it.
    #[must_use]
    pub fn input_doubtful(&self) -> bool {
        self.input_doubtful
    }

    fn disagreement(&self, disagreement: String) -> AdapterError {
        AdapterError::Disagrees { path: self.path.clone(), disagreement }
    }

    /// Returns the form of these images' indices, and the decoder's output for them, `[B, 3, H, W]`
    /// in its own range. The encoder gets them in the range `input`.
    fn attempt(
        &self,
        images: &Tensor,
        batch: Option<i64>,
        input: [f64; 2],
    ) -> Result<(Form, Tensor), CodecError> {
        let all = filled(images, batch);
        let raw = self.raw_indices(&all, input)?;
        let grid = self.expected(&all);
        let form = Form { flat: raw.dim() + 1 == grid.len(), kind: raw.kind(), batch };
        let made = self.raw_images(&self.checked(&raw, &all, form)?, form)?;
        if made.size() != all.size() {
            return Err(CodecError::Disagrees(format!(
                "the decoder makes images {:?} of images {:?}; correct layout, downsample or decoder",
                made.size(),
                all.size()
            )));
        }
        Ok((form, without_filling(made, &all, images)))
    }

    /// The adapter.
    #[must_use]
    pub fn adapter(&self) -> &Adapter {
        &self.adapter
    }

    /// The files of encoder and decoder.
    #[must_use]
    pub fn files(&self) -> [PathBuf; 2] {
        let folder = self.path.parent().unwrap_or(Path::new(""));
        [&self.adapter.encoder, &self.adapter.decoder].map(|name| folder.join(name))
    }

    /// The encoder's indices in its own shape, for images in the range from `black` to `white`.
    fn raw_indices(&self, images: &Tensor, [black, white]: [f64; 2]) -> Result<Tensor, CodecError> {
        let output = catching(|| {
            let scaled = images.to_kind(Kind::Float) * ((white - black) / 255.0) + black;
            let ordered = match self.adapter.layout {
                Layout::Nchw => scaled,
                Layout::Nhwc => scaled.permute([0, 2, 3, 1]).contiguous(),
            };
            let input = IValue::Tensor(ordered.to_kind(self.adapter.number.kind()));
            no_grad(|| self.encoder.forward_is(&[input]))
        })?;
        let output = output.map_err(|error| refuses(Half::Encoder, images, &error))?;
        let place = self.adapter.indices_output;
        let tensors = tensors_of(output);
        let outputs = tensors.len();
        tensors.into_iter().nth(place).flatten().ok_or_else(|| {
            CodecError::Disagrees(format!(
                "indices_output is {place}, and the encoder has {outputs} output(s), of which that is no tensor"
            ))
        })
    }

    /// The expected grid shape for images of this size.
    fn expected(&self, images: &Tensor) -> Vec<i64> {
        let (size, factor) = (images.size(), self.adapter.downsample);
        let mut grid = vec![size[0], size[2] / factor, size[3] / factor];
        if self.adapter.codebooks > 1 {
            grid.push(self.adapter.codebooks);
        }
        grid
    }

    /// Converts the encoder's own indices to the form that callers use: `[B, h, w]`, int64, in
    /// range.
    fn checked(&self, raw: &Tensor, images: &Tensor, form: Form) -> Result<Tensor, CodecError> {
        if raw.is_floating_point() {
            return Err(CodecError::Disagrees(format!(
                "output {} of the encoder holds {:?} numbers, not indices; correct indices_output",
                self.adapter.indices_output,
                raw.kind()
            )));
        }
        let grid = self.expected(images);
        let flat = [&grid[..1], &[grid[1] * grid[2]], &grid[3..]].concat();
        if raw.size() != if form.flat { &flat } else { &grid }[..] {
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

    /// The decoder's output, `[B, 3, H, W]` in its own range and kind.
    fn raw_images(&self, indices: &Tensor, form: Form) -> Result<Tensor, CodecError> {
        let own = if form.flat { indices.flatten(1, 2) } else { indices.shallow_clone() };
        let own = IValue::Tensor(own.to_kind(form.kind));
        let output = catching(|| no_grad(|| self.decoder.forward_is(&[own])))?;
        let output = output.map_err(|error| refuses(Half::Decoder, indices, &error))?;
        let Some(Some(images)) = tensors_of(output).into_iter().next() else {
            return Err(CodecError::Disagrees("the decoder's first output is no tensor".into()));
        };
        if images.dim() != 4 {
            return Err(CodecError::Disagrees(format!("the decoder makes {:?}, not images", images.size())));
        }
        if !is_finite(&images) {
            return Err(CodecError::NotFinite("reconstructions"));
        }
        Ok(match self.adapter.layout {
            Layout::Nchw => images,
            Layout::Nhwc => images.permute([0, 3, 1, 2]).contiguous(),
        })
    }
}

impl Codec for TorchScript {
    fn vocabulary(&self) -> Vocabulary {
        Vocabulary { codebooks: self.adapter.codebooks, size: self.adapter.codebook_size }
    }

    fn shape(&self, image: ImageSize) -> Result<TokenShape, CodecError> {
        let side = |pixels: u32| (i64::from(pixels) / self.adapter.downsample) as u32;
        Ok(TokenShape::Grid { h: side(image.height), w: side(image.width) })
    }

    fn encode(&self, images: &Tensor) -> Result<Tensor, CodecError> {
        let all = filled(images, self.form.batch);
        let indices = self.checked(&self.raw_indices(&all, self.adapter.input_range)?, &all, self.form)?;
        Ok(without_filling(indices, &all, images))
    }

    fn decode(&self, indices: &Tensor, _image: ImageSize) -> Result<Tensor, CodecError> {
        let all = filled(indices, self.form.batch);
        let made = without_filling(self.raw_images(&all, self.form)?, &all, indices);
        Ok(levels(&made, self.adapter.range().1))
    }
}

/// Ramps, `[B, 3, H, W]` uint8, black at the left.
fn ramp(count: i64, (height, width): (i64, i64), device: Device) -> Tensor {
    let row = Tensor::linspace(0.0, 255.0, width, (Kind::Float, device)).round().to_kind(Kind::Uint8);
    row.expand([count, 3, height, width], false).contiguous()
}

/// Fills rows up to `batch` by repeating the last one.
fn filled(rows: &Tensor, batch: Option<i64>) -> Tensor {
    let count = rows.size()[0];
    match batch {
        Some(batch) if count < batch => {
            let places = Tensor::arange(batch, (Kind::Int64, rows.device())).clamp_max(count - 1);
            rows.index_select(0, &places)
        }
        _ => rows.shallow_clone(),
    }
}

/// Drops from `made` the results of the filling, when `all` are `rows` filled up. A result with a
/// different number of rows stays unchanged.
fn without_filling(made: Tensor, all: &Tensor, rows: &Tensor) -> Tensor {
    if made.size()[0] == all.size()[0] { made.narrow(0, 0, rows.size()[0]) } else { made }
}

fn load_module(path: &PathBuf, device: Device) -> Result<CModule, AdapterError> {
    let failed = |reason: String| AdapterError::NotTorchScript { path: path.clone(), reason };
    // libtorch's message for a missing file names a line of its own source.
    if !path.exists() {
        return Err(AdapterError::Missing(path.clone()));
    }
    let mut module =
        CModule::load_on_device(path, device).map_err(|error| failed(first_line(&error).to_owned()))?;
    module.set_eval();
    Ok(module)
}

/// The tensors of an output or a tuple of outputs, in order; `None` for an output that is not a
/// tensor.
fn tensors_of(output: IValue) -> Vec<Option<Tensor>> {
    let tensor = |value| if let IValue::Tensor(tensor) = value { Some(tensor) } else { None };
    match output {
        IValue::Tuple(values) | IValue::GenericList(values) => values.into_iter().map(tensor).collect(),
        IValue::TensorList(tensors) => tensors.into_iter().map(Some).collect(),
        other => vec![tensor(other)],
    }
}

fn refuses(half: Half, given: &Tensor, error: &tch::TchError) -> CodecError {
    CodecError::Refuses { half, count: given.size()[0], reason: first_line(error) }
}

/// libtorch's message without its stack.
fn first_line(error: &tch::TchError) -> String {
    let text = error.to_string();
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // An error inside a script ends with its cause, after the script's own trace.
    let cause = lines.iter().find_map(|line| line.strip_prefix("RuntimeError: "));
    let line = cause.or(lines.first().copied()).unwrap_or_default();
    // libtorch appends guesses at the reason after the first sentence.
    line.split(". ").next().unwrap_or(line).trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
