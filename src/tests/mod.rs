//! Tests of several modules together, which may import all of them.

pub(crate) mod sequence;
