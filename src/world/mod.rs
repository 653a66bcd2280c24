//! The processes that train together, as one of them sees them.
//!
//! A [`World`] is made once, at the start, and handed to everything that would differ between
//! processes: which share of the batches to load, what to sum over all, who writes. A single
//! process ([`World::single`]) exchanges nothing: each sum is its own argument.
//!
//! `launch` reads what the launcher says, `meeting` brings the processes together, and `peers`
//! finds out which process is to blame if an exchange fails. All processes must call the same
//! exchanges in the same order.

mod error;
mod launch;
mod meeting;
mod peers;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tch::{Device, Tensor};

pub use error::WorldError;
pub use launch::{Launch, LaunchError, Meeting};
use meeting::Joined;
use pixtok_torch::{BucketSizes, GradientBuckets, Group, PendingSum, TorchError};

/// How long processes wait for one that does other work, such as listing all images or saving, and
/// shows that it is alive.
const PATIENCE: Duration = Duration::from_secs(3600);
/// The largest size of a message in which several tensors travel together.
const MESSAGE_BYTES: usize = 64 << 20;

/// The processes that train together, as one of them sees them.
#[derive(Debug, Clone)]
pub struct World {
    rank: u32,
    size: u32,
    local_rank: u32,
    /// A process alone may have been started again too.
    restarts: u32,
    joined: Option<Arc<Joined>>,
}

impl PartialEq for World {
    fn eq(&self, other: &Self) -> bool {
        (self.rank, self.size) == (other.rank, other.size)
    }
}

impl Eq for World {}

/// The groups that exchange tensors.
#[derive(Debug)]
struct Groups {
    host: Group,
    /// For tensors on a CUDA device.
    cuda: Option<Group>,
    /// The nanoseconds that this process has waited for exchanges.
    waited: AtomicU64,
}

impl Groups {
    fn of(&self, device: Device) -> &Group {
        self.cuda.as_ref().filter(|_| device.is_cuda()).unwrap_or(&self.host)
    }
}

/// A sum over all processes that has begun: see [`World::finish_sum`].
#[derive(Debug)]
#[must_use]
pub struct SumUnderWay {
    sum: PendingSum,
    device: Device,
}

static ALONE: World = World { rank: 0, size: 1, local_rank: 0, restarts: 0, joined: None };

impl World {
    /// A single process.
    #[must_use]
    pub fn single() -> Self {
        ALONE.clone()
    }

    /// A single process, to borrow.
    #[must_use]
    pub const fn alone() -> &'static Self {
        &ALONE
    }

    /// The processes that a launcher started, each of which works separately: they exchange nothing.
    ///
    /// # Errors
    /// When the launcher's variables contradict each other.
    pub fn apart(variable: impl Fn(&str) -> Option<String>) -> Result<Self, WorldError> {
        let Some(launch) = Launch::find(&variable) else { return Ok(Self::single()) };
        let (rank, size) = launch.required_numbers()?;
        let local_rank = launch.local_rank_of(rank, &variable)?;
        Ok(Self { rank, size, local_rank, ..Self::single() })
    }

    /// Meets the other processes of a launch, which must have the same `purpose`: `train`, for
    /// instance. From then on each of them shows the others that it is alive. The others give up on
    /// a process that is silent, or keeps an exchange waiting, for `timeout`.
    ///
    /// # Errors
    /// When not all processes come in time, or the port of the store is in use.
    pub fn join(purpose: &str, meeting: &Meeting, timeout: Duration) -> Result<Self, WorldError> {
        let (rank, size) = (meeting.rank, meeting.size);
        if size == 1 {
            return Ok(Self { restarts: meeting.restarts, ..Self::single() });
        }
        let joined = Some(Arc::new(Joined::new(purpose, meeting, timeout)?));
        Ok(Self { rank, size, local_rank: meeting.local_rank, restarts: meeting.restarts, joined })
    }

    /// Connects the processes, which can then exchange tensors of `device` and of the CPU. To be
    /// called once.
    ///
    /// # Errors
    /// When the processes don't reach each other.
    pub fn connect(&self, device: Device) -> Result<(), WorldError> {
        self.joined.as_ref().map_or(Ok(()), |joined| joined.connect(device))
    }

    fn groups(&self) -> Option<&Groups> {
        self.joined.as_ref()?.groups.get()
    }

    /// Tells the others that this process ends, and with which `error`, if any, so that they can
    /// name it. The process that serves the store waits until the others have ended.
    pub fn leave(&self, error: Option<&str>) {
        if let Some(joined) = &self.joined {
            joined.leave(error);
        }
    }

    /// The rank of this process: its number, counted from 0.
    #[must_use]
    pub fn rank(&self) -> u32 {
        self.rank
    }

    /// The number of processes.
    #[must_use]
    pub fn size(&self) -> u32 {
        self.size
    }

    /// The number of processes that may use the same processors of this host, this one included.
    #[must_use]
    pub fn on_these_processors(&self) -> u32 {
        self.joined.as_ref().map_or(1, |joined| joined.on_these_processors)
    }

    /// The rank of this process on its host, counted from 0.
    #[must_use]
    pub fn local_rank(&self) -> u32 {
        self.local_rank
    }

    /// How often the launcher has restarted this job.
    #[must_use]
    pub fn restarts(&self) -> u32 {
        self.restarts
    }

    /// Whether this process writes logs and checkpoints.
    #[must_use]
    pub fn writes(&self) -> bool {
        self.rank == 0
    }

    /// The place in a step's whole batch of sample `own` of this process, if each process has
    /// `samples` of them. Each process takes one slice of the batch, in the order of their ranks.
    #[must_use]
    pub fn place(&self, own: u64, samples: u64) -> u64 {
        u64::from(self.rank) * samples + own
    }

    /// Notes what this process is doing, for the messages of others: `step 12`, for instance.
    pub fn at(&self, stage: impl FnOnce() -> String) {
        if let Some(joined) = &self.joined {
            joined.peers.at(stage());
        }
    }

    /// How long this process has waited for exchanges so far; `None` in a single process. On CUDA
    /// exchanges run while the host goes on, so only the time that the host waits is counted.
    #[must_use]
    pub fn waited(&self) -> Option<Duration> {
        let groups = self.groups()?;
        Some(Duration::from_nanos(groups.waited.load(Ordering::Relaxed)))
    }

    /// Runs an exchange of tensors and, if it fails, finds out why.
    fn exchanging<T>(
        &self,
        what: &'static str,
        device: Device,
        exchange: impl FnOnce(&Group) -> Result<T, TorchError>,
    ) -> Result<T, WorldError> {
        let (Some(joined), Some(groups)) = (&self.joined, self.groups()) else {
            return Err(WorldError::Torch(format!("{what} before the processes were connected")));
        };
        joined.peers.enter(what);
        let began = Instant::now();
        let result = exchange(groups.of(device));
        groups.waited.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        result.map_err(|error| joined.peers.explain(what, &error.to_string()))
    }

    /// The reason why an exchange inside a network failed. There it can only be reported as an
    /// error of the whole computation.
    #[must_use]
    pub fn fault(&self) -> Option<WorldError> {
        let (joined, groups) = (self.joined.as_ref()?, self.groups()?);
        let fault =
            [Some(&groups.host), groups.cuda.as_ref()].into_iter().flatten().find_map(Group::fault)?;
        Some(joined.peers.explain("an exchange inside the networks", &fault))
    }

    /// The sum of a tensor over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn sum(&self, tensor: &Tensor) -> Result<Tensor, WorldError> {
        if self.size == 1 {
            return Ok(tensor.shallow_clone());
        }
        let sum = tensor.detach().copy().contiguous();
        self.exchanging("an all-reduce", tensor.device(), |group| group.all_reduce(&sum))?;
        Ok(sum)
    }

    /// Begins to sum a tensor over several processes, while this process does other work. No process
    /// may begin a different exchange of tensors until it has begun this one.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn begin_sum(&self, tensor: &Tensor) -> Result<SumUnderWay, WorldError> {
        let (own, device) = (tensor.detach().copy().contiguous(), tensor.device());
        let sum = self.exchanging("an all-reduce", device, |group| group.begin_all_reduce(own))?;
        Ok(SumUnderWay { sum, device })
    }

    /// The sum that was begun; waits for it.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn finish_sum(&self, SumUnderWay { sum, device }: SumUnderWay) -> Result<Tensor, WorldError> {
        self.exchanging("an all-reduce", device, |group| group.finish_all_reduce(sum))
    }

    /// The sum of a number over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn sum_of(&self, number: i64) -> Result<i64, WorldError> {
        if self.size == 1 {
            return Ok(number);
        }
        Ok(self.sum(&Tensor::from_slice(&[number]))?.int64_value(&[0]))
    }

    /// The sum of each number over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn sum_each<const N: usize>(&self, numbers: [f64; N]) -> Result<[f64; N], WorldError> {
        let sums = self.sum(&Tensor::from_slice(&numbers))?;
        Ok(std::array::from_fn(|i| sums.double_value(&[i as i64])))
    }

    /// The mean of a tensor over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn mean(&self, tensor: &Tensor) -> Result<Tensor, WorldError> {
        if self.size == 1 {
            return Ok(tensor.shallow_clone());
        }
        Ok(self.sum(tensor)? / f64::from(self.size))
    }

    /// Whether `flag` is set in any process, so that all of them decide the same.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn any(&self, flag: bool) -> Result<bool, WorldError> {
        Ok(self.sum_of(i64::from(flag))? > 0)
    }

    /// The rows of all processes, in the order of their ranks.
    ///
    /// # Shapes
    /// `[n, …]`, where only n may differ between processes -> `[Σn, …]`.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn gather(&self, rows: &Tensor) -> Result<Tensor, WorldError> {
        if self.size == 1 {
            return Ok(rows.shallow_clone());
        }
        let own = rows.size()[0];
        let counts = Vec::<i64>::try_from(self.gather_as_many(&Tensor::from_slice(&[own]))?)
            .map_err(|error| WorldError::Torch(error.to_string()))?;
        let most = counts.iter().copied().max().unwrap_or(own);
        // Only tensors of one shape can be exchanged.
        let mut shape = rows.size();
        shape[0] = most - own;
        let padded = Tensor::cat(&[&rows.detach(), &Tensor::zeros(&shape, (rows.kind(), rows.device()))], 0);
        let all = self.gather_as_many(&padded)?;
        let parts: Vec<Tensor> = (0..).zip(&counts).map(|(rank, &n)| all.narrow(0, rank * most, n)).collect();
        Ok(Tensor::cat(&parts, 0))
    }

    /// The same as [`World::gather`] for the same number of rows in each process. No counts are
    /// exchanged, so the host goes on while a device exchanges the rows.
    ///
    /// # Shapes
    /// `[n, …]` -> `[processes · n, …]`.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn gather_as_many(&self, rows: &Tensor) -> Result<Tensor, WorldError> {
        if self.size == 1 {
            return Ok(rows.shallow_clone());
        }
        let all = self.exchanging("an all-gather", rows.device(), |group| group.all_gather(rows))?;
        Ok(all.flatten(0, 1))
    }

    /// The bytes of every process, by rank.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn gather_bytes(&self, own: &[u8]) -> Result<Vec<Vec<u8>>, WorldError> {
        let length = Tensor::from_slice(&[own.len() as i64]);
        let failed = |error: tch::TchError| WorldError::Torch(error.to_string());
        let lengths = Vec::<i64>::try_from(self.gather(&length)?).map_err(failed)?;
        let all = Vec::<u8>::try_from(self.gather(&Tensor::from_slice(own))?).map_err(failed)?;
        let mut rest = all.as_slice();
        let take = |&length: &i64| {
            let (own, after) = rest.split_at_checked(length as usize)?;
            rest = after;
            Some(own.to_vec())
        };
        Ok(lengths.iter().map_while(take).collect())
    }

    /// The sum over all processes, with gradients: the backward pass sums the gradients of all
    /// processes, and has gradients itself. For use inside networks and quantizers. Panics like
    /// tch's own methods; [`World::fault`] then says why.
    pub fn all_reduce(&self, x: &Tensor) -> Tensor {
        let (Some(joined), Some(groups)) = (&self.joined, self.groups()) else { return x.shallow_clone() };
        joined.peers.enter("an all-reduce inside the networks");
        let began = Instant::now();
        let sum = groups.of(x.device()).summed(x);
        groups.waited.fetch_add(began.elapsed().as_nanos() as u64, Ordering::Relaxed);
        sum
    }

    /// The mean over all processes, with gradients like [`World::all_reduce`].
    pub fn all_mean(&self, x: &Tensor) -> Tensor {
        if self.size == 1 { x.shallow_clone() } else { self.all_reduce(x) / f64::from(self.size) }
    }

    /// Gives each tensor the value that it has in the process `owner`. The list must be the same in
    /// every process. Tensors of one owner and kind travel together.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn broadcast_each(&self, tensors: &[(Tensor, u32)]) -> Result<(), WorldError> {
        if self.size == 1 {
            return Ok(());
        }
        let mut left: Vec<&(Tensor, u32)> = tensors.iter().filter(|(tensor, _)| tensor.numel() > 0).collect();
        while let Some(&(first, owner)) = left.first() {
            let mut bytes = 0;
            let (together, others): (Vec<_>, Vec<_>) = left.into_iter().partition(|(tensor, own)| {
                let alike =
                    *own == *owner && tensor.kind() == first.kind() && tensor.device() == first.device();
                if alike {
                    bytes += tensor.numel() * tensor.kind().elt_size_in_bytes();
                }
                alike && (bytes <= MESSAGE_BYTES || std::ptr::eq(tensor, first))
            });
            self.broadcast_together(&together, *owner)?;
            left = others;
        }
        Ok(())
    }

    fn broadcast_together(&self, tensors: &[&(Tensor, u32)], owner: u32) -> Result<(), WorldError> {
        pixtok_torch::no_grad(|| {
            let flat: Vec<Tensor> = tensors.iter().map(|(tensor, _)| tensor.detach().reshape([-1])).collect();
            let message = Tensor::cat(&flat, 0);
            self.exchanging("a broadcast", message.device(), |group| group.broadcast(&message, owner))?;
            if owner != self.rank {
                let lengths: Vec<i64> = tensors.iter().map(|(tensor, _)| tensor.numel() as i64).collect();
                for ((tensor, _), part) in tensors.iter().zip(message.split_with_sizes(&lengths, 0)) {
                    tensor.shallow_clone().copy_(&part.view_as(tensor));
                }
            }
            Ok(())
        })
    }

    /// The exchange of the gradients of `parameters`; `None` in a single process. With `bf16` they
    /// travel in half the bytes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn gradients(&self, parameters: &[Tensor], bf16: bool) -> Result<Option<Gradients>, WorldError> {
        let (Some(groups), Some(first)) = (self.groups(), parameters.first()) else { return Ok(None) };
        let group = groups.of(first.device());
        let buckets = GradientBuckets::new(group, parameters, BucketSizes::default(), bf16)?;
        Ok(Some(Gradients { world: self.clone(), buckets, device: first.device() }))
    }

    /// Waits until process 0 comes here too, for as long as it shows that it is alive: it may be
    /// writing files.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn wait_for_the_first(&self) -> Result<(), WorldError> {
        self.joined.as_ref().map_or(Ok(()), |joined| joined.wait_for_the_first(PATIENCE))
    }

    /// Waits until all processes come here, for as long as they show that they are alive. Unlike an
    /// exchange of tensors, this allows for work that takes one process much longer.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn wait_for_all(&self) -> Result<(), WorldError> {
        self.exchange("the wait for all processes", "").map(drop)
    }

    /// The texts of all processes, by rank. They go through the store, so they should be small and
    /// rare. Waits for each process as long as it shows that it is alive.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn exchange(&self, what: &str, own: &str) -> Result<Vec<String>, WorldError> {
        match &self.joined {
            Some(joined) => joined.exchange(what, own, PATIENCE),
            None => Ok(vec![own.to_owned()]),
        }
    }
}

/// The gradients of some parameters, which all processes exchange during the backward pass.
#[derive(Debug)]
pub struct Gradients {
    world: World,
    buckets: GradientBuckets,
    device: Device,
}

impl Gradients {
    /// Prepares for the last backward pass of a step: see [`GradientBuckets::arm`].
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn arm(&self) -> Result<(), WorldError> {
        Ok(self.buckets.arm()?)
    }

    /// Waits until each gradient is the mean over all processes.
    ///
    /// # Errors
    /// [`WorldError`].
    pub fn finish(&self) -> Result<(), WorldError> {
        self.world.exchanging("the exchange of gradients", self.device, |_| self.buckets.finish())
    }
}

#[cfg(test)]
mod tests;
