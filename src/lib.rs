//! pixtok (being laid).
pub mod layers;
pub mod loss;
pub mod model;
pub mod optim;
pub mod quantizer;
pub mod seed;
pub mod torch;
