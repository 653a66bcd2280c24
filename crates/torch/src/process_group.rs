//! The exchange of tensors among processes: c10d, the engine under PyTorch's own
//! `DistributedDataParallel`.
//!
//! Processes meet at a [`Store`], a small server of keys and values. With it they make a [`Group`],
//! which exchanges tensors. All processes must call the same exchanges in the same order.

use std::ffi::{CString, c_char, c_int, c_void};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use tch::Tensor;

use super::shim::{
    check, made, message_of, px_all_gather, px_all_reduce, px_all_reduce_finish, px_all_reduce_start,
    px_broadcast, px_free, px_gradients, px_gradients_arm, px_gradients_finish, px_group_close,
    px_group_fault, px_group_gloo, px_group_of, px_nccl_group, px_store, px_store_again, px_store_count,
    px_store_free, px_store_get, px_store_has, px_store_part, px_store_set, px_summed, px_use_cuda,
};
use super::{TorchError, load_nccl};

/// A connection to the keys and values that all processes share.
///
/// c10d waits for an answer without end, so that a process which is stopped, or a host that is cut
/// off, would hold up all others if it serves the store. So each request is made in a thread of its
/// own. If it isn't answered in time, it fails, and so does every later one of its connection.
#[derive(Debug)]
pub struct Store {
    connection: Arc<Connection>,
    /// The time that an answer may take.
    patience: Duration,
    /// Whether an answer didn't come in time. The parts of a store share it.
    silent: Arc<AtomicBool>,
}

/// A store of c10d.
struct Connection(*mut c_void);

// SAFETY: c10d's stores lock a mutex for each request.
unsafe impl Send for Connection {}
// SAFETY: the same.
unsafe impl Sync for Connection {}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connection")
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // SAFETY: the pointer was made by the shim and is freed once.
        unsafe { px_store_free(self.0) };
    }
}

/// The result of `work` in a thread of its own; `None` if it takes longer than `limit`. Then it is
/// left to itself.
fn within<T: Send + 'static>(
    limit: Duration,
    work: impl FnOnce() -> Result<T, TorchError> + Send + 'static,
) -> Option<Result<T, TorchError>> {
    let (done, result) = mpsc::channel();
    // Nobody may listen any more.
    let work = move || drop(done.send(work()));
    match thread::Builder::new().name("pixtok-store".to_owned()).spawn(work) {
        Ok(_) => result.recv_timeout(limit).ok(),
        Err(error) => Some(Err(TorchError::Other(format!("cannot start a thread: {error}")))),
    }
}

fn text(text: &str) -> Result<CString, TorchError> {
    CString::new(text).map_err(|_| TorchError::Other(format!("{text:?} has a zero byte")))
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}

/// The pointer that `call` makes.
fn pointer(call: impl FnOnce(*mut *mut c_void) -> *mut c_char) -> Result<*mut c_void, TorchError> {
    let mut made = std::ptr::null_mut();
    check(call(&raw mut made))?;
    Ok(made)
}

impl Store {
    /// Connects to the store at `host` and `port`, and waits for it at most `timeout`, and later as
    /// long for each answer. The process that `serves` runs it too.
    ///
    /// # Errors
    /// When nobody serves it in time, or the port is in use.
    pub fn connect(host: &str, port: u16, serves: bool, timeout: Duration) -> Result<Self, TorchError> {
        let host = text(host)?;
        let connect = move || {
            let (port, serves, timeout) = (c_int::from(port), c_int::from(serves), milliseconds(timeout));
            // SAFETY: `host` lives through the call; `out` receives the pointer.
            pointer(|out| unsafe { px_store(host.as_ptr(), port, serves, timeout, out) }).map(Connection)
        };
        // c10d gives up an attempt after the time-out, and may have begun it late.
        let connection = within(timeout, connect).unwrap_or_else(|| Err(no_answer(timeout)))?;
        Ok(Self { connection: Arc::new(connection), patience: timeout, silent: Arc::default() })
    }

    /// The part whose keys start with `prefix`, over the same connection.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn part(&self, prefix: &str) -> Result<Self, TorchError> {
        let prefix = text(prefix)?;
        // SAFETY: both pointers are valid through the call.
        let part = pointer(|out| unsafe { px_store_part(self.connection.0, prefix.as_ptr(), out) })?;
        let connection = Arc::new(Connection(part));
        Ok(Self { connection, patience: self.patience, silent: Arc::clone(&self.silent) })
    }

    /// A further connection to the same keys. A request that waits holds up all others of its
    /// connection.
    ///
    /// # Errors
    /// When the connection can't be made.
    pub fn again(&self) -> Result<Self, TorchError> {
        let connect = |store: &Connection| {
            // SAFETY: the pointer is valid through the call.
            pointer(|out| unsafe { px_store_again(store.0, out) }).map(Connection)
        };
        let connection = Arc::new(self.ask(self.patience, connect)?);
        Ok(Self { connection, patience: self.patience, silent: Arc::default() })
    }

    /// Makes a request that is answered within `limit`.
    fn ask<T: Send + 'static>(
        &self,
        limit: Duration,
        request: impl FnOnce(&Connection) -> Result<T, TorchError> + Send + 'static,
    ) -> Result<T, TorchError> {
        if self.silent.load(Ordering::Relaxed) {
            return Err(no_answer(self.patience));
        }
        let connection = Arc::clone(&self.connection);
        within(limit, move || request(&connection)).unwrap_or_else(|| {
            self.silent.store(true, Ordering::Relaxed);
            Err(no_answer(self.patience))
        })
    }

    /// Sets a key.
    ///
    /// # Errors
    /// When the store is gone.
    pub fn set(&self, key: &str, value: &[u8]) -> Result<(), TorchError> {
        let (key, value) = (text(key)?, value.to_vec());
        self.ask(self.patience, move |store| {
            // SAFETY: all pointers are valid through the call, and the store copies the value.
            check(unsafe { px_store_set(store.0, key.as_ptr(), value.as_ptr(), value.len()) })
        })
    }

    /// The value of a key; waits until it is set, at most `timeout`.
    ///
    /// # Errors
    /// When it isn't set in time, or the store is gone.
    pub fn get(&self, key: &str, timeout: Duration) -> Result<Vec<u8>, TorchError> {
        let key = text(key)?;
        self.ask(self.patience.saturating_add(timeout), move |store| {
            let (mut value, mut size) = (std::ptr::null_mut(), 0);
            let timeout = milliseconds(timeout);
            // SAFETY: all pointers are valid through the call.
            check(unsafe { px_store_get(store.0, key.as_ptr(), timeout, &raw mut value, &raw mut size) })?;
            // SAFETY: on success the shim gives `size` bytes, which we must free.
            let bytes = unsafe { std::slice::from_raw_parts(value.cast::<u8>(), size) }.to_vec();
            // SAFETY: the same pointer, which is not used afterwards.
            unsafe { px_free(value) };
            Ok(bytes)
        })
    }

    /// Whether a key is set.
    ///
    /// # Errors
    /// When the store is gone.
    pub fn has(&self, key: &str) -> Result<bool, TorchError> {
        let key = text(key)?;
        self.ask(self.patience, move |store| {
            let mut has = 0;
            // SAFETY: all pointers are valid through the call.
            check(unsafe { px_store_has(store.0, key.as_ptr(), &raw mut has) })?;
            Ok(has != 0)
        })
    }

    /// Adds 1 to a key, which begins at 0, and returns its new value. No two processes get the
    /// same.
    ///
    /// # Errors
    /// When the store is gone.
    pub fn count(&self, key: &str) -> Result<i64, TorchError> {
        let key = text(key)?;
        self.ask(self.patience, move |store| {
            let mut count = 0;
            // SAFETY: all pointers are valid through the call.
            check(unsafe { px_store_count(store.0, key.as_ptr(), &raw mut count) })?;
            Ok(count)
        })
    }
}

fn no_answer(patience: Duration) -> TorchError {
    TorchError::Other(format!("the store has not answered for {} s", patience.as_secs()))
}

/// How the other processes reach this one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// By the addresses of network interfaces: `eth0`, for instance. More than one share the
    /// traffic.
    Interfaces(Vec<String>),
    /// By an address or a name of this host.
    Address(String),
}

/// Processes that exchange tensors of one kind of device. It is never freed: its destructor would
/// wait for processes that may be gone.
pub struct Group(*mut c_void);

// SAFETY: an exchange may be called from any thread, and c10d locks its queue.
unsafe impl Send for Group {}
// SAFETY: the same.
unsafe impl Sync for Group {}

impl fmt::Debug for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Group")
    }
}

impl Group {
    /// A group for tensors on the CPU, over Gloo. An exchange that takes longer than `timeout`
    /// fails. All processes must make the group, each with its own rank.
    ///
    /// # Errors
    /// When the processes don't reach each other in time.
    pub fn gloo(
        store: &Store,
        rank: u32,
        size: u32,
        timeout: Duration,
        reach: &Reach,
    ) -> Result<Self, TorchError> {
        let (interfaces, address) = match reach {
            Reach::Interfaces(names) => (text(&names.join(","))?, text("")?),
            Reach::Address(address) => (text("")?, text(address)?),
        };
        let made = |out| {
            let (rank, size) = (rank as c_int, size as c_int);
            // SAFETY: all pointers are valid through the call, and the group keeps the store alive.
            unsafe {
                px_group_gloo(
                    store.connection.0,
                    rank,
                    size,
                    milliseconds(timeout),
                    interfaces.as_ptr(),
                    address.as_ptr(),
                    out,
                )
            }
        };
        pointer(made).map(Self)
    }

    /// A group for tensors on the CUDA device number `device`, over NCCL.
    ///
    /// # Errors
    /// When `libpixtok_cuda.so` is missing, or the processes don't reach each other in time.
    pub fn nccl(
        store: &Store,
        rank: u32,
        size: u32,
        timeout: Duration,
        device: usize,
    ) -> Result<Self, TorchError> {
        load_nccl().map_err(TorchError::NoDevice)?;
        let name = text("pixtok")?;
        // SAFETY: the call takes only a number.
        check(unsafe { px_use_cuda(device as c_int) })?;
        let made = |out| {
            let (rank, size) = (rank as c_int, size as c_int);
            // SAFETY: all pointers are valid through the call, and the group keeps the store alive.
            unsafe {
                px_nccl_group(store.connection.0, rank, size, milliseconds(timeout), name.as_ptr(), out)
            }
        };
        // SAFETY: the pointer is the one that the shim has just made, and isn't used afterwards.
        pointer(made).map(|backend| Self(unsafe { px_group_of(backend) }))
    }

    /// Replaces a contiguous tensor by its sum over all processes.
    ///
    /// # Errors
    /// When a process is gone or takes too long.
    pub fn all_reduce(&self, tensor: &Tensor) -> Result<(), TorchError> {
        // SAFETY: both pointers are valid through the call, which changes the tensor's values only.
        check(unsafe { px_all_reduce(self.0, tensor.as_ptr().cast_mut()) })
    }

    /// Begins to replace a contiguous tensor by its sum over all processes.
    ///
    /// # Errors
    /// When a process is gone.
    pub fn begin_all_reduce(&self, tensor: Tensor) -> Result<PendingSum, TorchError> {
        // SAFETY: the pointers are valid through the call, and c10d keeps the tensor alive.
        let work = pointer(|out| unsafe { px_all_reduce_start(self.0, tensor.as_ptr().cast_mut(), out) })?;
        Ok(PendingSum { work, tensor })
    }

    /// The sum that was begun; waits for it.
    ///
    /// # Errors
    /// When a process is gone or takes too long.
    pub fn finish_all_reduce(&self, pending: PendingSum) -> Result<Tensor, TorchError> {
        // SAFETY: the pointer was made by the shim and is used once, since `pending` is consumed.
        check(unsafe { px_all_reduce_finish(self.0, pending.work) })?;
        Ok(pending.tensor)
    }

    /// The sum of `x` over all processes, with gradients: its backward pass sums the gradients of
    /// all processes and has gradients itself. Panics like tch's own methods.
    pub fn summed(&self, x: &Tensor) -> Tensor {
        // SAFETY: on success the shim gives a new tensor. The group is never freed, so the graph
        // may keep its address.
        unsafe { made(|out| px_summed(self.0, x.as_ptr(), out)) }
    }

    /// The tensors of all processes, which must be of one shape and kind.
    ///
    /// # Shapes
    /// `[…]` -> `[processes, …]`.
    ///
    /// # Errors
    /// When a process is gone or takes too long.
    pub fn all_gather(&self, tensor: &Tensor) -> Result<Tensor, TorchError> {
        let mut all = std::ptr::null_mut();
        // SAFETY: all pointers are valid through the call.
        check(unsafe { px_all_gather(self.0, tensor.as_ptr(), &raw mut all) })?;
        // SAFETY: on success the shim gives a tensor that we own.
        Ok(unsafe { Tensor::from_ptr(all) })
    }

    /// Replaces a contiguous tensor by that of the process `root`.
    ///
    /// # Errors
    /// When a process is gone or takes too long.
    pub fn broadcast(&self, tensor: &Tensor, root: u32) -> Result<(), TorchError> {
        // SAFETY: both pointers are valid through the call, which changes the tensor's values only.
        check(unsafe { px_broadcast(self.0, tensor.as_ptr().cast_mut(), root as c_int) })
    }

    /// Closes the connections, so that others that wait for this process in an exchange fail at
    /// once. An exchange afterwards is an error.
    pub fn close(&self) {
        // SAFETY: the pointer is valid.
        unsafe { px_group_close(self.0) };
    }

    /// The message of the first exchange that failed, also if it was inside a network.
    #[must_use]
    pub fn fault(&self) -> Option<String> {
        // SAFETY: the pointer is valid, and the message is freed by `message_of`.
        message_of(unsafe { px_group_fault(self.0) })
    }
}

/// A sum over all processes that has begun: see [`Group::finish_all_reduce`].
#[derive(Debug)]
#[must_use]
pub struct PendingSum {
    work: *mut c_void,
    tensor: Tensor,
}

/// How gradients travel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BucketSizes {
    /// The bytes of the first bucket, which is small so that the exchange starts early.
    pub first: usize,
    /// The bytes of every other bucket.
    pub other: usize,
}

impl Default for BucketSizes {
    /// Those of PyTorch's `DistributedDataParallel`: 1 and 25 MiB.
    fn default() -> Self {
        Self { first: 1 << 20, other: 25 << 20 }
    }
}

/// The gradients of some parameters, which are exchanged in buckets while a backward pass goes on.
pub struct GradientBuckets(*mut c_void);

// SAFETY: the shim locks a mutex for each call.
unsafe impl Send for GradientBuckets {}

impl fmt::Debug for GradientBuckets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GradientBuckets")
    }
}

impl GradientBuckets {
    /// Watches the gradients of `parameters` for as long as these live. With `bf16` the
    /// gradients are rounded and take half the bytes.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn new(
        group: &Group,
        parameters: &[Tensor],
        sizes: BucketSizes,
        bf16: bool,
    ) -> Result<Self, TorchError> {
        let mut parameters: Vec<_> = parameters.iter().map(|tensor| tensor.as_ptr().cast_mut()).collect();
        let made = |out| {
            let n = parameters.len() as c_int;
            // SAFETY: the array holds n live tensors; the group is never freed.
            unsafe {
                px_gradients(
                    group.0,
                    parameters.as_mut_ptr(),
                    n,
                    sizes.first,
                    sizes.other,
                    c_int::from(bf16),
                    out,
                )
            }
        };
        pointer(made).map(Self)
    }

    /// Prepares for the backward pass that completes the gradients of a step: each bucket is
    /// exchanged as soon as it is complete. An earlier pass, of another part of the batch, only
    /// adds to the gradients.
    ///
    /// # Errors
    /// When libtorch fails.
    pub fn arm(&self) -> Result<(), TorchError> {
        // SAFETY: the pointer is valid.
        check(unsafe { px_gradients_arm(self.0) })
    }

    /// Waits for the exchange. Each parameter's gradient is then the mean over all processes; one
    /// without a gradient counts as zeros.
    ///
    /// # Errors
    /// When a process is gone or takes too long.
    pub fn finish(&self) -> Result<(), TorchError> {
        // SAFETY: the pointer is valid.
        check(unsafe { px_gradients_finish(self.0) })
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use tch::{Device, Kind};

    use super::*;
    use crate::{Shared, catching, recomputed};

    const PATIENCE: Duration = Duration::from_secs(20);

    /// Runs `body` as each of `size` processes, in threads of this one.
    fn together<T: Send>(size: u32, body: impl Fn(u32, &Group) -> T + Sync) -> Vec<T> {
        within(PATIENCE, size, body)
    }

    /// The same, where an exchange may take `timeout`.
    fn within<T: Send>(timeout: Duration, size: u32, body: impl Fn(u32, &Group) -> T + Sync) -> Vec<T> {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let one = |rank: u32| {
            let store = Store::connect("127.0.0.1", port, rank == 0, PATIENCE).unwrap();
            let reach = Reach::Address("127.0.0.1".to_owned());
            let group = Group::gloo(&store, rank, size, timeout, &reach).unwrap();
            let result = body(rank, &group);
            // The server stays until all are done.
            store.set(&format!("done/{rank}"), b"").unwrap();
            (0..size).for_each(|other| drop(store.get(&format!("done/{other}"), PATIENCE).unwrap()));
            result
        };
        thread::scope(|scope| {
            let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || one(rank))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        })
    }

    #[test]
    fn tensors_are_summed_gathered_and_spread() {
        for size in [2, 3] {
            let found = together(size, |rank, group| {
                let own = Tensor::from_slice(&[f64::from(rank), 10.0]);
                let all = group.all_gather(&own).unwrap();
                let sum = own.copy();
                group.all_reduce(&sum).unwrap();
                group.broadcast(&own, 1).unwrap();
                (all, sum, own)
            });
            let ranks: Vec<f64> = (0..size).map(f64::from).collect();
            for (all, sum, own) in found {
                assert_eq!(all.size(), [i64::from(size), 2]);
                assert_eq!(all.select(1, 0), Tensor::from_slice(&ranks));
                assert_eq!(sum, Tensor::from_slice(&[ranks.iter().sum(), 10.0 * f64::from(size)]));
                assert_eq!(own, Tensor::from_slice(&[1.0, 10.0]));
            }
        }
    }

    /// f = Σ_ranks w_r · (Σ_ranks x_r²): its gradient by x_r is Σ w · 2 x_r, and that of
    /// Σ (∂f/∂x_r)² by x_r follows from a second exchange.
    #[test]
    fn a_sum_inside_a_network_has_gradients_twice() {
        let found = together(2, |rank, group| {
            let x = Tensor::from_slice(&[f64::from(rank) + 1.0]).set_requires_grad(true);
            let weight = [3.0, 5.0][rank as usize];
            let f = group.summed(&x.square()) * weight;
            let by_x = Tensor::run_backward(&[f.sum(Kind::Double)], &[&x], true, true).swap_remove(0);
            by_x.square().sum(Kind::Double).backward();
            (by_x.double_value(&[0]), x.grad().double_value(&[0]))
        });
        // Σ w = 8: 16 x, and 2 · 16 x · 16 summed as far as the exchange repeats it.
        assert_eq!(found.iter().map(|(first, _)| *first).collect::<Vec<_>>(), [16.0, 32.0]);
        assert_eq!(found.iter().map(|(_, second)| *second).collect::<Vec<_>>(), [512.0, 1024.0]);
    }

    #[test]
    fn gradients_become_their_mean_bucket_by_bucket() {
        for (sizes, bf16) in [
            (BucketSizes::default(), false),
            (BucketSizes { first: 8, other: 16 }, false),
            (BucketSizes::default(), true),
        ] {
            let found = together(2, |rank, group| {
                let cpu = (Kind::Float, Device::Cpu);
                let weight = Tensor::ones([2, 3], cpu).set_requires_grad(true);
                // Channels lie side by side.
                let image = Tensor::ones([1, 2, 3, 5], cpu).permute([0, 3, 1, 2]).set_requires_grad(true);
                let unused = Tensor::ones([4], cpu).set_requires_grad(true);
                let parameters = [&weight, &image, &unused].map(Tensor::shallow_clone);
                let buckets = GradientBuckets::new(group, &parameters, sizes, bf16).unwrap();
                let factor = f64::from(rank + 1);
                let places = Tensor::arange(30, cpu).view([1, 5, 2, 3]);
                for _ in 0..2 {
                    crate::drop_grads(&parameters).unwrap();
                    (weight.sum(Kind::Float) * factor).backward();
                    buckets.arm().unwrap();
                    ((weight.sum(Kind::Float) + (&image * &places).sum(Kind::Float)) * factor).backward();
                    buckets.finish().unwrap();
                }
                (weight.grad(), image.grad(), unused.grad(), image.stride())
            });
            for (weight, image, unused, stride) in found {
                assert_eq!(weight, Tensor::full([2, 3], 3.0, (Kind::Float, Device::Cpu)));
                let places = Tensor::arange(30, (Kind::Float, Device::Cpu)).view([1, 5, 2, 3]);
                assert_eq!(image, places * 1.5);
                assert_eq!(image.stride(), stride);
                assert_eq!(unused, Tensor::zeros([4], (Kind::Float, Device::Cpu)));
            }
        }
    }

    /// y = x·W·W·W·last, whose first two products are computed again: W's gradient travels once all
    /// three parts of it are there.
    #[test]
    fn gradients_of_blocks_that_are_computed_again_travel_once() {
        let found = together(2, |rank, group| {
            let ones =
                |shape: &[i64]| Tensor::ones(shape, (Kind::Float, Device::Cpu)).set_requires_grad(true);
            let (weight, last) = (ones(&[2, 2]), ones(&[2, 1]));
            let parameters = [&weight, &last].map(Tensor::shallow_clone);
            let buckets =
                GradientBuckets::new(group, &parameters, BucketSizes { first: 1, other: 1 }, false).unwrap();
            let block = Shared::new(weight.shallow_clone());
            let product = |x: &Tensor| recomputed(&block, x, |weight, x| x.matmul(weight));
            let x = Tensor::full([1, 2], f64::from(rank + 1), (Kind::Float, Device::Cpu));
            let y = product(&product(&x)).matmul(&weight).matmul(&last);
            buckets.arm().unwrap();
            y.sum(Kind::Float).backward();
            buckets.finish().unwrap();
            (weight.grad(), last.grad())
        });
        for (weight, last) in found {
            // 12 times x and 8 times x, which is 1 and 2.
            assert_eq!(weight, Tensor::full([2, 2], 18.0, (Kind::Float, Device::Cpu)));
            assert_eq!(last, Tensor::full([2, 1], 12.0, (Kind::Float, Device::Cpu)));
        }
    }

    #[test]
    fn what_goes_wrong_is_an_error_and_remembered() {
        let nobody = Store::connect("127.0.0.1", 1, false, Duration::from_millis(300)).unwrap_err();
        assert!(matches!(nobody, TorchError::Other(_)), "{nobody}");
        let taken = TcpListener::bind("0.0.0.0:0").unwrap();
        let port = taken.local_addr().unwrap().port();
        assert!(Store::connect("127.0.0.1", port, true, Duration::from_millis(300)).is_err());
        let found = within(Duration::from_millis(300), 2, |rank, group| {
            let x = Tensor::ones([4], (Kind::Float, Device::Cpu));
            // Process 1 stays away.
            let failed = rank == 0 && catching(|| group.summed(&x)).is_err();
            (failed, group.fault().is_some())
        });
        assert_eq!(found, [(true, true), (false, false)]);
    }
}
