use super::*;
use crate::model::testing::build_with;
use crate::model::*;
use crate::variables::Variables;
use pixtok_base::seed::Seed;
use pixtok_torch::no_grad;
use serde_json::json;

const SIZE: ImageSize = ImageSize { height: 20, width: 28 };

fn fsq() -> QuantizerConfig {
    toml::from_str("kind = \"fsq\"\nlevels = [8, 5, 3]").unwrap()
}

/// The pair of these keys of `encoder` and of `decoder`.
fn pair(encoder: &str, decoder: &str) -> Result<super::Config, toml::de::Error> {
    toml::from_str(&format!("[encoder]\n{encoder}\n[decoder]\n{decoder}\n"))
}

/// Networks of 8 and of 4 channels, both of four pixels a side for each token.
fn mixed() -> super::Config {
    pair(
        "kind = \"cnn\"\nchannels = 8\nmultipliers = [1, 2, 2]",
        "channels = 4\nmultipliers = [1, 2]\nstrides = [4]",
    )
    .unwrap()
}

fn refusal(pair: &super::Config) -> String {
    pair.plan(&fsq(), SIZE.into()).map(|_| ()).unwrap_err().to_string()
}

fn build(settings: &dyn Settings) -> (Variables, Tokenizer) {
    build_with(settings, &fsq(), SIZE).unwrap()
}

fn images() -> Tensor {
    pixtok_torch::reseed(Seed(2));
    Tensor::rand([2, 3, 20, 28], (Kind::Float, Device::Cpu)) * 2.0 - 1.0
}

#[test]
fn a_pair_is_the_encoder_of_one_and_the_decoder_of_the_other() {
    let config = mixed();
    let (store, both) = build(&config);
    let (first_store, first) = build(config.encoder.network().settings());
    let (second_store, second) = build(config.decoder.network().settings());
    for (component, single) in [(Component::Encoder, &first_store), (Component::Decoder, &second_store)] {
        let (mut own, mut theirs) = (store.tensors(), single.tensors());
        own.retain(|name, _| Component::of_saved(name) == Some(component));
        theirs.retain(|name, _| Component::of_saved(name) == Some(component));
        assert!(own.keys().eq(theirs.keys()), "{component}");
        no_grad(|| own.iter_mut().for_each(|(name, tensor)| tensor.copy_(&theirs[name])));
    }
    let images = images();
    let indices = both.encode(&images).unwrap();
    assert_eq!(indices.size(), [2, 5, 7]);
    assert_eq!(indices, first.encode(&images).unwrap());
    assert_eq!(both.decode(&indices, SIZE), second.decode(&indices, SIZE));
    assert_eq!(both.last_layer(), second.last_layer());
    assert_eq!((both.side_multiple(), both.only_size()), (4, None));
}

#[test]
fn it_trains() {
    let (store, tokenizer) = build(&mixed());
    let images = images();
    let out = tokenizer.forward(&images, Mode::train(Seed(3))).unwrap();
    (&out.recon - &images).square().mean(Kind::Float).backward();
    for name in ["encoder.stem.weight", "decoder.head.weight"] {
        let largest = store.tensors()[name].grad().abs().max().double_value(&[]);
        assert!(largest.is_finite() && largest > 0.0, "{name}: {largest}");
    }
}

#[test]
fn halves_that_do_not_fit_are_named() {
    let of = |decoder: &str| refusal(&pair("channels = 8\nmultipliers = [1, 2, 2]", decoder).unwrap());
    let words = of("channels = 8\nmultipliers = [1, 2]");
    for part in [
        "of an image of 20×28 pixels",
        "model.encoder makes a grid of 5×7 tokens",
        "model.decoder takes a grid of 10×14 tokens",
    ] {
        assert!(words.contains(part), "{words}");
    }
    let words = of("channels = 8\nmultipliers = [1, 2, 2]\nlatent_channels = 6");
    for part in
        ["the latents of model.encoder have 3 numbers", "model.decoder takes have 6", "latent_channels"]
    {
        assert!(words.contains(part), "{words}");
    }
    let words = of("channels = 8\nmultipliers = [1, 2, 0]");
    assert!(words.starts_with("model.decoder, as a model of its own: model.multipliers has 0"), "{words}");
    let words = of("channels = 8\nmultipliers = [1, 2, 2, 2]");
    assert!(words.contains("model.decoder") && words.contains("no multiple"), "{words}");
    // What is wrong with the quantizer has nothing to do with either half.
    let levels: QuantizerConfig = toml::from_str("kind = \"fsq\"\nlevels = [1]").unwrap();
    let words = mixed().plan(&levels, SIZE.into()).map(|_| ()).unwrap_err().to_string();
    assert!(words.contains("levels") && !words.contains("model."), "{words}");
}

#[test]
fn a_pair_within_a_pair_is_refused() {
    let inner = "kind = \"pair\"\n[encoder.encoder]\nchannels = 8\n[encoder.decoder]\nchannels = 8";
    let words = refusal(&pair(inner, "channels = 8").unwrap());
    assert!(words.starts_with("model.encoder.kind is pair; give the kind of a single network"), "{words}");
}

#[test]
fn settings_of_a_half_that_is_not_used_are_refused() {
    let said = |encoder: &str, decoder: &str| refusal(&pair(encoder, decoder).unwrap());
    let cnn = "channels = 8\nmultipliers = [1, 2, 2]";
    let words = said(&format!("{cnn}\ndecoder_res_blocks = 2"), cnn);
    assert!(words.starts_with("model.encoder.decoder_res_blocks is a setting of the other half"), "{words}");
    assert!(words.ends_with("used for its encoder alone; leave it out"), "{words}");
    let vit = "kind = \"vit\"\npatch = 4\nwidth = 8\ndepth = 1\nheads = 1";
    let words = said(&format!("{vit}\nhead_conv = true"), cnn);
    assert!(words.starts_with("model.encoder.head_conv is"), "{words}");
    let taken = |encoder: &str, decoder: &str| {
        let config = pair(encoder, decoder).unwrap();
        let model::Config::Pair(resolved) = config.resolved() else { panic!("another kind") };
        for config in [config, resolved] {
            config.plan(&fsq(), SIZE.into()).unwrap();
        }
    };
    // Defaults, and what the other half needs of them, are no such settings.
    taken(&format!("{vit}\nhead_conv = false"), &format!("{vit}\nhead_conv = true\ndecoder_depth = 2"));
    let one_d = "kind = \"one-d\"\nwidth = 8\ndepth = 1\nheads = 1\nlatent_tokens = 5";
    let pixels =
        "{ codes = 8, code_dim = 4, channels = 8, multipliers = [1, 1, 1], res_blocks = 1, norm_groups = 4 }";
    let legacy = format!("{one_d}\npatch = 4\nlayout = \"legacy\"\npixel_decoder = {pixels}");
    taken(&legacy, &format!("{one_d}\npatch = 4"));
}

/// The vector of absent tokens is one of the decoder's weights.
#[test]
fn prefixes_are_a_matter_of_the_decoder() {
    let one_d = "kind = \"one-d\"\nwidth = 8\ndepth = 1\nheads = 1\nlatent_tokens = 5\npatch = 4";
    let dropping = format!("{one_d}\ntail_drop.keep_full = 0.5");
    let words = refusal(&pair(&dropping, one_d).unwrap());
    assert!(
        words.starts_with("model.encoder.tail_drop") && words.ends_with("model.decoder.tail_drop"),
        "{words}"
    );
    let config = pair(one_d, &dropping).unwrap();
    assert_eq!(config.tail_drop().map(|drop| drop.keep_full), Some(0.5));
    let (store, tokenizer) = build(&config);
    assert_eq!(store.tensors()["decoder.absent"].size(), [1, 3]);
    let indices = tokenizer.encode(&images()).unwrap();
    assert_eq!(tokenizer.decode(&indices.narrow(1, 0, 2), SIZE).size(), [2, 3, 20, 28]);
    assert_eq!(pair(one_d, one_d).unwrap().tail_drop(), None);
}

#[test]
fn both_halves_are_read_like_a_model_and_written_with_their_kinds() {
    let vqgan = pair("kind = \"vqgan\"\nchannels = 32", "channels = 8").unwrap();
    let config = vqgan.resolved();
    let written = serde_json::to_value(&config).unwrap();
    assert_eq!((&written["kind"], config.kind()), (&json!("pair"), "pair".to_owned()));
    assert_eq!((&written["encoder"]["kind"], &written["decoder"]["kind"]), (&json!("cnn"), &json!("cnn")));
    assert_eq!(written["encoder"]["variant"], json!("vqgan"));
    assert_eq!(written["encoder"]["norm_groups"], json!(32), "the half is resolved too");
    assert_eq!(serde_json::from_value::<model::Config>(written).unwrap(), config);
    let said = |encoder: &str, decoder: &str| pair(encoder, decoder).unwrap_err().to_string();
    assert!(said("kind = \"resnet\"", "").contains("unknown variant `resnet`"));
    assert!(said("", "chanels = 3").contains("unknown field `chanels`"));
    assert!(toml::from_str::<super::Config>("[encoder]\n").unwrap_err().to_string().contains("`decoder`"));
}

#[test]
fn a_key_concerns_the_half_that_is_used() {
    let config = mixed();
    let (encoder, decoder) = ([Component::Encoder], [Component::Decoder]);
    assert_eq!(config.components_of("encoder.channels"), encoder);
    assert_eq!(config.components_of("decoder.channels"), decoder);
    assert_eq!(config.components_of("decoder.decoder_res_blocks"), decoder);
    assert!(config.components_of("encoder.decoder_res_blocks").is_empty());
    assert_eq!(config.components_of("encoder"), encoder);
    assert_eq!(config.components_of("kind"), [Component::Encoder, Component::Decoder]);
}

#[test]
fn it_is_described_by_both() {
    let config = mixed();
    let plan = config.plan(&fsq(), SIZE.into()).unwrap();
    let described = plan.description().unwrap();
    assert_eq!(described["kind"], json!("pair"));
    for (half, channels) in [("encoder", 8), ("decoder", 4)] {
        assert_eq!(
            (&described[half]["kind"], &described[half]["channels"]),
            (&json!("cnn"), &json!(channels))
        );
        assert!(described[half]["stages"].is_array(), "{described}");
    }
    assert_eq!((plan.latent_channels(), plan.side_multiple()), (3, 4));
}

#[test]
fn it_keeps_what_the_halves_that_are_used_keep() {
    let footprint = |settings: &dyn Settings| {
        settings.plan(&fsq(), SIZE.into()).unwrap().footprint(Device::Cpu).saved_per_image
    };
    let vit =
        |decoder: &str| format!("kind = \"vit\"\npatch = 4\nwidth = 8\ndepth = 1\nheads = 1\n{decoder}");
    let (small, large) = (vit(""), vit("decoder_width = 64\ndecoder_depth = 12"));
    let kept = |encoder: &str, decoder: &str| footprint(&pair(encoder, decoder).unwrap());
    // The decoder of the large one keeps nearly all that it keeps.
    let whole = footprint(pair(&small, &large).unwrap().decoder.network().settings());
    assert_eq!(kept(&small, &large), whole);
    assert_eq!(kept(&small, &small), footprint(pair(&small, &small).unwrap().encoder.network().settings()));
    let cnn = "channels = 8\nmultipliers = [1, 2, 2]";
    assert!(10 * kept(cnn, &large) > 9 * whole && kept(cnn, &small) < whole / 4);
}

#[test]
fn positions_of_both_halves_extend_from_the_largest_size_in_training() {
    let vit = "kind = \"vit\"\npatch = 4\nwidth = 8\ndepth = 1\nheads = 1";
    let trained = TrainedSizes { image: SIZE, largest: ImageSize { height: 40, width: 44 } };
    let plan = pair(vit, vit).unwrap().plan(&fsq(), trained).unwrap();
    let described = plan.description().unwrap();
    for half in ["encoder", "decoder"] {
        assert_eq!(described[half]["trained_grid"], json!([10, 11]), "{half}");
    }
    assert_eq!(plan.shape(), TokenShape::Grid { h: 5, w: 7 });
}

#[test]
fn without_positions_none_extend() {
    let config = mixed();
    assert_eq!(config.extension(), None);
    assert_eq!(config.with_extension(Extension::Ntk), None);
}

#[test]
fn networks_are_compared_as_pairs_where_one_is_a_pair() {
    let single = model::Config::Cnn(cnn::Config { channels: 24, ..cnn::Config::default() });
    let both = model::Config::Pair(mixed());
    assert_eq!(comparable([single.clone(), single.clone()]), [single.clone(), single.clone()]);
    let [left, right] = comparable([single.clone(), both.clone()]);
    let halves = super::Config { encoder: Half::of(single.clone()), decoder: Half::of(single) };
    assert_eq!((left, right), (model::Config::Pair(halves), both));
}

/// An encoder with tokens of 4×4 pixels.
#[derive(Debug)]
struct Pieces;

impl Encoder for Pieces {
    fn shape(&self, image: ImageSize) -> Result<TokenShape, ModelError> {
        Ok(TokenShape::Grid { h: image.height / 4, w: image.width / 4 })
    }

    fn side_multiple(&self) -> i64 {
        4
    }

    fn device(&self) -> Device {
        Device::Cpu
    }

    fn forward(&self, images: &Tensor, _mode: Mode) -> Tensor {
        images.shallow_clone()
    }
}

#[test]
fn sizes_are_those_that_both_halves_take() {
    let at = |height, width| ImageSize { height, width };
    let said = |encoder: &encoder::Encoder, size| encoder.shape(size).unwrap_err().to_string();
    let of = |side_multiple, only_size| {
        let taken = encoder::Taken { side_multiple, only_size, fewest_tokens: 2 };
        encoder::Encoder::new(Box::new(Pieces), taken)
    };
    let free = of(12, None);
    assert_eq!((free.side_multiple(), free.only_size()), (12, None));
    assert_eq!(free.shape(at(24, 36)).unwrap(), TokenShape::Grid { h: 6, w: 9 });
    let words = said(&free, at(24, 32));
    assert!(words.starts_with("images of 24×32 pixels are no multiples of 12, which encoder and"), "{words}");
    assert!(words.ends_with("the nearest to 32 that are: 24 or 36"), "{words}");
    let bound = of(4, Some(SIZE));
    assert_eq!(bound.only_size(), Some(SIZE));
    assert_eq!(bound.shape(SIZE).unwrap(), TokenShape::Grid { h: 5, w: 7 });
    assert!(said(&bound, at(24, 32)).contains("encoder and decoder together take 20×28 alone"));
    let words = said(&of(4, None), at(4, 4));
    assert!(words.contains("4×4 pixels has 1 token here, and model.decoder needs at least 2"), "{words}");
    assert_eq!(of(4, None).shape(at(4, 8)).unwrap(), TokenShape::Grid { h: 1, w: 2 });
}

/// The single size may be of either half, and the fewest tokens are the decoder's.
#[test]
fn the_decoder_has_a_say_in_the_images() {
    let cnn = "channels = 8\nmultipliers = [1, 2, 2]";
    let learned = "kind = \"vit\"\npatch = 4\nwidth = 8\ndepth = 1\nheads = 1\npositions = \"learned\"";
    for (encoder, decoder) in [(cnn, learned), (learned, cnn)] {
        let config = pair(encoder, decoder).unwrap();
        assert_eq!(config.plan(&fsq(), SIZE.into()).unwrap().only_size(), Some(SIZE));
        assert_eq!(build(&config).1.only_size(), Some(SIZE));
    }
    let magvit2 = "kind = \"magvit2\"\nchannels = 32\nmultipliers = [1, 1, 1]\nres_blocks = 1";
    let (_store, both) = build(&pair(cnn, magvit2).unwrap());
    let at = |height, width| ImageSize { height, width };
    let words = both.shape(at(4, 4)).unwrap_err().to_string();
    assert!(words.contains("has 1 token here, and model.decoder needs at least 2"), "{words}");
    assert_eq!(both.shape(at(4, 8)).unwrap(), TokenShape::Grid { h: 1, w: 2 });
}
