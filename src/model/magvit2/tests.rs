use super::Config;
use super::decoder::depth_to_space;
use crate::model::testing::{build_with, images, size};
use crate::model::*;
use crate::variables::Variables;
use pixtok_base::seed::Seed;
use pixtok_torch::{Precision, no_grad, with_precision};

const TINY: [i64; 3] = [1, 2, 1];

fn tiny() -> Config {
    Config { channels: 32, multipliers: TINY.to_vec(), res_blocks: 1, ..Config::default() }
}

fn lfq() -> QuantizerConfig {
    toml::from_str("kind = \"lfq\"\nbits = 6").unwrap()
}

fn build(config: &Config, image: (u32, u32)) -> Result<(Variables, Tokenizer), ModelError> {
    build_with(config, &lfq(), size(image))
}

#[test]
fn shapes_follow_the_stages() {
    for (multipliers, factor) in [(vec![1], 1), (vec![1, 2], 2), (vec![2, 1, 1], 4)] {
        let config = Config { multipliers, ..tiny() };
        let (h, w) = (factor * 5, factor * 7);
        let image = (h as u32, w as u32);
        let (_vs, tokenizer) = build(&config, image).unwrap();
        let plan = config.plan(&lfq(), size(image).into()).unwrap();
        assert_eq!((tokenizer.side_multiple(), plan.side_multiple()), (factor, factor));
        assert_eq!(tokenizer.shape(size(image)).unwrap(), TokenShape::Grid { h: 5, w: 7 });
        assert_eq!(plan.shape(), TokenShape::Grid { h: 5, w: 7 });
        let out = tokenizer.forward(&images(h, w), Mode::Eval).unwrap();
        assert_eq!(out.quantized.indices.size(), [2, 35]);
        assert_eq!(out.recon.size(), [2, 3, h, w]);
        // Another size than the planned one.
        let indices = tokenizer.encode(&images(factor * 2, factor)).unwrap();
        assert_eq!(indices.size(), [2, 2, 1]);
        let other = size((factor as u32 * 2, factor as u32));
        assert_eq!(tokenizer.decode(&indices, other).size(), [2, 3, factor * 2, factor]);
    }
}

#[test]
fn only_the_layers_around_the_blocks_have_a_bias() {
    let (vs, _) = build(&tiny(), (20, 28)).unwrap();
    let names = vs.tensors();
    let with_bias = |layer: &str| names.contains_key(&format!("{layer}.bias"));
    for layer in ["encoder.stage0.down", "encoder.head", "decoder.stem", "decoder.stage1.up", "decoder.head"]
    {
        assert!(with_bias(layer), "{layer}");
    }
    for layer in ["encoder.stem", "encoder.stage1.res0.conv1", "decoder.middle.res0.conv2"] {
        assert!(!with_bias(layer) && names.contains_key(&format!("{layer}.weight")), "{layer}");
    }
    for half in ["encoder", "decoder"] {
        let shortcut = &names[&format!("{half}.stage1.res0.shortcut.weight")];
        assert_eq!(shortcut.size(), [64, 32, 1, 1]);
        assert!(!with_bias(&format!("{half}.stage1.res0.shortcut")));
    }
    assert_eq!(names["decoder.stage1.up.weight"].size(), [4 * 64, 64, 3, 3]);
    // Each stage of the decoder begins at the width of the coarser one.
    assert_eq!(names["decoder.stage0.adaptive.gamma.weight"].size(), [64, 6]);
    assert_eq!(names["decoder.stage2.adaptive.beta.weight"].size(), [32, 6]);
}

#[test]
fn four_channels_become_a_square_of_positions_rows_first() {
    // Of (dy, dx, c) with two channels, at one position.
    let x = Tensor::arange(8, (Kind::Float, Device::Cpu)).view([1, 8, 1, 1]);
    let made = depth_to_space(&x, 2);
    assert_eq!(made.size(), [1, 2, 2, 2]);
    assert_eq!(Vec::<f32>::try_from(made.flatten(0, -1)).unwrap(), [0.0, 2.0, 4.0, 6.0, 1.0, 3.0, 5.0, 7.0]);
    // Of several positions, each stays where it is.
    let x = Tensor::arange(2 * 12 * 5 * 7, (Kind::Float, Device::Cpu)).view([2, 12, 5, 7]);
    let made = depth_to_space(&x, 3);
    assert_eq!(made.size(), [2, 3, 10, 14]);
    for (dy, dx, c) in [(0, 0, 2), (0, 1, 1), (1, 0, 0), (1, 1, 2)] {
        let places = made.select(1, c).slice(1, dy, None, 2).slice(2, dx, None, 2);
        assert_eq!(places, x.select(1, (2 * dy + dx) * 3 + c));
    }
}

#[test]
fn decode_of_the_indices_is_the_reconstruction() {
    let config = Config { latent_channels: Some(9), ..tiny() };
    let (_vs, tokenizer) = build(&config, (20, 28)).unwrap();
    for precision in [Precision::Fp32, Precision::Bf16] {
        with_precision(precision, || {
            let images = images(20, 28);
            let out = tokenizer.forward(&images, Mode::Eval).unwrap();
            let indices = tokenizer.encode(&images).unwrap();
            assert_eq!(indices.flatten(1, 2), out.quantized.indices);
            assert_eq!(tokenizer.decode(&indices, size_of(&images)), out.recon, "{precision}");
        });
    }
}

/// So an image cannot be decoded in tiles.
#[test]
fn the_decoder_knows_the_whole_latent() {
    let (_vs, tokenizer) = build(&tiny(), (20, 28)).unwrap();
    let z = Tensor::randn([1, 70, 6], (Kind::Float, Device::Cpu));
    let half = |z: &Tensor| {
        let (shape, image) = (TokenShape::Grid { h: 10, w: 7 }, size((40, 28)));
        no_grad(|| tokenizer.reconstruct(z, shape, image, Mode::Eval)).narrow(2, 0, 4)
    };
    // The last row of the latent, far below the rows that are compared.
    let other = Tensor::cat(&[z.narrow(1, 0, 63), z.narrow(1, 63, 7) * 3.0], 1);
    assert!((half(&z) - half(&other)).abs().max().double_value(&[]) > 1e-4);
}

#[test]
fn blocks_that_are_computed_again_have_the_same_gradients() {
    let gradients = |checkpoint_blocks| {
        let config = Config { checkpoint_blocks, res_blocks: 2, ..tiny() };
        let (vs, tokenizer) = build(&config, (20, 28)).unwrap();
        tch::manual_seed(2);
        let images = images(20, 28);
        let out = tokenizer.forward(&images, Mode::train(Seed(1))).unwrap();
        (out.recon - images).square().mean(Kind::Float).backward();
        vs.tensors().into_iter().map(|(name, tensor)| (name, tensor.grad())).collect::<Vec<_>>()
    };
    for ((name, kept), (_, again)) in gradients(false).into_iter().zip(gradients(true)) {
        assert!(kept.defined() && again.defined(), "{name}");
        assert_eq!(kept, again, "{name}");
    }
    let footprint = |checkpoint_blocks| {
        let config = Config { checkpoint_blocks, ..Config::default() };
        let plan = config.plan(&lfq(), size((64, 64)).into()).unwrap();
        plan.footprint(Device::Cpu).saved_per_image
    };
    assert!(footprint(true) * 5 < footprint(false) * 3);
}

#[test]
fn the_description_says_what_stands_for_absent_settings() {
    let config = Config { checkpoint_blocks: true, ..tiny() };
    let described = config.plan(&lfq(), size((20, 28)).into()).unwrap().description().unwrap();
    for (key, value) in
        [("kind", "\"magvit2\""), ("latent_channels", "6"), ("norm_groups", "32"), ("res_blocks", "1")]
    {
        assert_eq!(described[key].to_string(), value, "{key}");
    }
    assert!(described.get("checkpoint_blocks").is_none(), "only training uses it");
    let written = tiny().written_out(&lfq());
    assert_eq!(written, super::super::Config::Magvit2(Config { latent_channels: Some(6), ..tiny() }));
}

#[test]
fn settings_that_do_not_fit_say_so() {
    let message = |config: Config, size| build(&config, size).map(|_| ()).unwrap_err().to_string();
    assert!(message(tiny(), (63, 64)).contains("60 or 64"));
    assert!(message(tiny(), (4, 4)).contains("4×4 pixels has one token here"));
    assert!(message(Config { channels: 48, ..tiny() }, (64, 64)).contains("model.channels 48 do not divide"));
    assert!(message(Config { channels: 0, ..tiny() }, (64, 64)).contains("channels has 0"));
    assert!(message(Config { multipliers: vec![], ..tiny() }, (64, 64)).contains("has 0 entries"));
    assert!(message(Config { multipliers: vec![1; 33], ..tiny() }, (64, 64)).contains("at most 32"));
    assert!(message(Config { res_blocks: 0, ..tiny() }, (64, 64)).contains("res_blocks has 0"));
    let (_vs, tokenizer) = build(&tiny(), (20, 28)).unwrap();
    let words = tokenizer.encode(&images(4, 4)).unwrap_err().to_string();
    assert!(words.contains("at least two") && words.contains("a side over 4"), "{words}");
    assert!(tokenizer.encode(&images(20, 30)).unwrap_err().to_string().contains("by 4"));
}
