//! The codes of a tokenizer as one table, for other programs.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Result;
use indicatif::DecimalBytes;
use tch::{Device, Kind, Tensor};

use crate::checkpoint::{SaveCause, write_atomic_with};
use crate::quantizer::CodebookShape;
use crate::run::{Compute, ModelChoice, Run, Tell};
use pixtok_base::Misuse;
use pixtok_torch::no_grad;
use pixtok_torch::tensors::{self, Tensors};

/// The size limit of a table, which is held in memory as a whole.
const MOST_BYTES: i64 = 8 << 30;
/// The number of elements that are computed or written at one time.
const AT_ONCE: i64 = 1 << 24;

/// A file format, recognised by the file name's ending.
#[derive(Clone, Copy)]
enum Format {
    Safetensors,
    Npy,
}

/// The options of writing a codebook.
#[derive(Debug, Clone, PartialEq)]
pub struct CodebookOptions {
    /// A run or a model folder.
    pub tokenizer: PathBuf,
    /// The choice of checkpoint, weights and precision.
    pub choice: ModelChoice,
    /// Where and how to compute.
    pub compute: Compute,
    /// The output file, `.safetensors` or `.npy`.
    pub out: PathBuf,
}

/// Looks up all codes and writes them. Returns a description of what was written.
///
/// # Errors
/// When the table is too large, the tokenizer cannot be opened, or the file cannot be written.
pub fn write_codebook(options: &CodebookOptions, tell: Tell) -> Result<String> {
    let out = &options.out;
    let format = format_of(out)?;
    options.choice.require_fp32("codes are float32")?;
    let device = options.compute.start(tell)?;
    let trained = Run::find(&options.tokenizer)?.open(options.choice, device, tell)?;
    let shape = trained.tokenizer.codebook();
    let bytes = bytes_of(&shape)?;
    let quantizer = &trained.tokenizer.quantizer;
    let table = table(&shape, |codebook, indices| quantizer.codes(codebook, indices), device);
    write_atomic_with(out, bytes as u64, |file| match format {
        Format::Safetensors => Ok(tensors::write_to(file, &Tensors::from([("codebook".to_owned(), table)]))?),
        Format::Npy => write_npy(file, &table),
    })?;
    let CodebookShape { codebooks, size, dim } = shape;
    let tables = if codebooks == 1 { String::new() } else { format!("{codebooks} tables of ") };
    let (path, bytes) = (out.display(), DecimalBytes(bytes as u64));
    let weights = trained.weights();
    Ok(format!("{path}: {tables}{size} codes of {dim} numbers, float32, {bytes} ({weights})\n"))
}

fn format_of(path: &Path) -> Result<Format> {
    match path.extension().and_then(|ending| ending.to_str()) {
        Some("safetensors") => Ok(Format::Safetensors),
        Some("npy") => Ok(Format::Npy),
        _ => Err(Misuse(format!("{}: the name must end in .safetensors or .npy", path.display())).into()),
    }
}

fn bytes_of(shape: &CodebookShape) -> Result<i64> {
    let CodebookShape { codebooks, size, dim } = *shape;
    let bytes = [size, dim, 4].into_iter().fold(codebooks, i64::saturating_mul);
    if bytes <= MOST_BYTES {
        return Ok(bytes);
    }
    Err(Misuse(format!(
        "{codebooks} × {size} codes of {dim} numbers take {} as float32, and a table of more than {} is not made; such \
         codes are worked out where they are needed (`pixtok export`)",
        DecimalBytes(bytes as u64),
        DecimalBytes(MOST_BYTES as u64)
    ))
    .into())
}

/// The codes in host memory: `[K, D]`, or `[codebooks, K, D]` if there are several codebooks.
fn table(shape: &CodebookShape, codes: impl Fn(i64, &Tensor) -> Tensor, device: Device) -> Tensor {
    let CodebookShape { codebooks, size, dim } = *shape;
    let rows = (AT_ONCE / dim).max(1);
    no_grad(|| {
        let table = Tensor::empty([codebooks, size, dim], (Kind::Float, Device::Cpu));
        for codebook in 0..codebooks {
            for first in (0..size).step_by(rows as usize) {
                let count = rows.min(size - first);
                let indices = Tensor::arange_start(first, first + count, (Kind::Int64, device));
                // [1, n, D] -> [n, D].
                let codes = codes(codebook, &indices.view([1, -1])).squeeze_dim(0);
                table.select(0, codebook).narrow(0, first, count).copy_(&codes);
            }
        }
        if codebooks == 1 { table.squeeze_dim(0) } else { table }
    })
}

/// NumPy's format 1.0 (numpy.lib.format): a Python literal, padded so that the numbers start at a
/// multiple of 64 bytes, then the numbers in C order, little-endian.
fn write_npy(file: &mut impl Write, table: &Tensor) -> Result<(), SaveCause> {
    let shape = table.size().iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
    let mut header = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': ({shape}), }}");
    let start = b"\x93NUMPY\x01\x00";
    let length = (start.len() + 2 + header.len() + 1).next_multiple_of(64) - start.len() - 2;
    header = format!("{header:<width$}\n", width = length - 1);
    file.write_all(start)?;
    file.write_all(&(length as u16).to_le_bytes())?;
    file.write_all(header.as_bytes())?;
    for part in table.view([-1]).split(AT_ONCE, 0) {
        let mut bytes = vec![0; part.numel() * 4];
        part.copy_data_u8(&mut bytes, part.numel());
        file.write_all(&bytes)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_npy_file_begins_as_numpy_writes_it() {
        let table = Tensor::from_slice(&[1f32, -2.0, 3.0, 4.0, 5.0, 6.5]).view([3, 2]);
        let mut file = vec![];
        write_npy(&mut file, &table).unwrap();
        // The output of numpy 2's numpy.save for the same array.
        let header = b"\x93NUMPY\x01\x00v\x00{'descr': '<f4', 'fortran_order': False, 'shape': (3, 2), }";
        assert!(file.starts_with(header), "{:?}", String::from_utf8_lossy(&file));
        assert_eq!((file.len(), file[127]), (128 + 24, b'\n'));
        assert_eq!(file[128..136], [1f32.to_le_bytes(), (-2f32).to_le_bytes()].concat());
    }

    #[test]
    fn a_table_that_is_too_large_is_refused_with_its_size() {
        let shape = |size, dim| CodebookShape { codebooks: 2, size, dim };
        assert_eq!(bytes_of(&shape(1 << 20, 16)).unwrap(), 2 << 26);
        let refused = bytes_of(&shape(1 << 31, 65536)).unwrap_err().to_string();
        assert!(refused.contains("2147483648 codes of 65536") && refused.contains("8.59 GB"), "{refused}");
    }
}
