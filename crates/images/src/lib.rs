//! Pictures, and where they come from: decoding and encoding, and folders, tars, Parquet files and
//! lists of pictures as batches of bytes or one by one. Needs no libtorch.

pub mod data;
pub mod picture;

// The examples of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
