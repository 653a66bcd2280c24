//! pixtok trains, compares and runs **discrete image tokenizers**: an autoencoder whose middle is a quantizer, so
//! that an image becomes a small grid of integers and comes back.
//!
//! ```text
//! files ─► data ─► Batch ─► encoder ─► quantizer ─► decoder ─► loss ─► optim ─► metrics ─► logger / checkpoint
//!          (data/)         └────────── model::Tokenizer ─────────┘   (train/ strings these for a task of tasks/)
//! ```
//!
//! Letters of shapes, everywhere: B batch, C channels, H W pixels, h w latent grid, K codebook size, D code
//! dimension.
//!
//! Each module imports only from those above it in this list (`tests/modules.rs` keeps that true).

pub mod world;

pub mod toml_value;

pub mod batches;

pub mod variables;

pub mod statistics;

pub mod layers;

pub mod similarity;

pub mod quantizer;

pub mod pretrained;

pub mod model;

pub mod loss;

pub mod optim;

pub mod adversarial;

pub mod metrics;

pub mod codec;

pub mod logger;

pub mod checkpoint;

pub mod outputs;

pub mod evaluate;

pub mod train;

pub mod tasks;

pub mod config;

pub mod run;

pub mod inference;

pub mod export;

pub mod sweep;

pub mod doctor;

pub mod cli;

pub mod commands;

#[cfg(test)]
mod tests;
