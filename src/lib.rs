//! pixtok (being laid).
pub mod layers;
pub mod quantizer;
pub mod seed;
pub mod torch;
