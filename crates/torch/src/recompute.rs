//! Gradient checkpointing (arXiv 1604.06174): a block of a network keeps only its input for the
//! backward pass, which computes the block again.

use std::ffi::{c_char, c_int, c_void};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::Arc;

use pixtok_base::panics;
use tch::Tensor;
use torch_sys::C_tensor;

use super::shim::{check, made, px_autocast_cache, px_recomputed, px_records};
use super::{TorchError, words_of_libtorch};

/// A block of a network, which a backward pass may use as long as it needs to, if [`recomputed`]
/// has seen it.
#[derive(Debug)]
pub struct Shared<T>(Arc<T>);

// SAFETY: the only other owners are backward passes, in which the block is used by one thread at a
// time, and dropped by the last owner. The thread that runs a backward pass waits for it, so the
// owner does not use the block meanwhile. There is no `Clone`, so that no thread can get a handle
// beside the owner's.
unsafe impl<T: Send> Send for Shared<T> {}

impl<T> Shared<T> {
    /// A block that can be computed again.
    #[must_use]
    pub fn new(block: T) -> Self {
        Self(Arc::new(block))
    }
}

impl<T> Deref for Shared<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.0
    }
}

/// What a backward pass needs to compute a block again.
struct Kept<T, F> {
    block: Arc<T>,
    f: F,
}

/// `f(block, x)`, keeping only `x` for the backward pass. The backward pass computes the rest
/// again, under the same autocast state. It has no second derivatives. Values and gradients
/// are those of `f(block, x)` to the last bit (where `x` is used nowhere else: three gradients may
/// be summed in another order).
///
/// `f` may use parameters, other leaves, and tensors without a gradient; it need not list them. It
/// must do the same operations both times, so random numbers come from [`Noise`](super::Noise).
///
/// It is a plain call of `f` if no gradient is needed, and under a trace.
///
/// # Panics
/// If `f` uses a tensor besides `x` that carries a gradient and is no leaf. In the backward pass,
/// if `f` panics or does other operations; these are libtorch's errors there.
pub fn recomputed<T, F>(block: &Shared<T>, x: &Tensor, f: F) -> Tensor
where
    T: Send + 'static,
    F: Fn(&T, &Tensor) -> Tensor + Send + 'static,
{
    let Some(first) = next_recorded() else { return f(block, x) };
    // The first pass is recorded too, and what was recorded is dropped right away. Without a record
    // the result would differ in the last bits, because our operators choose their kernel by
    // whether there is a gradient. The record also tells which parameters the block uses.
    let inside = x.detach().set_requires_grad(x.requires_grad());
    let y = without_autocast_cache(|| f(block, &inside));
    if !y.requires_grad() {
        return y;
    }
    let kept = Box::into_raw(Box::new(Kept { block: Arc::clone(&block.0), f }));
    // SAFETY: three live tensors. `kept` goes to the shim, which gives it to the two functions of
    // its own type, and to `drop_block` once. On success a new tensor was written.
    unsafe {
        made(|out| {
            px_recomputed(
                x.as_ptr(),
                inside.as_ptr(),
                y.as_ptr(),
                first,
                kept.cast(),
                compute_again::<T, F>,
                drop_block::<T, F>,
                out,
            )
        })
    }
}

/// The number of this thread's next operation that is recorded for a backward pass; `None` if none
/// is recorded, or a trace is.
fn next_recorded() -> Option<u64> {
    let (mut records, mut next): (c_int, u64) = (0, 0);
    // SAFETY: both pointers outlive the call, which reads two states of this thread.
    let read = check(unsafe { px_records(&raw mut records, &raw mut next) });
    debug_assert!(read.is_ok());
    (records != 0).then_some(next)
}

/// Runs `body` while autocast keeps no copies of weights. A copy that was made earlier would take
/// the place of the parameter in the record, and the backward pass would not find it again.
fn without_autocast_cache<T>(body: impl FnOnce() -> T) -> T {
    struct Cache {
        previous: c_int,
    }
    impl Drop for Cache {
        fn drop(&mut self) {
            let mut ignored = 0;
            // SAFETY: the pointer outlives the call. Setting a flag cannot fail.
            let restored = check(unsafe { px_autocast_cache(self.previous, &raw mut ignored) });
            debug_assert!(restored.is_ok());
        }
    }
    let mut cache = Cache { previous: 0 };
    // SAFETY: as in `drop`.
    let set = check(unsafe { px_autocast_cache(0, &raw mut cache.previous) });
    debug_assert!(set.is_ok());
    body()
}

/// Computes a block in a backward pass. A panic becomes a message, because it must not go through
/// C++.
///
/// # Safety
/// `kept` points to a `Kept<T, F>` that no other thread uses; `x` is a tensor, which this function
/// owns; `y` can be written to; `message` has room for `size` bytes, which is not 0.
unsafe extern "C" fn compute_again<T, F: Fn(&T, &Tensor) -> Tensor>(
    kept: *mut c_void,
    x: *mut C_tensor,
    y: *mut *mut C_tensor,
    message: *mut c_char,
    size: usize,
) -> c_int {
    // SAFETY: guaranteed by this function's contract.
    let (kept, x) = unsafe { (&*kept.cast::<Kept<T, F>>(), Tensor::from_ptr(x)) };
    match panics::catch(move || (kept.f)(&kept.block, &x)) {
        Ok(result) => {
            // SAFETY: guaranteed by this function's contract. The caller owns the tensor from here
            // on.
            unsafe { *y = ManuallyDrop::new(result).as_mut_ptr() };
            0
        }
        Err(panic) => {
            let text = words_of_libtorch(&panic.message)
                .unwrap_or_else(|| TorchError::Bug(panic.message, panic.location).to_string());
            let text = &text[..text.floor_char_boundary(size - 1)];
            // SAFETY: guaranteed by this function's contract; the text and the 0 fit.
            unsafe {
                message.cast::<u8>().copy_from_nonoverlapping(text.as_ptr(), text.len());
                message.add(text.len()).write(0);
            }
            1
        }
    }
}

/// Frees what [`compute_again`] uses.
///
/// # Safety
/// `kept` comes from a `Box<Kept<T, F>>`, and is not used afterwards.
unsafe extern "C" fn drop_block<T, F>(kept: *mut c_void) {
    // SAFETY: guaranteed by this function's contract.
    drop(unsafe { Box::from_raw(kept.cast::<Kept<T, F>>()) });
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tch::{CModule, Device, Kind};

    use super::*;
    use crate::{Precision, catching, no_grad, with_precision, without_autocast};

    const CPU: (Kind, Device) = (Kind::Float, Device::Cpu);

    /// x + tanh(x · first + bias) · second.
    #[derive(Debug)]
    struct Layer {
        first: Tensor,
        bias: Tensor,
        second: Tensor,
    }

    impl Layer {
        fn forward(&self, x: &Tensor) -> Tensor {
            x + (x.matmul(&self.first) + &self.bias).tanh().matmul(&self.second)
        }

        fn parameters(&self) -> [&Tensor; 3] {
            [&self.first, &self.bias, &self.second]
        }
    }

    /// Three layers, a last matrix and an input `[5, 7]`.
    struct Net {
        layers: Vec<Shared<Layer>>,
        last: Tensor,
        x: Tensor,
    }

    impl Net {
        fn new() -> Self {
            tch::manual_seed(1);
            let leaf = |shape: &[i64]| (Tensor::randn(shape, CPU) * 0.3).set_requires_grad(true);
            let layer =
                || Shared::new(Layer { first: leaf(&[7, 6]), bias: leaf(&[6]), second: leaf(&[6, 7]) });
            let layers = (0..3).map(|_| layer()).collect();
            Self { layers, last: leaf(&[7, 2]), x: Tensor::randn([5, 7], CPU) }
        }

        /// The sum of the squares of what `block` makes of the layers.
        fn loss(&self, x: &Tensor, block: impl Fn(&Shared<Layer>, &Tensor) -> Tensor) -> Tensor {
            let y = self.layers.iter().fold(x.shallow_clone(), |x, layer| block(layer, &x));
            y.matmul(&self.last).to_kind(Kind::Float).square().sum(Kind::Float)
        }

        fn leaves(&self) -> Vec<Tensor> {
            let layers = self.layers.iter().flat_map(|layer| layer.parameters());
            layers.chain([&self.last]).map(Tensor::shallow_clone).collect()
        }

        /// The value and the gradients of the leaves after `passes` backward passes, and that of an
        /// input that needs one.
        fn gradients(&self, passes: usize, through_x: bool, loss: impl Fn(&Tensor) -> Tensor) -> Vec<Tensor> {
            crate::drop_grads(&self.leaves()).unwrap();
            let x = self.x.detach().copy().set_requires_grad(through_x);
            let losses: Vec<Tensor> = (0..passes).map(|_| loss(&x)).collect();
            losses.iter().for_each(Tensor::backward);
            let mut found = vec![losses[0].detach()];
            found.extend(self.leaves().iter().map(|leaf| leaf.grad().copy()));
            found.extend(through_x.then(|| x.grad()));
            found
        }
    }

    fn plain(layer: &Shared<Layer>, x: &Tensor) -> Tensor {
        layer.forward(x)
    }

    fn again(layer: &Shared<Layer>, x: &Tensor) -> Tensor {
        recomputed(layer, x, Layer::forward)
    }

    #[test]
    fn gradients_are_those_of_the_plain_call() {
        let net = Net::new();
        // The input of the first block needs no gradient in a network, but its parameters do.
        for through_x in [false, true] {
            for passes in [1, 2] {
                let expected = net.gradients(passes, through_x, |x| net.loss(x, plain));
                let found = net.gradients(passes, through_x, |x| net.loss(x, again));
                assert_eq!(found, expected, "{through_x}, {passes} passes");
            }
        }
    }

    #[test]
    fn the_block_is_computed_again_under_the_autocast_of_the_first_time() {
        let net = Net::new();
        let bf16 = |block: fn(&Shared<Layer>, &Tensor) -> Tensor| {
            move |net: &Net, x: &Tensor| with_precision(Precision::Bf16, || net.loss(x, block))
        };
        let (kept, computed) = (bf16(plain), bf16(again));
        let expected = net.gradients(1, true, |x| kept(&net, x));
        assert_eq!(net.gradients(1, true, |x| computed(&net, x)), expected);
        assert_ne!(net.gradients(1, true, |x| net.loss(x, again)), expected, "bf16 rounds");

        // A backward pass within the region, where copies of the weights may be kept. The plain
        // call comes first and keeps some.
        let x = net.x.detach().copy().set_requires_grad(true);
        let [expected, found] = with_precision(Precision::Bf16, || {
            [plain, again].map(|block: fn(&Shared<Layer>, &Tensor) -> Tensor| {
                let loss = net.loss(&x, block);
                let of = [&x, &net.layers[0].first];
                without_autocast(|| Tensor::run_backward(&[loss], &of, false, false))
            })
        });
        assert_eq!(found, expected);
    }

    #[test]
    fn only_the_gradients_that_are_asked_for_are_made() {
        let net = Net::new();
        let x = net.x.detach().copy().set_requires_grad(true);
        let of = [&net.last, &net.layers[1].second, &x];
        let expected = Tensor::run_backward(&[net.loss(&x, plain)], &of, false, false);
        let loss = net.loss(&x, again);
        crate::drop_grads(&net.leaves()).unwrap();
        let none = || net.leaves().iter().all(|leaf| !leaf.grad().defined()) && !x.grad().defined();
        assert_eq!(Tensor::run_backward(&[&loss], &[&net.last], true, false), expected[..1]);
        assert!(none());
        assert_eq!(Tensor::run_backward(&[&loss], &of[1..], true, false), expected[1..]);
        assert!(none());
        loss.backward();
        assert_eq!([net.last.grad(), net.layers[1].second.grad(), x.grad()][..], expected);
    }

    /// Counts how often it computes a layer.
    fn counted(count: Arc<AtomicUsize>) -> impl Fn(&Layer, &Tensor) -> Tensor + Send + 'static {
        move |layer: &Layer, x: &Tensor| {
            count.fetch_add(1, Ordering::Relaxed);
            layer.forward(x)
        }
    }

    #[test]
    fn a_block_within_a_block_is_computed_again_too() {
        let net = Net::new();
        let expected = (plain(&net.layers[1], &net.x) * 2.0).square().sum(Kind::Float);
        expected.backward();
        let gradient = net.layers[1].first.grad().copy();
        crate::drop_grads(&net.leaves()).unwrap();

        let count = Arc::new(AtomicUsize::new(0));
        let outer = Shared::new(Net::new().layers.swap_remove(1));
        let shared = Arc::clone(&count);
        let twice =
            move |inner: &Shared<Layer>, x: &Tensor| recomputed(inner, x, counted(Arc::clone(&shared))) * 2.0;
        let found = recomputed(&outer, &net.x, twice).square().sum(Kind::Float);
        assert_eq!(found, expected);
        found.backward();
        assert_eq!(outer.first.grad(), gradient);
        // First, again for the outer block, and again for the inner one.
        assert_eq!(count.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn without_gradients_it_is_the_plain_call() {
        let net = Net::new();
        let count = Arc::new(AtomicUsize::new(0));
        let once = |x: &Tensor| recomputed(&net.layers[0], x, counted(Arc::clone(&count)));
        assert_eq!(no_grad(|| once(&net.x)), net.layers[0].forward(&net.x));
        assert!(!no_grad(|| once(&net.x)).requires_grad());
        // Frozen, as for an export.
        net.leaves().iter().for_each(|leaf| drop(leaf.set_requires_grad(false)));
        assert!(!once(&net.x).requires_grad());
        // With a gradient for the input only, there is something to compute again.
        let x = net.x.detach().copy().set_requires_grad(true);
        let [expected, found] = [net.layers[0].forward(&x), once(&x)]
            .map(|y| Tensor::run_backward(&[y.sum(Kind::Float)], &[&x], false, false));
        assert_eq!(found, expected);
        assert_eq!(count.load(Ordering::Relaxed), 5);
    }

    #[test]
    fn a_trace_holds_the_operations_of_the_block() {
        let net = Net::new();
        net.leaves().iter().for_each(|leaf| drop(leaf.set_requires_grad(false)));
        let mut run = |x: &[Tensor]| vec![again(&net.layers[0], &x[0])];
        let module = CModule::create_by_tracing("Block", "forward", &[net.x.copy()], &mut run).unwrap();
        let other = Tensor::randn([3, 7], CPU);
        let apart = module.forward_ts(&[&other]).unwrap() - net.layers[0].forward(&other);
        assert!(apart.abs().max().double_value(&[]) < 1e-5);
    }

    #[test]
    fn what_cannot_be_computed_again_is_refused() {
        let net = Net::new();
        let earlier = &net.last * 2.0;
        let with_earlier = move |layer: &Layer, x: &Tensor| layer.forward(x).matmul(&earlier);
        let error = catching(|| recomputed(&net.layers[0], &net.x, with_earlier)).unwrap_err().to_string();
        assert!(error.contains("a result of earlier operations beside its input (Mul"), "{error}");

        let count = AtomicUsize::new(0);
        let other = move |layer: &Layer, x: &Tensor| match count.fetch_add(1, Ordering::Relaxed) {
            0 => layer.forward(x),
            _ => x.matmul(&layer.first),
        };
        let y = recomputed(&net.layers[0], &net.x, other);
        let error = catching(|| y.sum(Kind::Float).backward()).unwrap_err().to_string();
        assert!(error.contains("did other operations than the first time"), "{error}");

        let x = net.x.detach().copy().set_requires_grad(true);
        let y = net.loss(&x, again);
        let error = catching(|| Tensor::run_backward(&[&y], &[&x], true, true)).unwrap_err().to_string();
        assert!(error.contains("has no second derivatives"), "{error}");
        y.backward();
        let error = catching(|| y.backward()).unwrap_err().to_string();
        assert!(error.contains("backward through the graph a second time"), "{error}");
    }

    #[test]
    fn a_failure_in_the_backward_pass_is_an_error() {
        let net = Net::new();
        let fails = |second: fn(&Tensor) -> Tensor| {
            let count = AtomicUsize::new(0);
            let f = move |layer: &Layer, x: &Tensor| match count.fetch_add(1, Ordering::Relaxed) {
                0 => layer.forward(x),
                _ => second(x),
            };
            let y = recomputed(&net.layers[0], &net.x, f);
            catching(|| y.sum(Kind::Float).backward()).unwrap_err()
        };
        let error = fails(|_| panic!("the second time"));
        assert!(matches!(&error, TorchError::Other(_)), "{error:?}");
        let words = error.to_string();
        assert!(
            words.contains("a bug in pixtok: the second time (") && words.contains("recompute.rs:"),
            "{words}"
        );
        let words = fails(|x| x.view([3])).to_string();
        assert!(words.starts_with("libtorch: shape '[3]' is invalid"), "{words}");
        let huge = fails(|_| Tensor::zeros([1 << 50], CPU));
        assert!(
            matches!(&huge, TorchError::OutOfMemory(asked) if asked == "4503599627370496 bytes at once"),
            "{huge}"
        );
        // Afterwards all is as before.
        let expected = net.gradients(1, true, |x| net.loss(x, plain));
        assert_eq!(net.gradients(1, true, |x| net.loss(x, again)), expected);
    }

    #[test]
    fn the_block_is_dropped_when_no_backward_pass_can_need_it() {
        let counter = Arc::new(());
        let of = |net: &Net| {
            let held = Arc::clone(&counter);
            recomputed(&net.layers[0], &net.x, move |layer, x| {
                let _held = &held;
                layer.forward(x)
            })
        };
        let net = Net::new();
        let y = of(&net).sum(Kind::Float);
        assert_eq!(Arc::strong_count(&counter), 2);
        y.backward();
        assert_eq!(Arc::strong_count(&counter), 1, "dropped with what the graph kept");
        let y = of(&net);
        drop(net);
        assert_eq!(Arc::strong_count(&counter), 2);
        drop(y);
        assert_eq!(Arc::strong_count(&counter), 1);
        let net = Net::new();
        drop(no_grad(|| of(&net)));
        assert_eq!(Arc::strong_count(&counter), 1);
    }
}
