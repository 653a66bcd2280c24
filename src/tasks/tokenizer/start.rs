//! Starts the quantizer from the first latents, before step 0.

use tch::Tensor;

use super::objective::Objective;
use crate::model::images_from_bytes;
use crate::quantizer::{QuantizerError, StartOutcome};
use crate::train::{Batches, Begun, Passes, Surroundings, TrainError};
use crate::variables::{Component, Variable};
use crate::world::{World, WorldError};
use pixtok_base::seed::Seed;
use pixtok_torch::{catching, no_grad, to_device_async, with_precision};

/// Gives the quantizer the latents of the first training batches, computed without gradients: as
/// many as it wants, but at most one epoch. The training then starts with the same batches. Each
/// process computes the latents of its own images and gets those of all, so all start the quantizer
/// from the same.
pub(super) fn start_quantizer(
    objective: &mut Objective,
    passes: Passes,
    batches: &mut dyn Batches<Tensor>,
    around: &mut Surroundings,
    seed: Seed,
) -> Result<Begun, TrainError> {
    let wanted = objective.tokenizer().quantizer.start_vectors();
    let Some(wanted) = wanted.filter(|_| objective.reconstruction.starts_quantizer()) else {
        return Ok(Begun::NotWanted);
    };
    around
        .logger
        .note(&format!("the codebook's start wants {wanted} latent vectors of the first training images"));
    let beginning = batches.beginning();
    batches.seek(&beginning, around)?;
    let latents = first_latents(objective, passes, batches, around, wanted);
    if latents.as_ref().is_err_and(TrainError::is_of_data) {
        // Listed; that they are too many is what the error says in its own words.
        let _ = batches.note_skipped(around);
    }
    // Nothing is loaded in the meantime.
    batches.seek(&beginning, around)?;
    let Some(latents) = latents? else { return Ok(Begun::Stopped) };
    let codes = objective.tokenizer().quantizer.codebook().size;
    around.logger.note(&in_words(vectors_of(&latents), wanted, codes));
    let (mut rounds, mut failed) = (0, None);
    let mut going_on = || {
        rounds += 1;
        around.logger.status(&format!("the codebook's start: iteration {rounds}"));
        // All processes stop at the same iteration.
        match around.interrupted() {
            Ok(signal) => signal.is_none(),
            Err(error) => {
                failed = Some(error);
                false
            }
        }
    };
    let seed = seed.derive("quantizer start", &[]);
    let outcome = start_or_undo(objective, &joined(&latents), seed, &mut going_on)?;
    match (outcome, failed) {
        (_, Some(error)) => Err(error.into()),
        (StartOutcome::Whole, None) => Ok(Begun::Done),
        (StartOutcome::Stopped, None) => Ok(Begun::Stopped),
    }
}

/// Starts the quantizer. If a signal stops it, restores its earlier state.
fn start_or_undo(
    objective: &mut Objective,
    z: &Tensor,
    seed: Seed,
    going_on: &mut dyn FnMut() -> bool,
) -> Result<StartOutcome, QuantizerError> {
    let own = |found: &Variable| found.component == Component::Quantizer;
    let live = objective.variables().into_iter().filter(own).map(|found| found.tensor);
    let before: Vec<(Tensor, Tensor)> = live.map(|live| (live.detach().copy(), live)).collect();
    let outcome = objective.reconstruction.tokenizer.quantizer.start(z, seed, going_on)?;
    if outcome == StartOutcome::Stopped {
        // Some of several codebooks may have started.
        no_grad(|| before.into_iter().for_each(|(before, mut live)| live.copy_(&before)));
    }
    Ok(outcome)
}

/// Latents of the first batches with `wanted` vectors, or of all batches of the first epoch, each
/// batch with the images of all processes; `None` after a signal.
fn first_latents(
    objective: &Objective,
    passes: Passes,
    batches: &mut dyn Batches<Tensor>,
    around: &mut Surroundings,
    wanted: i64,
) -> Result<Option<Vec<Tensor>>, TrainError> {
    let Passes { micro_batches, precision } = passes;
    let device = objective.device();
    let mut latents: Vec<Tensor> = vec![];
    loop {
        let fetched = batches.next()?;
        if around.interrupted()?.is_some() {
            return Ok(None);
        }
        // The next epoch would show the same images again. With buckets, the first epochs of a
        // small set may have no batch.
        if around.world.any(fetched.epoch > 0 && !latents.is_empty())? {
            break;
        }
        let of_part = |part: &Tensor| {
            catching(|| {
                no_grad(|| {
                    with_precision(precision, || {
                        objective.tokenizer().latents(&images_from_bytes(&to_device_async(part, device)))
                    })
                })
            })
        };
        let parts = fetched.batch.chunk(micro_batches as i64, 0);
        let own = parts.iter().map(of_part).collect::<Result<Vec<_>, _>>()?;
        latents.push(gathered(&joined(&own), &around.world)?);
        let vectors = vectors_of(&latents);
        if vectors >= wanted {
            break;
        }
        around.logger.status(&format!("the codebook's start: {vectors} of {wanted} latent vectors"));
    }
    Ok(Some(latents))
}

fn vectors_of(latents: &[Tensor]) -> i64 {
    latents.iter().map(|z| z.size()[0] * z.size()[1]).sum()
}

/// `[B, N, D]` of several batches as one, in the order in memory that the latents have: the order in
/// which sums over D are added up depends on it. A convolution without training gives channels side
/// by side on CUDA, where it runs in channels_last, and positions side by side on a CPU.
///
/// With buckets N differs. Then all vectors become those of one image, `[1, N, D]`.
fn joined(latents: &[Tensor]) -> Tensor {
    let positions = |z: &Tensor| z.size()[1];
    if latents.windows(2).any(|pair| positions(&pair[0]) != positions(&pair[1])) {
        let rows: Vec<Tensor> = latents.iter().map(|z| z.flatten(0, 1)).collect();
        return Tensor::cat(&rows, 0).unsqueeze(0);
    }
    if latents.iter().all(channels_side_by_side) {
        return Tensor::cat(latents, 0);
    }
    let turned: Vec<Tensor> = latents.iter().map(|z| z.transpose(1, 2)).collect();
    Tensor::cat(&turned, 0).transpose(1, 2)
}

/// The latents of a batch, `[B, N, D]`, from those of this process's images in it, `[b, N, D]`, and
/// with their order in memory.
fn gathered(own: &Tensor, world: &World) -> Result<Tensor, WorldError> {
    if channels_side_by_side(own) {
        return world.gather(own);
    }
    Ok(world.gather(&own.transpose(1, 2))?.transpose(1, 2))
}

fn channels_side_by_side(z: &Tensor) -> bool {
    z.stride().last() == Some(&1)
}

/// Describes what the codebook starts from.
fn in_words(vectors: i64, wanted: i64, codes: i64) -> String {
    let mut words = format!("the codebook starts from {vectors} latent vectors");
    if vectors < wanted {
        words += ", all of the first epoch";
    }
    if vectors < codes {
        words += &format!(", fewer than its {codes} codes: vectors repeat, moved a little apart");
    }
    if vectors < codes.min(wanted) {
        words += "; more training images or fewer codes would give each code a vector of its own";
    }
    words
}

#[cfg(test)]
mod tests {
    use tch::{Device, Kind};

    use super::*;
    use crate::loss::{self, Loss};
    use crate::model::{self, ImageSize, Tokenizer};
    use crate::optim;
    use crate::tasks::tokenizer::Reconstruction;
    use crate::variables::Variables;

    /// Two stages of two groups, which start one after the other.
    fn objective() -> Objective {
        let store = Variables::new(Device::Cpu);
        let each = "{ kind = \"vq\", codebook_size = 8, codebook_dim = 2, codebook_update = { kind = \"gradient\" } }";
        let stages = format!("{{ kind = \"residual\", stages = 2, each = {each} }}");
        let quantizer = toml::from_str(&format!("kind = \"grouped\"\ngroups = 2\neach = {stages}")).unwrap();
        let network =
            model::cnn::Config { channels: 8, multipliers: vec![1, 2], ..model::cnn::Config::default() }
                .resolved();
        pixtok_torch::reseed(Seed(1));
        let size = ImageSize { height: 20, width: 28 };
        let tokenizer = Tokenizer::new(&store, &network, &quantizer, size).unwrap();
        let loss = Loss::new(loss::Config::default(), None).unwrap();
        let reconstruction = Reconstruction::new(store, tokenizer, loss, optim::Config::default(), vec![]);
        Objective { reconstruction, opponent: None }
    }

    #[test]
    fn a_start_that_is_stopped_is_undone_and_can_begin_again() {
        let values = |objective: &Objective| -> Vec<Tensor> {
            objective.variables().into_iter().map(|found| found.tensor.detach().copy()).collect()
        };
        pixtok_torch::reseed(Seed(2));
        let z = Tensor::randn([3, 140, 4], (Kind::Float, Device::Cpu));
        let mut whole = objective();
        let mut asked = 0;
        let mut always = || {
            asked += 1;
            true
        };
        assert_eq!(start_or_undo(&mut whole, &z, Seed(3), &mut always).unwrap(), StartOutcome::Whole);
        // Stops in the first stage, in the second, and in the other group.
        for stop_at in [1, asked / 4 + 1, asked - 1] {
            let mut stopped = objective();
            let before = values(&stopped);
            let mut asked = 0;
            let mut until = || {
                asked += 1;
                asked < stop_at
            };
            let outcome = start_or_undo(&mut stopped, &z, Seed(3), &mut until).unwrap();
            assert_eq!((outcome, asked), (StartOutcome::Stopped, stop_at));
            assert_eq!(values(&stopped), before, "stopped at {stop_at}");
            assert!(stopped.tokenizer().quantizer.start_vectors().is_some());
            assert_eq!(start_or_undo(&mut stopped, &z, Seed(3), &mut || true).unwrap(), StartOutcome::Whole);
            assert_eq!(values(&stopped), values(&whole), "begun again after {stop_at}");
        }
    }

    #[test]
    fn joined_latents_keep_their_order_in_memory() {
        let [first, second] = [2, 3].map(|batch| Tensor::randn([batch, 5, 4], (Kind::Float, Device::Cpu)));
        let whole = Tensor::cat(&[&first, &second], 0);
        let by_channel = [&first, &second].map(|z| z.transpose(1, 2).contiguous().transpose(1, 2));
        let (by_position, by_channel) = (joined(&[first, second]), joined(&by_channel));
        assert_eq!((by_position.stride(), by_channel.stride()), (vec![20, 4, 1], vec![20, 1, 5]));
        assert_eq!((&by_position, &by_channel), (&whole, &whole));
        for z in [by_position, by_channel] {
            let alone = gathered(&z, World::alone()).unwrap();
            assert_eq!((alone.stride(), &alone), (z.stride(), &z));
        }
    }

    #[test]
    fn latents_of_several_sizes_become_rows() {
        let [first, second] = [5, 7].map(|n| Tensor::randn([2, n, 4], (Kind::Float, Device::Cpu)));
        let rows = joined(&[first.shallow_clone(), second.shallow_clone()]);
        assert_eq!(
            (rows.size(), vectors_of(&[first.shallow_clone(), second.shallow_clone()])),
            (vec![1, 24, 4], 24)
        );
        assert_eq!(rows.narrow(1, 5, 5), first.narrow(0, 1, 1));
        assert_eq!(rows.narrow(1, 10, 7), second.narrow(0, 0, 1));
    }

    #[test]
    fn what_a_codebook_starts_from_is_said() {
        assert_eq!(in_words(4096, 4096, 1024), "the codebook starts from 4096 latent vectors");
        let all = in_words(2000, 4096, 1024);
        assert_eq!(all, "the codebook starts from 2000 latent vectors, all of the first epoch");
        let fewer = in_words(1000, 4096, 1024);
        for part in ["all of the first epoch", "fewer than its 1024 codes", "repeat", "more training images"]
        {
            assert!(fewer.contains(part), "{part:?} is missing in: {fewer}");
        }
        // A large codebook asks for fewer vectors than it has codes.
        let capped = in_words(262_144, 262_144, 1 << 20);
        assert!(capped.contains("fewer than") && !capped.contains("epoch"), "{capped}");
        assert!(!capped.contains("more training images"), "{capped}");
    }
}
