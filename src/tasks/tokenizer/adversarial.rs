//! Reconstruction with an adversary: a second group of parameters, the discriminator's, learns
//! beside the tokenizer.

use tch::{Kind, Tensor};

use super::objective::{ImageStep, shares};
use super::reconstruction::{Reconstruction, logged, weighted};
use crate::adversarial::{Adversary, Weighting, adaptive_weight, gradient_penalty};
use crate::loss::total;
use crate::model::ModelError;
use crate::statistics::Monitor;
use crate::train::{At, ParameterGroup, StepOutput};
use crate::variables::{Variable, Variables};
use crate::world::World;
use pixtok_torch::{Noise, in_full_precision, without_autocast};

/// The index of the discriminator's group.
const DISCRIMINATOR: usize = 1;
/// The name of the group in the logs.
pub(super) const DISCRIMINATOR_NAME: &str = "discriminator";
/// The logged share of images and reconstructions that the discriminator tells apart.
pub(super) const ACCURACY: &str = "discriminator/accuracy";

/// An adversary of the tokenizer, in training.
#[derive(Debug)]
pub struct Opponent {
    /// The discriminator's variables.
    store: Variables,
    adversary: Adversary,
}

impl Opponent {
    /// An adversary whose variables are in `store`.
    #[must_use]
    pub fn new(store: Variables, adversary: Adversary) -> Self {
        Self { store, adversary }
    }

    /// The weight of the adversary's loss: `full`, possibly times the ratio that makes the
    /// gradients of both parts equally large at the decoder's last layer (`last`). Takes the
    /// gradients of both parts with respect to the pixels of `recon`. With several processes the
    /// gradients at the last layer are those of the images of all.
    fn weight(
        &self,
        full: f64,
        last: &Tensor,
        recon: &Tensor,
        of_pixels: [&Tensor; 2],
        world: &World,
    ) -> Tensor {
        let Weighting::Adaptive { most } = self.adversary.config.weighting else {
            return Tensor::full([], full, (Kind::Float, recon.device()));
        };
        let at_last_layer = |of_pixels: &Tensor| {
            let carrier = (recon * of_pixels).sum(Kind::Float);
            gradient(&carrier, last, true)
        };
        let both = world.all_mean(&Tensor::stack(&of_pixels.map(at_last_layer), 0));
        adaptive_weight(&both.get(0), &both.get(1), most) * full
    }

    /// The discriminator's loss from the logits of images and reconstructions, with its terms for
    /// the logs. The gradient penalty is a monitor, since it is not taken at every step.
    fn discriminator_loss(&mut self, images: &Tensor, [real, fake]: [&Tensor; 2], at: At) -> OfDiscriminator {
        let config = &self.adversary.config;
        let mut parts = vec![config.loss.of_discriminator(real, fake)];
        let mut terms = vec![(format!("loss/{DISCRIMINATOR_NAME}"), parts[0].detach())];
        let mut monitors = self.monitors(real, fake);
        if let Some(r1) = config.r1.filter(|r1| (at.step - config.start).is_multiple_of(r1.every)) {
            let images = images.detach().set_requires_grad(true);
            // In bf16, rounding would swamp the gradient of a gradient.
            let penalty = in_full_precision(|| {
                gradient_penalty(&self.adversary.judge(&images, of_images(at), at.world), &images)
            });
            monitors.push(Monitor { name: "loss/r1".to_owned(), value: penalty.detach() });
            parts.push(penalty * (r1.weight * r1.every as f64));
        }
        let weight = config.lecam.map_or(0.0, |lecam| lecam.weight);
        if let Some(lecam) = &mut self.adversary.lecam {
            let regularization = lecam.regularization(real, fake);
            terms.push(("loss/lecam".to_owned(), regularization.detach()));
            parts.push(regularization * weight);
        }
        OfDiscriminator { loss: Tensor::stack(&parts, 0).sum(Kind::Float), terms, monitors }
    }

    /// The discriminator's mean logits and accuracy, for the logs.
    fn monitors(&self, real: &Tensor, fake: &Tensor) -> Vec<Monitor> {
        let boundary = self.adversary.config.loss.boundary();
        let mean = |x: &Tensor| x.detach().to_kind(Kind::Float).mean(Kind::Float);
        let accuracy = (mean(&real.gt(boundary)) + mean(&fake.lt(boundary))) * 0.5;
        let named = [
            ("discriminator/logits_real", mean(real)),
            ("discriminator/logits_fake", mean(fake)),
            (ACCURACY, accuracy),
        ];
        named.into_iter().map(|(name, value)| Monitor { name: name.to_owned(), value }).collect()
    }
}

/// The noise for the augmentation of the images, which is the same for everything that looks at
/// them in a step.
fn of_images(at: At) -> Noise {
    at.noise.derive("real", &[])
}

impl Opponent {
    /// The discriminator's parameters.
    pub(super) fn group(&self) -> ParameterGroup {
        let parameters = self.variables().into_iter().filter(|found| found.tensor.requires_grad()).collect();
        let config = &self.adversary.config;
        ParameterGroup {
            name: DISCRIMINATOR_NAME,
            parameters,
            optimizer: config.optimizer.clone(),
            table: "adversarial.optimizer",
            start: config.start,
        }
    }

    /// The weight of the adversarial loss at a step; `None` before the adversary takes part.
    pub(super) fn weight_at(&self, at: At) -> Option<f64> {
        self.adversary.config.weight_at(at.step)
    }

    /// Losses of one micro-batch for both sides. `full_weight` is the weight of the adversarial
    /// loss.
    ///
    /// The gradients of the terms and of the adversary are taken with respect to the
    /// reconstruction's pixels, each once through its own network; their sum goes backward through
    /// the tokenizer. The logits of the reconstructions serve both sides.
    pub(super) fn step(
        &mut self,
        reconstruction: &Reconstruction,
        full_weight: f64,
        images: &Tensor,
        at: At,
    ) -> Result<ImageStep, ModelError> {
        if at.step == self.adversary.config.start && at.micro_batch == 0 {
            self.adversary.discriminator.start(images, at.world);
        }
        let out = reconstruction.forward(images, at)?;
        let recon = out.recon.to_kind(Kind::Float);
        let pixels = recon.detach().set_requires_grad(true);

        let image_terms = reconstruction.loss.terms(&pixels, images);
        // Taken immediately, which frees what a network of the loss keeps before the discriminator
        // needs memory.
        let of_terms =
            total(&image_terms).map_or_else(|| pixels.zeros_like(), |loss| gradient(&loss, &pixels, false));
        let fake = self.adversary.judge(&pixels, at.noise.derive("fake", &[]), at.world);
        let real = self.adversary.judge(images, of_images(at), at.world);
        let adversarial = self.adversary.config.of_tokenizer(&fake);
        let of_adversary = gradient(&adversarial, &pixels, true);
        let last = reconstruction.tokenizer.last_layer();
        let weight = self.weight(full_weight, last, &recon, [&of_terms, &of_adversary], at.world);

        let mut parts = weighted(image_terms.iter().chain(&out.quantized.losses));
        parts.push(("adversarial".to_owned(), adversarial.detach() * &weight));
        // The value of the whole loss, with the summed gradient of the pixels and that of the
        // quantizer's terms.
        let carrier = (&recon * (of_terms + of_adversary * &weight)).sum(Kind::Float);
        let mut loss = &carrier - carrier.detach();
        if let Some(quantizer) = total(&out.quantized.losses) {
            loss = loss + &quantizer - quantizer.detach();
        }
        let loss = parts.iter().fold(loss, |loss, (_, value)| loss + value);
        let of_discriminator = self.discriminator_loss(images, [&real, &fake], at);

        let mut terms = logged(&image_terms, &out.quantized.losses);
        terms.push(("loss/adversarial".to_owned(), adversarial.detach()));
        terms.extend(of_discriminator.terms);
        let mut monitors = out.quantized.monitors;
        monitors.extend(shares(&parts));
        monitors.extend(of_discriminator.monitors);
        monitors.push(Monitor { name: "adversarial/weight".to_owned(), value: weight });
        let output = StepOutput {
            groups: vec![(0, loss), (DISCRIMINATOR, of_discriminator.loss)],
            terms,
            statistics: out.quantized.statistics,
            monitors,
        };
        Ok(ImageStep { output, indices: out.quantized.indices })
    }

    /// Updates what the adversary learns without gradients.
    pub(super) fn after_step(&mut self, world: &World) {
        if let Some(lecam) = &mut self.adversary.lecam {
            lecam.update(world);
        }
    }

    /// Every tensor of the discriminator, in the order of their names.
    pub(super) fn variables(&self) -> Vec<Variable> {
        self.store.entries()
    }
}

/// The gradient of `value` with respect to one tensor. The graph is freed unless `keep_graph` is
/// set.
fn gradient(value: &Tensor, of: &Tensor, keep_graph: bool) -> Tensor {
    // The backward pass computes in the types of the forward pass, not in autocast's.
    without_autocast(|| Tensor::run_backward(&[value], &[of], keep_graph, false).remove(0))
}

/// The discriminator's loss, and its terms for the logs.
struct OfDiscriminator {
    loss: Tensor,
    terms: Vec<(String, Tensor)>,
    monitors: Vec<Monitor>,
}

#[cfg(test)]
mod tests {
    use super::super::objective::Objective;
    use super::*;
    use crate::adversarial::Config;
    use crate::loss::{self, Loss};
    use crate::model::{self, ImageSize, Tokenizer};
    use crate::optim;
    use crate::quantizer::Mode;
    use pixtok_base::seed::Seed;
    use pixtok_torch::{Precision, with_precision};

    fn objective(adversarial: &str) -> Objective {
        objective_of(adversarial, false)
    }

    fn objective_of(adversarial: &str, checkpoint_blocks: bool) -> Objective {
        let (store, companions) = (Variables::new(tch::Device::Cpu), Variables::new(tch::Device::Cpu));
        tch::manual_seed(3);
        let network = model::cnn::Config {
            channels: 8,
            multipliers: vec![1, 2],
            checkpoint_blocks,
            ..model::cnn::Config::default()
        };
        let quantizer =
            toml::from_str("kind = \"vq\"\ncodebook_size = 8\ncodebook_dim = 4\nstart = \"uniform\"")
                .unwrap();
        let size = ImageSize { height: 16, width: 24 };
        let tokenizer = Tokenizer::new(&store, &network, &quantizer, size).unwrap();
        let loss = loss::Config { l1: 0.5, ms_ssim: 0.3, ..loss::Config::default() };
        let loss = Loss::new(loss, None).unwrap();
        let reconstruction = Reconstruction::new(store, tokenizer, loss, optim::Config::default(), vec![]);
        let config: Config = toml::from_str(adversarial).unwrap();
        let adversary = Adversary::new(&companions, &config, (16, 24)).unwrap();
        Objective { reconstruction, opponent: Some(Opponent::new(companions, adversary)) }
    }

    const SMALL: &str = "discriminator = { kind = \"patch\", channels = 4, layers = 2, norm = \"group\" }\n";

    fn adversary(objective: &Objective) -> &Adversary {
        &objective.opponent.as_ref().unwrap().adversary
    }

    fn images() -> Tensor {
        Tensor::rand([2, 3, 16, 24], (Kind::Float, tch::Device::Cpu)) * 2.0 - 1.0
    }

    fn at(step: u64) -> At<'static> {
        At { step, micro_batch: 0, noise: Noise::new(Seed(5)), world: World::alone() }
    }

    /// The logits of images that are not augmented.
    fn judged(objective: &Objective, images: &Tensor) -> Tensor {
        adversary(objective).judge(images, Noise::new(Seed(0)), World::alone())
    }

    fn gradients(parameters: &[Variable]) -> Vec<Tensor> {
        parameters.iter().map(|parameter| parameter.tensor.grad().copy()).collect()
    }

    #[test]
    fn each_group_gets_the_gradient_of_its_own_loss() {
        let mut objective = objective(&format!("weight = 0.7\n{SMALL}"));
        let images = images();
        let groups = objective.groups();
        let out = objective.step(&images, at(0)).unwrap().output;
        let value = out.groups[0].1.double_value(&[]);
        out.groups[0].1.backward();
        let tokenizers = gradients(&groups[0].parameters);
        assert!(groups[1].parameters.iter().all(|parameter| !parameter.tensor.grad().defined()));
        out.groups[1].1.backward();
        let discriminators = gradients(&groups[1].parameters);
        for (gradient, parameter) in tokenizers.iter().zip(&groups[0].parameters) {
            assert_eq!(
                *gradient,
                parameter.tensor.grad(),
                "the discriminator's loss leaves the tokenizer alone"
            );
        }

        // The same result as one plain sum that goes backward through everything at once.
        for parameter in groups.iter().flat_map(|group| &group.parameters) {
            parameter.tensor.shallow_clone().zero_grad();
        }
        let plain = objective.tokenizer().forward(&images, Mode::train(Seed(5))).unwrap();
        let fake = judged(&objective, &plain.recon);
        let terms = objective.reconstruction.loss.terms(&plain.recon, &images);
        let sum = total(&terms).unwrap()
            + total(&plain.quantized.losses).unwrap()
            + adversary(&objective).config.of_tokenizer(&fake) * 0.7;
        assert!((sum.double_value(&[]) / value - 1.0).abs() < 1e-5);
        sum.backward();
        for (gradient, Variable { name, tensor, .. }) in tokenizers.iter().zip(&groups[0].parameters) {
            let (expected, allowed) = (tensor.grad(), 1e-4 * tensor.grad().abs().max().double_value(&[]));
            assert!((gradient - expected).abs().max().double_value(&[]) <= allowed + 1e-9, "{name}");
        }
        for parameter in &groups[1].parameters {
            parameter.tensor.shallow_clone().zero_grad();
        }
        let [real, fake] = [&images, &plain.recon.detach()].map(|images| judged(&objective, images));
        adversary(&objective).config.loss.of_discriminator(&real, &fake).backward();
        for (gradient, Variable { name, tensor, .. }) in discriminators.iter().zip(&groups[1].parameters) {
            let (expected, allowed) = (tensor.grad(), 1e-4 * tensor.grad().abs().max().double_value(&[]));
            assert!((gradient - expected).abs().max().double_value(&[]) <= allowed + 1e-9, "{name}");
        }
    }

    #[test]
    fn the_adaptive_weight_makes_both_gradients_at_the_last_layer_alike() {
        let mut objective =
            objective(&format!("weight = 1.0\nweighting = {{ kind = \"adaptive\" }}\n{SMALL}"));
        let images = images();
        let out = objective.step(&images, at(0)).unwrap().output;
        let found = out.monitors.iter().find(|monitor| monitor.name == "adversarial/weight").unwrap();
        let plain = objective.tokenizer().forward(&images, Mode::train(Seed(5))).unwrap();
        let fake = judged(&objective, &plain.recon);
        let terms = total(&objective.reconstruction.loss.terms(&plain.recon, &images)).unwrap();
        let last = objective.tokenizer().last_layer();
        let norm = |loss: &Tensor| gradient(loss, last, true).norm().double_value(&[]);
        let expected = norm(&terms) / (norm(&adversary(&objective).config.of_tokenizer(&fake)) + 1e-4);
        assert!((found.value.double_value(&[]) / expected - 1.0).abs() < 1e-4);
    }

    /// The gradients at the last layer are taken from a part of the graph, and must add to
    /// nobody's.
    #[test]
    fn blocks_that_are_computed_again_have_the_same_weight_and_gradients() {
        let images = images();
        let [plain, again] = [false, true].map(|checkpoint_blocks| {
            let config = format!("weight = 0.7\nweighting = {{ kind = \"adaptive\" }}\n{SMALL}");
            let mut objective = objective_of(&config, checkpoint_blocks);
            let out = with_precision(Precision::Bf16, || objective.step(&images, at(0)).unwrap().output);
            let groups = objective.groups();
            assert!(groups[0].parameters.iter().all(|parameter| !parameter.tensor.grad().defined()));
            let mut found: Vec<Tensor> = out.monitors.into_iter().map(|monitor| monitor.value).collect();
            for ((_, loss), group) in out.groups.iter().zip(&groups) {
                loss.backward();
                found.push(loss.detach());
                found.extend(gradients(&group.parameters));
            }
            found
        });
        assert!(plain == again, "losses, monitors or gradients differ");
    }

    #[test]
    fn every_part_of_the_discriminator_learns_in_its_first_step() {
        for norm in ["batch", "group", "actnorm"] {
            let small = SMALL.replace("group", norm);
            let mut objective =
                objective(&format!("lecam = {{ weight = 0.1 }}\nr1 = {{ weight = 1.0 }}\n{small}"));
            let out = with_precision(Precision::Bf16, || objective.step(&images(), at(0)).unwrap().output);
            let [(_, of_tokenizer), (_, of_discriminator)] = &out.groups[..] else { panic!("two groups") };
            of_tokenizer.backward();
            of_discriminator.backward();
            for Variable { name, tensor, .. } in objective.groups().iter().flat_map(|group| &group.parameters)
            {
                assert!(tensor.grad().defined(), "{norm}: {name} has no gradient");
                let largest = tensor.grad().abs().max().double_value(&[]);
                assert!(largest.is_finite() && largest > 0.0, "{norm}: {name} has a gradient of {largest}");
            }
        }
    }

    #[test]
    fn before_its_start_there_is_no_trace_of_the_adversary() {
        let mut objective = objective(&format!("start = 3\n{SMALL}"));
        let before = objective.step(&images(), at(2)).unwrap().output;
        assert_eq!(before.groups.len(), 1);
        assert!(!before.terms.iter().any(|(name, _)| name.contains("adversarial")));
        let after = objective.step(&images(), at(3)).unwrap().output;
        assert_eq!(after.groups.iter().map(|(group, _)| *group).collect::<Vec<_>>(), [0, DISCRIMINATOR]);
        for name in ["loss/adversarial", "loss/discriminator", "loss/recon", "loss/commitment"] {
            assert!(after.terms.iter().any(|(found, _)| found == name), "{name}");
        }
        for name in ["share/adversarial", "share/ms_ssim", ACCURACY, "discriminator/logits_real"] {
            assert!(after.monitors.iter().any(|monitor| monitor.name == name), "{name}");
        }
    }
}
