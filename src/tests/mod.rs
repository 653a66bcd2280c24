//! Tests of several modules together, which may import all of them.

mod prefixes;
pub(crate) mod sequence;
