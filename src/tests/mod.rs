//! Tests of several modules together, which may import all of them.

mod networks;
mod prefixes;
pub(crate) mod sequence;
