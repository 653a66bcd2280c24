//! Named tensors as safetensors files. Reading returns exactly the written bytes, NaNs included.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use safetensors::tensor::{Dtype, Metadata, SafeTensors, TensorInfo};
use tch::{Device, Kind, Tensor};

use crate::host::{copy_async, host_memory_for};
use crate::{TorchError, catching, no_grad, synchronize};
use pixtok_base::sniff::{Kind as FileKind, sniff};
use pixtok_base::{Class, Classified};

/// Tensors by name, in the order of their names.
pub type Tensors = BTreeMap<String, Tensor>;

/// The shape and the type of a tensor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Form {
    /// The length of each axis.
    pub shape: Vec<i64>,
    /// The type of its numbers.
    pub kind: Kind,
}

impl Form {
    /// The form of `tensor`.
    #[must_use]
    pub fn of(tensor: &Tensor) -> Self {
        Self { shape: tensor.size(), kind: tensor.kind() }
    }
}

impl fmt::Display for Form {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?}", self.shape, self.kind)
    }
}

/// The reason why tensors were not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The system reported an error.
    #[error("writing failed")]
    Io(#[from] io::Error),
    /// The format lacks the tensor's type, or libtorch cannot hand the tensor out.
    #[error("tensor {name:?} cannot be saved: {reason}")]
    Tensor {
        /// The name of the tensor.
        name: String,
        /// The reason.
        reason: String,
    },
}

impl Classified for WriteError {
    fn class(&self) -> Class {
        match self {
            Self::Io(_) => Class::SaveFailed,
            Self::Tensor { .. } => Class::Failed,
        }
    }
}

/// Why tensors were not copied into others.
#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    /// Names, shapes or types differ.
    #[error("the tensors differ: {0}")]
    Mismatch(String),
    /// libtorch refused a copy.
    #[error("cannot copy tensor {name:?}")]
    Torch {
        /// The name of the tensor.
        name: String,
        /// libtorch's error.
        source: tch::TchError,
    },
}

impl Classified for CopyError {
    fn class(&self) -> Class {
        match self {
            Self::Mismatch(_) => Class::Misuse,
            Self::Torch { .. } => Class::Failed,
        }
    }
}

/// Writes `tensors` to a new file at `path`, as [`write_to`] does, and waits for the disk. Not
/// atomic.
///
/// # Errors
/// The same as [`write_to`].
pub fn write(path: &Path, tensors: &Tensors) -> Result<(), WriteError> {
    let mut writer = BufWriter::new(File::create(path)?);
    write_to(&mut writer, tensors)?;
    writer.flush()?;
    Ok(writer.get_ref().sync_all()?)
}

/// Writes the bytes of a safetensors file, with `{"format": "pt"}` in its metadata. Tensors on any
/// device are copied to host memory, one at a time, and written contiguously. Equal tensors give
/// equal bytes.
///
/// # Errors
/// [`WriteError`], also for a type other than f32, f64, bf16, f16, i64, i32, u8 or bool.
pub fn write_to(writer: &mut impl Write, tensors: &Tensors) -> Result<(), WriteError> {
    let mut typed = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        typed.push((name, tensor, dtype_of(name, tensor)?));
    }
    // The order that the format prescribes, which keeps wide types aligned: by descending size of
    // the type, then by name.
    typed.sort_by(|left, right| right.2.cmp(&left.2).then(left.0.cmp(right.0)));

    let mut end = 0;
    let infos = typed.iter().map(|&(name, tensor, dtype)| {
        let start = end;
        end += tensor_bytes(tensor);
        let shape = tensor.size().iter().map(|&length| length as usize).collect();
        (name.clone(), TensorInfo { dtype, shape, data_offsets: (start, end) })
    });
    let format = HashMap::from([("format".to_owned(), "pt".to_owned())]);
    let metadata = Metadata::new(Some(format), infos.collect())
        .map_err(|error| WriteError::Tensor { name: "(header)".to_owned(), reason: error.to_string() })?;
    let mut header = serde_json::to_vec(&metadata).map_err(std::io::Error::from)?;
    header.resize(header.len().next_multiple_of(8), b' ');
    writer.write_all(&(header.len() as u64).to_le_bytes())?;
    writer.write_all(&header)?;

    for (name, tensor, _) in typed {
        let mut bytes = vec![0; tensor_bytes(tensor)];
        tensor
            .f_copy_data_u8(&mut bytes, tensor.numel())
            .map_err(|error| WriteError::Tensor { name: name.clone(), reason: error.to_string() })?;
        writer.write_all(&bytes)?;
    }
    Ok(())
}

/// Reads the tensors of a whole file, given as bytes, into host memory.
///
/// # Errors
/// A description in words, if the bytes are not a whole safetensors file with the types of
/// [`write_to`].
pub fn from_bytes(bytes: &[u8]) -> Result<Tensors, String> {
    match sniff(bytes) {
        // A damaged file may look like a file of any kind.
        FileKind::Safetensors | FileKind::Unknown => {}
        kind => return Err(format!("it is {kind}")),
    }
    let file = SafeTensors::deserialize(bytes).map_err(|error| error.to_string())?;
    let mut tensors = Tensors::new();
    for (name, view) in file.iter() {
        let kind =
            kind_of(view.dtype()).ok_or_else(|| format!("tensor {name:?} has type {:?}", view.dtype()))?;
        let shape: Vec<i64> = view.shape().iter().map(|&length| length as i64).collect();
        let tensor =
            Tensor::f_from_data_size(view.data(), &shape, kind).map_err(|error| error.to_string())?;
        tensors.insert(name.to_owned(), tensor);
    }
    Ok(tensors)
}

/// Copies `source` into the storage of `target`, on whatever device that is, without gradients. If
/// names, shapes or types differ, nothing is copied.
///
/// # Errors
/// [`CopyError::Mismatch`] names missing, unexpected and differing tensors; [`CopyError::Torch`] if
/// a copy fails.
pub fn copy_into(target: &Tensors, source: &Tensors) -> Result<(), CopyError> {
    let forms = target.iter().map(|(name, tensor)| (name.clone(), Form::of(tensor))).collect();
    copy_share_into(&forms, target, source)
}

/// Copies those tensors of `source` that are in `target`, like [`copy_into`]. `source` must have
/// exactly the tensors of `forms`, to which all of `target` belong.
///
/// # Errors
/// The same as [`copy_into`].
pub fn copy_share_into(
    forms: &BTreeMap<String, Form>,
    target: &Tensors,
    source: &Tensors,
) -> Result<(), CopyError> {
    let differences = differences(forms, source);
    if !differences.is_empty() {
        return Err(CopyError::Mismatch(differences));
    }
    no_grad(|| {
        for (name, tensor) in target {
            tensor
                .shallow_clone()
                .f_copy_(&source[name])
                .map_err(|source| CopyError::Torch { name: name.clone(), source })?;
        }
        Ok(())
    })
}

/// Copies `source` into host memory of its own, and waits until all is copied. `earlier` is what an
/// earlier call returned: a tensor with the same name, shape and type is written over, so that its
/// memory is allocated once. The memory for a tensor on a CUDA device is pinned.
///
/// # Errors
/// If memory runs out, or a copy fails.
pub fn copy_to_host(source: &Tensors, mut earlier: Tensors) -> Result<Tensors, TorchError> {
    let mut copies = Tensors::new();
    for (name, tensor) in source {
        let fits = |own: &Tensor| own.size() == tensor.size() && own.kind() == tensor.kind();
        let mut copy = match earlier.remove(name).filter(fits) {
            Some(own) => own,
            None => host_memory_for(tensor)?,
        };
        copy_async(&mut copy, tensor)?;
        copies.insert(name.clone(), copy);
    }
    if let Some(device) = source.values().map(Tensor::device).find(|device| device.is_cuda()) {
        catching(|| synchronize(device))?;
    }
    Ok(copies)
}

/// The differences of `source` from `forms` in names, shapes and types, in words; empty if there
/// are none.
fn differences(forms: &BTreeMap<String, Form>, source: &Tensors) -> String {
    let quoted = |name: &String| format!("{name:?}");
    let missing: Vec<String> = forms.keys().filter(|name| !source.contains_key(*name)).map(quoted).collect();
    let unexpected: Vec<String> =
        source.keys().filter(|name| !forms.contains_key(*name)).map(quoted).collect();
    let different: Vec<String> = forms
        .iter()
        .filter_map(|(name, ours)| source.get(name).map(|theirs| (name, ours, Form::of(theirs))))
        .filter(|(_, ours, theirs)| **ours != *theirs)
        .map(|(name, ours, theirs)| format!("{name:?} is {theirs} there, {ours} here"))
        .collect();
    [("missing", missing), ("unexpected", unexpected), ("different", different)]
        .into_iter()
        .filter(|(_, items)| !items.is_empty())
        .map(|(label, items)| format!("{} {label} ({})", items.len(), few(&items)))
        .collect::<Vec<_>>()
        .join(", ")
}

/// The first three items, with an ellipsis if there are more.
fn few(items: &[String]) -> String {
    let shown = items.iter().take(3).cloned().collect::<Vec<_>>().join(", ");
    if items.len() > 3 { format!("{shown}, …") } else { shown }
}

/// The name of the first tensor that has a NaN or an infinity; integer tensors have neither. Reads
/// one small tensor from the device for all of them together.
pub fn not_finite<'a>(tensors: impl IntoIterator<Item = (&'a String, &'a Tensor)>) -> Option<&'a str> {
    let numbers = |tensor: &Tensor| tensor.is_floating_point() && tensor.numel() > 0;
    let tensors = tensors.into_iter().filter(|(_, tensor)| numbers(tensor));
    let (names, extremes): (Vec<&str>, Vec<Tensor>) = no_grad(|| {
        // Minimum and maximum are NaN if any value is NaN, and they need no copy of the tensor.
        let extremes = tensors.map(|(name, tensor)| {
            let (least, most) = tensor.aminmax(None, false);
            (name.as_str(), least.to_kind(Kind::Double) + most.to_kind(Kind::Double))
        });
        extremes.unzip()
    });
    if extremes.is_empty() {
        return None;
    }
    let finite = Tensor::stack(&extremes, 0).isfinite().to_device(Device::Cpu);
    names.into_iter().zip(0..).find(|&(_, at)| finite.int64_value(&[at]) == 0).map(|(name, _)| name)
}

/// The bytes that the tensors' data take in a file.
#[must_use]
pub fn size_bytes(tensors: &Tensors) -> u64 {
    tensors.values().map(|tensor| tensor_bytes(tensor) as u64).sum()
}

fn tensor_bytes(tensor: &Tensor) -> usize {
    tensor.numel() * tensor.kind().elt_size_in_bytes()
}

/// The types that files support, as tch and safetensors name them.
const TYPES: [(Kind, Dtype); 8] = [
    (Kind::Float, Dtype::F32),
    (Kind::Double, Dtype::F64),
    (Kind::BFloat16, Dtype::BF16),
    (Kind::Half, Dtype::F16),
    (Kind::Int64, Dtype::I64),
    (Kind::Int, Dtype::I32),
    (Kind::Uint8, Dtype::U8),
    (Kind::Bool, Dtype::BOOL),
];

fn dtype_of(name: &str, tensor: &Tensor) -> Result<Dtype, WriteError> {
    let kind = tensor.kind();
    let found = TYPES.iter().find(|(ours, _)| *ours == kind).map(|(_, dtype)| *dtype);
    found.ok_or_else(|| WriteError::Tensor {
        name: name.to_owned(),
        reason: format!("its type {kind:?} is none that checkpoints hold"),
    })
}

fn kind_of(dtype: Dtype) -> Option<Kind> {
    TYPES.iter().find(|(_, theirs)| *theirs == dtype).map(|(kind, _)| *kind)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn named(items: Vec<(&str, Tensor)>) -> Tensors {
        items.into_iter().map(|(name, tensor)| (name.to_owned(), tensor)).collect()
    }

    fn bytes_of(tensor: &Tensor) -> Vec<u8> {
        let mut bytes = vec![0; tensor_bytes(tensor)];
        tensor.copy_data_u8(&mut bytes, tensor.numel());
        bytes
    }

    #[test]
    fn every_type_and_odd_shape_comes_back_bit_for_bit() {
        let values = Tensor::from_slice(&[1.0f32, -0.0, f32::NAN, f32::INFINITY, 1e-40, -2.5]).view([2, 3]);
        let mut all: Tensors = TYPES
            .iter()
            .filter(|(kind, _)| !matches!(kind, Kind::Int64 | Kind::Int | Kind::Uint8))
            .map(|(kind, _)| (format!("{kind:?}"), values.to_kind(*kind)))
            .collect();
        for kind in [Kind::Int64, Kind::Int, Kind::Uint8] {
            all.insert(format!("{kind:?}"), Tensor::from_slice(&[0i64, 255, 7]).to_kind(kind));
        }
        all.insert("scalar".into(), Tensor::from(3.5f64));
        all.insert("empty".into(), Tensor::zeros([0, 5], (Kind::Float, Device::Cpu)));
        all.insert("transposed".into(), values.tr());
        all.insert(
            "learned".into(),
            Tensor::ones([5, 7], (Kind::Float, Device::Cpu)).set_requires_grad(true),
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("all.safetensors");
        write(&path, &all).unwrap();
        let back = from_bytes(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(back.keys().collect::<Vec<_>>(), all.keys().collect::<Vec<_>>());
        for (name, tensor) in &all {
            assert_eq!(back[name].size(), tensor.size(), "{name}");
            assert_eq!(back[name].kind(), tensor.kind(), "{name}");
            assert_eq!(bytes_of(&back[name]), bytes_of(tensor), "{name}");
        }
        let mut again = Vec::new();
        write_to(&mut again, &back).unwrap();
        assert_eq!(again, fs::read(&path).unwrap());
        assert!(again.windows(15).any(|w| w == br#""format":"pt"},"#), "metadata says format pt");
    }

    #[test]
    fn a_number_that_is_not_finite_is_found_by_name() {
        let with = |value: f64| {
            let odd = Tensor::from_slice(&[1.0, -2.0, 0.5, value, 3.0, 0.0]).view([2, 3]);
            named(vec![
                ("a", Tensor::ones([5, 7], (Kind::Float, Device::Cpu)).set_requires_grad(true)),
                ("b", Tensor::zeros([0, 5], (Kind::Float, Device::Cpu))),
                ("c", odd.to_kind(Kind::Float).tr()),
                ("d", Tensor::from_slice(&[1i64, 2])),
            ])
        };
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(not_finite(&with(value)), Some("c"), "{value}");
        }
        for value in [0.0, f64::from(f32::MAX), f64::from(f32::MIN)] {
            assert_eq!(not_finite(&with(value)), None, "{value}");
        }
        assert_eq!(not_finite(&Tensors::new()), None);
    }

    #[test]
    fn no_tensors_at_all_are_a_file_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("none.safetensors");
        write(&path, &Tensors::new()).unwrap();
        assert!(from_bytes(&fs::read(&path).unwrap()).unwrap().is_empty());
    }

    #[test]
    fn other_files_are_named() {
        let pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:e349\nsize 30\n";
        let mut whole = Vec::new();
        write_to(&mut whole, &named(vec![("a", Tensor::from(1.0f32))])).unwrap();
        let cases: [(&[u8], &str); 7] = [
            (b"", "it is an empty file"),
            (pointer, "git lfs pull"),
            (b"PK\x03\x04archive", "it is a zip archive"),
            (b"\x80\x02\x8a\nl\xfc\x9cF", "it is a Python pickle"),
            (b"<!DOCTYPE html>", "it is an HTML page"),
            (&whole[..whole.len() - 2], "not fully covered"),
            (&whole[..20], "invalid header length"),
        ];
        for (bytes, part) in cases {
            let reason = from_bytes(bytes).unwrap_err();
            assert!(reason.contains(part), "{reason}");
        }
    }

    #[test]
    fn a_type_that_the_format_lacks_is_named() {
        let mut sink = Vec::new();
        let odd = named(vec![("odd", Tensor::from(1.0f32).to_kind(Kind::ComplexFloat))]);
        let error = write_to(&mut sink, &odd).unwrap_err().to_string();
        assert!(error.contains("\"odd\"") && error.contains("ComplexFloat"), "{error}");
    }

    #[test]
    fn copying_keeps_storage_and_refuses_what_does_not_fit() {
        let ones = |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu));
        let weight = ones(&[5, 7]).set_requires_grad(true);
        let target = named(vec![("a", weight.shallow_clone()), ("b", ones(&[3]))]);
        let source = named(vec![("a", ones(&[5, 7]) * 2.0), ("b", ones(&[3]) * 3.0)]);
        copy_into(&target, &source).unwrap();
        assert_eq!(weight.double_value(&[4, 6]), 2.0);
        assert!(weight.requires_grad());

        let source = named(vec![("a", ones(&[7, 5]) * 9.0), ("c", ones(&[3]))]);
        let message = copy_into(&target, &source).unwrap_err().to_string();
        for part in ["1 missing (\"b\")", "1 unexpected (\"c\")", "[7, 5]", "[5, 7]"] {
            assert!(message.contains(part), "{part}: {message}");
        }
        assert_eq!(weight.double_value(&[4, 6]), 2.0, "nothing is copied in part");

        let source = named(vec![("a", ones(&[5, 7]).to_kind(Kind::BFloat16)), ("b", ones(&[3]))]);
        assert!(matches!(copy_into(&target, &source), Err(CopyError::Mismatch(_))), "types count");
    }

    #[test]
    fn a_copy_in_host_memory_shares_nothing_and_takes_earlier_memory() {
        let values = Tensor::from_slice(&[1.0f32, -2.0, 0.5, 3.0, 4.0, 0.0]).view([2, 3]);
        let mut weight = values.copy();
        let live = named(vec![
            ("weight", weight.shallow_clone()),
            ("learned", Tensor::ones([5, 7], (Kind::Float, Device::Cpu)).set_requires_grad(true)),
            ("transposed", values.tr()),
            ("halves", values.to_kind(Kind::BFloat16)),
            ("flags", values.gt(0.0)),
            ("count", Tensor::from(3i64)),
            ("empty", Tensor::zeros([0, 5], (Kind::Float, Device::Cpu))),
        ]);
        let copy = copy_to_host(&live, Tensors::new()).unwrap();
        assert_eq!(copy.keys().collect::<Vec<_>>(), live.keys().collect::<Vec<_>>());
        for (name, tensor) in &live {
            let own = &copy[name];
            assert_eq!((own.size(), own.kind()), (tensor.size(), tensor.kind()), "{name}");
            assert_eq!(bytes_of(own), bytes_of(tensor), "{name}");
            assert!(own.is_contiguous() && !own.requires_grad(), "{name}");
        }
        let _ = weight.fill_(9.0);
        assert_eq!(copy["weight"], values);

        let address = copy["weight"].data_ptr();
        let copy = copy_to_host(&live, copy).unwrap();
        assert_eq!((copy["weight"].data_ptr(), copy["weight"].double_value(&[1, 2])), (address, 9.0));
        let other = named(vec![("weight", Tensor::ones([5, 7], (Kind::Float, Device::Cpu)))]);
        let copy = copy_to_host(&other, copy).unwrap();
        assert_eq!((copy.len(), copy["weight"].size()), (1, vec![5, 7]));
    }

    #[test]
    fn a_share_is_copied_only_if_everything_fits() {
        let full = |shape: &[i64], value: f64| Tensor::full(shape, value, (Kind::Float, Device::Cpu));
        let whole = named(vec![("a", full(&[5, 7], 0.0)), ("b", full(&[3], 0.0))]);
        let forms: BTreeMap<String, Form> =
            whole.iter().map(|(name, tensor)| (name.clone(), Form::of(tensor))).collect();
        let own = named(vec![("b", full(&[3], 1.0))]);
        let source = named(vec![("a", full(&[5, 7], 2.0)), ("b", full(&[3], 3.0))]);
        copy_share_into(&forms, &own, &source).unwrap();
        assert_eq!(own["b"], source["b"]);

        let source = named(vec![("a", full(&[7, 5], 4.0)), ("b", full(&[3], 4.0))]);
        let message = copy_share_into(&forms, &own, &source).unwrap_err().to_string();
        assert!(message.contains("\"a\" is [7, 5] Float there, [5, 7] Float here"), "{message}");
        assert_eq!(own["b"].double_value(&[0]), 3.0, "nothing is copied in part");
    }
}
