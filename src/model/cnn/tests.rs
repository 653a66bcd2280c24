use super::{Config, PerStage, Variant};
use crate::model::testing::{build, fsq, images, size};
use crate::model::*;
use pixtok_base::seed::Seed;
use pixtok_torch::{Precision, drop_grads, no_grad, with_precision};

#[test]
fn shapes_follow_the_strides() {
    let config = |multipliers: &[i64], strides: Option<&[i64]>| Config {
        multipliers: multipliers.to_vec(),
        strides: strides.map(<[i64]>::to_vec),
        ..Config::default()
    };
    for (config, factor) in [
        (config(&[1], None), 1),
        (config(&[1, 2], None), 2),
        (config(&[1, 2, 2], Some(&[3, 2])), 6),
        (config(&[1, 1, 2], Some(&[4, 1])), 4),
        (config(&[1, 1], Some(&[5])), 5),
    ] {
        let (h, w) = (factor * 5, factor * 7);
        let image = (h as u32, w as u32);
        let (_vs, tokenizer) = build(&config, image).unwrap();
        let plan = config.plan(&fsq(), size(image).into()).unwrap();
        assert_eq!((tokenizer.side_multiple(), plan.side_multiple()), (factor, factor));
        assert_eq!(tokenizer.shape(size(image)).unwrap(), TokenShape::Grid { h: 5, w: 7 });
        assert_eq!(plan.shape(), TokenShape::Grid { h: 5, w: 7 });
        assert_eq!(tokenizer.encode(&images(h, w)).unwrap().size(), [2, 5, 7]);
        let out = tokenizer.forward(&images(h, w), Mode::Eval).unwrap();
        assert_eq!(out.quantized.indices.size(), [2, 35]);
        assert_eq!(out.recon.size(), [2, 3, h, w]);
    }
}

#[test]
fn the_yardstick_network_is_the_published_one() {
    let (vs, _) = build(&Config::default(), (64, 64)).unwrap();
    assert_eq!(vs.parameters(&Component::TOKENIZER), 250_039);
}

#[test]
fn decode_of_the_indices_is_the_reconstruction() {
    let config =
        Config { latent_channels: Some(9), mid_attention: true, attention: vec![20], ..Config::default() };
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

#[test]
fn the_published_variant_has_its_own_ends_and_the_quantizers_width_between() {
    let config = Config {
        channels: 32,
        multipliers: vec![1, 2, 2],
        latent_channels: Some(9),
        variant: Variant::Vqgan,
        ..Config::default()
    };
    let (vs, tokenizer) = build(&config, (20, 28)).unwrap();
    let shape = |name: &str| vs.tensors()[name].size();
    assert_eq!(shape("encoder.head.weight"), [9, 64, 3, 3]);
    assert_eq!(shape("encoder.to_quantizer.weight"), [4, 9, 1, 1]);
    assert_eq!(shape("decoder.from_quantizer.weight"), [9, 4, 1, 1]);
    assert!(!vs.tensors().contains_key("quantizer.project_in.weight"));
    let out = tokenizer.forward(&images(20, 28), Mode::Eval).unwrap();
    assert_eq!((out.quantized.indices.size(), out.recon.size()), (vec![2, 35], vec![2, 3, 20, 28]));
    let wide = Config { multipliers: vec![1, 1], strides: Some(vec![4]), ..config };
    assert!(build(&wide, (20, 28)).map(|_| ()).unwrap_err().to_string().contains("model.variant is vqgan"));
}

#[test]
fn the_published_variant_has_32_groups_at_any_width() {
    let config = Config { channels: 32, variant: Variant::Vqgan, ..Config::default() };
    let groups = |config: &Config| {
        let described = config.plan(&fsq(), size((20, 28)).into()).unwrap().description().unwrap();
        let stages = described["stages"].as_array().unwrap();
        stages.iter().map(|stage| stage["norm_groups"].as_i64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(groups(&config), [32, 32, 32]);
    assert_eq!(groups(&Config { variant: Variant::Plain, ..config.clone() }), [8, 16, 32]);
    assert_eq!(groups(&Config { norm_groups: Some(16), ..config.clone() }), [16, 16, 16]);
    assert_eq!(config.clone().resolved().norm_groups, Some(32));
    assert_eq!(Config::default().resolved(), Config::default());

    // The multipliers may give a width below 128.
    for (channels, multipliers, other) in
        [(32, vec![4], true), (64, vec![1, 2], true), (128, vec![1, 3], false)]
    {
        let config = Config { channels, multipliers, ..config.clone() };
        assert_eq!(config.had_other_groups(), other, "{channels}");
        assert!(!config.clone().resolved().had_other_groups());
        assert!(!Config { variant: Variant::Plain, ..config }.had_other_groups());
    }

    for channels in [16, 48, 80] {
        let error =
            build(&Config { channels, ..config.clone() }, (20, 28)).map(|_| ()).unwrap_err().to_string();
        let said = format!("{channels} channels do not divide into 32 normalisation groups, which every");
        assert!(error.starts_with(&said), "{error}");
        assert!(error.ends_with("as a multiple of 32 or leave model.variant out"), "{error}");
    }
}

#[test]
fn settings_that_do_not_fit_say_so() {
    let message = |config: Config, size| build(&config, size).map(|_| ()).unwrap_err().to_string();
    assert!(message(Config::default(), (63, 64)).contains("60 or 64"));
    assert!(message(Config::default(), (2, 64)).contains("are: 4"));
    assert!(message(Config { channels: 9, ..Config::default() }, (64, 64)).contains("9 channels"));
    assert!(message(Config { channels: 0, ..Config::default() }, (64, 64)).contains("channels has 0"));
    assert!(message(Config { multipliers: vec![], ..Config::default() }, (64, 64)).contains("empty"));
    assert!(message(Config { strides: Some(vec![2]), ..Config::default() }, (64, 64)).contains("2 gaps"));
    assert!(message(Config { attention: vec![17], ..Config::default() }, (64, 64)).contains("[64, 32, 16]"));
    let haar = Config { haar_levels: 1, attention: vec![64], ..Config::default() };
    assert!(message(haar, (64, 64)).contains("[32, 16, 8]"));
    assert!(message(Config { haar_levels: 5, ..Config::default() }, (64, 64)).contains("from 0 to 4"));
    assert!(message(Config { haar_levels: 2, ..Config::default() }, (72, 64)).contains("64 or 80"));
    let blocks = |numbers: &[i64]| PerStage::Each(numbers.to_vec());
    assert!(
        message(Config { res_blocks: blocks(&[1, 0, 1]), ..Config::default() }, (64, 64))
            .contains("res_blocks has 0")
    );
    assert!(
        message(Config { res_blocks: blocks(&[1, 2]), ..Config::default() }, (64, 64))
            .contains("has 2 entries")
    );
    let decoder = Config { decoder_res_blocks: Some(blocks(&[])), ..Config::default() };
    assert!(message(decoder, (64, 64)).contains("model.decoder_res_blocks has 0 entries"));
    let widths = Config { decoder_multipliers: Some(vec![1, 2]), ..Config::default() };
    assert!(message(widths, (64, 64)).contains("model.decoder_multipliers has 2 entries"));
    let strides = Config { decoder_strides: Some(vec![2, 3]), ..Config::default() };
    assert!(message(strides, (64, 64)).contains("enlarge by 6, and model.strides reduce by 4"));
}

#[test]
fn images_that_no_grid_covers_are_refused() {
    let (_vs, tokenizer) = build(&Config::default(), (20, 28)).unwrap();
    for (height, width) in [(20, 30), (2, 28), (21, 28)] {
        let words = tokenizer.shape(ImageSize { height, width }).unwrap_err().to_string();
        assert!(words.contains(&format!("{height}×{width} pixels")) && words.contains("by 4"), "{words}");
        let images = images(i64::from(height), i64::from(width));
        assert_eq!(tokenizer.encode(&images).unwrap_err().to_string(), words);
        assert_eq!(tokenizer.forward(&images, Mode::Eval).unwrap_err().to_string(), words);
    }
}

/// For a batch without training on a CPU, and for a training step.
#[test]
fn latents_are_views_of_what_the_convolutions_make() {
    let (_vs, tokenizer) = build(&Config::default(), (20, 28)).unwrap();
    let evaluated = no_grad(|| tokenizer.latents(&images(20, 28)));
    assert_eq!((evaluated.size(), evaluated.stride()), (vec![2, 35, 4], vec![140, 1, 35]));
    let trained = tokenizer.forward(&images(20, 28), Mode::train(Seed(1))).unwrap().latents;
    assert_eq!((trained.size(), trained.stride()), (vec![2, 35, 4], vec![140, 4, 1]));
}

/// A key that is renamed would otherwise count as one of both halves.
#[test]
fn settings_of_the_decoder_alone_are_keys_of_the_config() {
    let config = Config {
        decoder_multipliers: Some(vec![1, 1, 4]),
        decoder_strides: Some(vec![1, 4]),
        decoder_res_blocks: Some(PerStage::All(3)),
        ..Config::default()
    };
    let keys = toml::Table::try_from(&config).unwrap();
    let of_decoder = keys.keys().filter(|key| config.components_of(key) == [Component::Decoder]);
    assert_eq!(
        of_decoder.collect::<Vec<_>>(),
        ["decoder_multipliers", "decoder_res_blocks", "decoder_strides"]
    );
}

/// A config with a number is written as before, and a list stays a list.
#[test]
fn residual_blocks_are_a_number_or_a_list() {
    let words = "channels = 16\nmultipliers = [1, 2, 4]\nres_blocks = 1\nattention = []\nmid_attention = false\n\
                 variant = \"plain\"\n";
    assert_eq!(toml::to_string(&Config::default()).unwrap(), words);
    assert_eq!(toml::from_str::<Config>(words).unwrap(), Config::default());
    let listed = words.replace("res_blocks = 1", "res_blocks = [2, 1, 3]\ndecoder_res_blocks = 2");
    let config: Config = toml::from_str(&listed).unwrap();
    assert_eq!(config.res_blocks, PerStage::Each(vec![2, 1, 3]));
    assert_eq!(toml::to_string(&config).unwrap(), listed);
    let error = toml::from_str::<Config>("res_blocks = \"two\"").unwrap_err().to_string();
    assert!(error.contains("a number, or a list with a number for each stage"), "{error}");

    let (vs, tokenizer) = build(&config, (20, 28)).unwrap();
    let blocks = |half: &str| {
        let names = vs.tensors();
        let of_stage = |i: i64| {
            (0..9).filter(|j| names.contains_key(&format!("{half}.stage{i}.res{j}.conv1.weight"))).count()
        };
        [0, 1, 2].map(of_stage)
    };
    assert_eq!((blocks("encoder"), blocks("decoder")), ([2, 1, 3], [2, 2, 2]));
    assert_eq!(tokenizer.forward(&images(20, 28), Mode::Eval).unwrap().recon.size(), [2, 3, 20, 28]);

    let same = Config { res_blocks: PerStage::Each(vec![1; 3]), ..Config::default() };
    assert_eq!(same.written_out(&fsq()), Config::default().written_out(&fsq()));
}

/// As in Cosmos' tokenizers.
#[test]
fn the_decoder_may_differ_and_a_transform_may_stand_around_both() {
    let cosmos = |haar_levels, strides: &[i64], decoder_strides: Option<&[i64]>| Config {
        haar_levels,
        multipliers: vec![1, 2, 2],
        decoder_multipliers: Some(vec![1, 1, 2]),
        strides: Some(strides.to_vec()),
        decoder_strides: decoder_strides.map(<[i64]>::to_vec),
        res_blocks: PerStage::Each(vec![1, 2, 1]),
        attention: vec![40 >> haar_levels],
        mid_attention: true,
        ..Config::default()
    };
    for (config, factor) in [
        (cosmos(2, &[2, 1], Some(&[1, 2])), 8),
        (cosmos(1, &[2, 1, 2], None), 8),
        (cosmos(1, &[1, 1, 1], Some(&[1, 1])), 2),
        (cosmos(0, &[2, 2, 1], Some(&[4, 1])), 4),
    ] {
        let (vs, tokenizer) = build(&config, (40, 56)).unwrap();
        let plan = config.plan(&fsq(), size((40, 56)).into()).unwrap();
        assert_eq!((tokenizer.side_multiple(), plan.side_multiple()), (factor, factor));
        let out = tokenizer.forward(&images(40, 56), Mode::Eval).unwrap();
        assert_eq!(out.recon.size(), [2, 3, 40, 56]);
        assert_eq!(
            tokenizer.decode(&tokenizer.encode(&images(8, 16)).unwrap(), size((8, 16))).size(),
            [2, 3, 8, 16]
        );
        let bands = 3 << (2 * config.haar_levels);
        assert_eq!(vs.tensors()["encoder.stem.weight"].size(), [16, bands, 3, 3]);
        assert_eq!(tokenizer.last_layer().size(), [bands, 16, 3, 3]);
        assert_eq!(vs.tensors()["decoder.stage1.res0.conv1.weight"].size(), [16, 32, 3, 3]);
    }
}

/// With attention between residual blocks, and a stage that changes its width.
fn with_attention() -> Config {
    Config { channels: 8, mid_attention: true, attention: vec![20], ..Config::default() }
}

#[test]
fn blocks_that_are_computed_again_have_the_same_gradients() {
    let found = [false, true].map(|checkpoint_blocks| {
        let config = Config { checkpoint_blocks, ..with_attention() };
        let (vs, tokenizer) = build(&config, (20, 28)).unwrap();
        let images = images(20, 28);
        let parameters: Vec<Tensor> = vs.tensors().into_values().collect();
        let mut found = vec![];
        // The blocks of an encoder that stays as it is are plain calls.
        for frozen in [&[][..], &[Component::Encoder, Component::Quantizer]] {
            vs.freeze(frozen);
            for precision in [Precision::Fp32, Precision::Bf16] {
                drop_grads(&parameters).unwrap();
                for seed in [1, 2] {
                    let out =
                        with_precision(precision, || tokenizer.forward(&images, Mode::train(Seed(seed))));
                    let out = out.unwrap();
                    let loss = (out.recon.to_kind(Kind::Float) - &images).square().mean(Kind::Float);
                    loss.backward();
                    found.push(loss.detach());
                }
                let learning = parameters.iter().filter(|parameter| parameter.requires_grad());
                found.extend(learning.map(|parameter| parameter.grad().copy()));
            }
        }
        found
    });
    assert_eq!(found[0].len(), found[1].len());
    assert!(found[0] == found[1], "losses or gradients differ");
}

#[test]
fn blocks_that_are_computed_again_keep_less() {
    let footprint =
        |config: &Config, device| config.plan(&fsq(), size((20, 28)).into()).unwrap().footprint(device);
    for device in [Device::Cpu, Device::Cuda(0)] {
        let config = Config { res_blocks: PerStage::All(3), ..with_attention() };
        let plain = footprint(&config, device);
        let again = footprint(&Config { checkpoint_blocks: true, ..config }, device);
        for bytes in [2, 4] {
            let [plain, again] = [plain, again].map(|footprint| footprint.activation_bytes(1, bytes));
            assert!(again * 2 < plain, "{device:?}: {again} of {plain}");
        }
    }
}

#[test]
fn only_a_network_whose_blocks_are_computed_again_says_so() {
    let written = |checkpoint_blocks| {
        let config = Config { checkpoint_blocks, ..Config::default() };
        (toml::to_string(&config).unwrap(), config.components_of("checkpoint_blocks").len())
    };
    assert!(!written(false).0.contains("checkpoint"));
    assert!(written(true).0.contains("checkpoint_blocks = true"));
    // Weights mean the same with it.
    assert_eq!(written(true).1, 0);
    let config = Config { checkpoint_blocks: true, ..Config::default() };
    let described = config.plan(&fsq(), size((20, 28)).into()).unwrap().description().unwrap();
    assert!(described.get("checkpoint_blocks").is_none(), "{described}");
}
