use tch::nn;

use super::*;

#[test]
fn names_are_paths_and_entries_come_in_their_order() {
    let variables = Variables::new(Device::Cpu);
    let stage = variables.scope(Component::Quantizer) / "stages" / 0;
    assert_eq!(stage.name("codebook"), "quantizer.stages.0.codebook");
    let _ = stage.codebook_buffer("codebook", [5, 3], Init::Ones);
    let _ = (&stage / "project_in").touching_pixels().conv("weight", [3, 2, 1, 1], Init::Zeros);
    let _ = variables.root(Component::Discriminator).bias("bias", 7, Init::Zeros);
    let found: Vec<_> = variables
        .entries()
        .into_iter()
        .map(|found| (found.name, found.role, found.component, found.touches_pixels, found.trained))
        .collect();
    let expected = [
        ("bias", Role::Bias, Component::Discriminator, false, true),
        ("quantizer.stages.0.codebook", Role::Codebook, Component::Quantizer, false, false),
        ("quantizer.stages.0.project_in.weight", Role::Conv, Component::Quantizer, true, true),
    ];
    assert_eq!(
        found,
        expected.map(|(name, role, component, pixels, trained)| (
            name.to_owned(),
            role,
            component,
            pixels,
            trained
        ))
    );
    assert_eq!(variables.tensors().into_keys().collect::<Vec<_>>(), expected.map(|(name, ..)| name));
}

#[test]
#[should_panic(expected = "two variables have one name")]
fn a_name_is_taken_once() {
    let variables = Variables::new(Device::Cpu);
    let scope = variables.scope(Component::Decoder);
    let _ = scope.norm("weight", &[3], Init::Ones);
    let _ = scope.bias("weight", 3, Init::Ones);
}

#[test]
fn a_saved_name_tells_the_component_of_its_scope() {
    let variables = Variables::new(Device::Cpu);
    for component in Component::TOKENIZER {
        let name = (variables.scope(component) / "stage0").name("weight");
        assert_eq!(Component::of_saved(&name), Some(component));
    }
    assert_eq!(Component::of_saved("encoders.stem.weight"), None);
    assert_eq!(Component::of_saved("encoder"), None);
}

#[test]
fn configs_name_components_of_a_tokenizer_only() {
    for component in Component::TOKENIZER {
        let text = serde_json::to_value(component).unwrap();
        assert_eq!(text, component.to_string());
        assert_eq!(serde_json::from_value::<Component>(text).unwrap(), component);
    }
    let message = serde_json::from_value::<Component>("discriminator".into()).unwrap_err().to_string();
    assert_eq!(message, "unknown variant `discriminator`, expected one of `encoder`, `quantizer`, `decoder`");
}

#[test]
fn frozen_components_get_no_gradient_and_stay_parameters() {
    let variables = Variables::new(Device::Cpu);
    for component in Component::TOKENIZER {
        let scope = variables.scope(component);
        let _ = scope.matrix("weight", [2, 3], Init::Ones);
        let _ = scope.buffer("counts", &[5], Init::Ones);
    }
    variables.freeze(&[Component::Encoder, Component::Decoder]);
    let learning: Vec<String> = variables
        .entries()
        .into_iter()
        .filter(|found| found.tensor.requires_grad())
        .map(|found| found.name)
        .collect();
    assert_eq!(learning, ["quantizer.weight"]);
    assert_eq!(variables.parameters(&[Component::Encoder]), 6);
    assert_eq!(variables.parameters(&Component::TOKENIZER), 18);
}

#[test]
fn numbers_are_those_that_tch_draws() {
    let shape = [4, 3, 5, 2];
    let both = |ours: Init, theirs: nn::Init| {
        let (variables, store) = (Variables::new(Device::Cpu), nn::VarStore::new(Device::Cpu));
        tch::manual_seed(7);
        let ours = variables.root(Component::Encoder).conv("weight", shape, ours);
        tch::manual_seed(7);
        let theirs = store.root().var("weight", &shape, theirs);
        assert!(ours.requires_grad() && ours.is_leaf());
        (ours, theirs)
    };
    let bound = 0.37;
    for (ours, theirs) in [
        (Init::Zeros, nn::Init::Const(0.0)),
        (Init::Ones, nn::Init::Const(1.0)),
        (Init::Uniform { bound }, nn::Init::Uniform { lo: -bound, up: bound }),
    ] {
        let (ours, theirs) = both(ours, theirs);
        assert_eq!(ours, theirs);
    }
    let (ours, theirs) = both(Init::Gaussian { mean: 1.0, deviation: 0.02 }, nn::Init::Const(0.0));
    assert_ne!(ours, theirs);
    tch::manual_seed(7);
    initialise_gaussian(&theirs, 1.0, 0.02);
    assert_eq!(ours, theirs);
}
