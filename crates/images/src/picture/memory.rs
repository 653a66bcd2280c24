//! A single memory budget for all threads that decode.

use std::fmt;
use std::ops::Deref;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use super::{Picture, PictureError};

static QUEUE: Mutex<Queue> = Mutex::new(Queue { used: 0, tickets: 0, next: 0 });
static CHANGED: Condvar = Condvar::new();

/// The waiting threads. They are served in order of arrival, so that small pictures cannot keep a
/// large one waiting for ever.
struct Queue {
    /// Bytes in use.
    used: u64,
    /// The number of threads that have arrived so far.
    tickets: u64,
    /// The ticket that is served next.
    next: u64,
}

impl Queue {
    /// Wakes the waiting threads. If none waits, this saves the system call.
    fn tell(&self) {
        if self.tickets != self.next {
            CHANGED.notify_all();
        }
    }
}

fn queue() -> MutexGuard<'static, Queue> {
    // The counts are consistent at every moment, even after a panic.
    QUEUE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A part of the budget in bytes, returned on drop.
pub(super) struct Permit {
    bytes: u64,
}

impl Permit {
    /// Waits until `bytes` more fit within `limit`. The caller must not hold a permit.
    ///
    /// # Errors
    /// Immediately, if they would not fit even with nothing else in use.
    pub(super) fn wait(bytes: u64, limit: u64) -> Result<Self, PictureError> {
        if bytes > limit {
            return Err(PictureError::Memory { bytes, limit });
        }
        let mut queue = queue();
        let ticket = queue.tickets;
        queue.tickets += 1;
        while queue.next != ticket || queue.used.saturating_add(bytes) > limit {
            queue = CHANGED.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        queue.used += bytes;
        queue.next += 1;
        queue.tell();
        Ok(Self { bytes })
    }

    /// Returns all but `bytes`.
    fn shrink_to(&mut self, bytes: u64) {
        let mut queue = queue();
        queue.used -= self.bytes.saturating_sub(bytes);
        self.bytes = self.bytes.min(bytes);
        queue.tell();
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.shrink_to(0);
    }
}

/// A picture that counts towards the memory budget until it is dropped. A thread must call
/// [`Decoded::release`] before it decodes another picture, or it may wait for itself.
pub struct Decoded {
    picture: Picture,
    traits: Traits,
    _permit: Permit,
}

/// Properties of a picture's file, apart from its pixels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Traits {
    /// Whether a pixel shows the background.
    pub transparent: bool,
    /// Whether the file's format loses detail: JPEG, lossy WebP, or a palette (GIF, PNG).
    pub lossy: bool,
}

impl Decoded {
    pub(super) fn new(picture: Picture, traits: Traits, mut permit: Permit) -> Self {
        permit.shrink_to(picture.rgb.len() as u64);
        Self { picture, traits, _permit: permit }
    }

    /// Properties of the file, apart from the pixels.
    #[must_use]
    pub fn traits(&self) -> Traits {
        self.traits
    }

    /// The picture, which no longer counts towards the budget.
    #[must_use]
    pub fn release(self) -> Picture {
        self.picture
    }
}

impl Deref for Decoded {
    type Target = Picture;

    fn deref(&self) -> &Picture {
        &self.picture
    }
}

impl fmt::Debug for Decoded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.picture.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_exceeds_all_is_refused_at_once() {
        let message = Permit::wait(3 << 30, 2 << 30).err().unwrap().to_string();
        assert!(message.contains("3.00 GiB") && message.contains("data.decode_gib = 2"), "{message}");
    }

    /// Many more threads than fit never exceed the limit together, and all of them finish, with
    /// large and small pictures.
    #[test]
    fn the_limit_holds_for_all_threads_together() {
        const LIMIT: u64 = 1000;
        let (held, most) = (AtomicU64::new(0), AtomicU64::new(0));
        thread::scope(|scope| {
            for thread in 0..24u64 {
                let (held, most) = (&held, &most);
                scope.spawn(move || {
                    for turn in 0..20 {
                        let bytes = if thread == 0 { LIMIT } else { 1 + (thread * 97 + turn * 31) % 400 };
                        let mut permit = Permit::wait(bytes, LIMIT).unwrap();
                        most.fetch_max(held.fetch_add(bytes, Ordering::SeqCst) + bytes, Ordering::SeqCst);
                        thread::sleep(Duration::from_micros(50));
                        held.fetch_sub(bytes, Ordering::SeqCst);
                        permit.shrink_to(bytes / 2);
                    }
                });
            }
        });
        let most = most.load(Ordering::SeqCst);
        assert!(most <= LIMIT && most > LIMIT / 2, "{most}");
    }
}
