//! pixtok (being laid).
pub mod seed;
pub mod torch;
