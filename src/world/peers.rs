//! Which processes are alive, and which one is to blame if an exchange fails.
//!
//! Each process writes a sign of life into the store every second, with the exchange that it has
//! come to. After a failure the others' signs are read twice: a process whose sign has not changed
//! is gone, and one that has not come to the exchange holds the others up.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use super::WorldError;
use pixtok_torch::{Store, TorchError};

/// The time between two signs of life.
const BEAT: Duration = Duration::from_secs(1);
/// A reachable store answers much faster.
const REQUEST: Duration = Duration::from_secs(1);
/// Who is to blame if the store does not answer.
pub(super) const STORE_GONE: &str =
    "process 0 or its host, which serves the store, is gone or does not answer";
/// The largest number of processes that a message names.
const NAMED: usize = 8;

/// What a process is doing.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Sign {
    /// The number of this sign.
    beat: u64,
    /// The number of exchanges that it has come to.
    exchanges: u64,
    /// The last of them.
    what: String,
    /// Where in its work it is: `step 12`, for instance.
    stage: String,
    /// How it has ended, if it has.
    ended: Option<Ending>,
}

/// How a process has ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Ending {
    /// The error because of which it did.
    error: Option<String>,
    /// Whether others were to blame, which report the cause better themselves.
    of_others: bool,
}

/// The signs of life of all processes.
#[derive(Debug)]
pub(super) struct Peers {
    rank: u32,
    size: u32,
    own: Arc<Signs>,
    /// Whether this process has found others to blame.
    blamed: AtomicBool,
    beat: Duration,
}

fn key(rank: u32) -> String {
    format!("alive/{rank}")
}

/// This process's signs, and the store into which they are written.
#[derive(Debug)]
struct Signs {
    rank: u32,
    last: Mutex<Sign>,
    /// Held by whoever writes a sign, so that an earlier one never replaces a later one.
    store: Mutex<Store>,
}

impl Signs {
    fn last(&self) -> MutexGuard<'_, Sign> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn store(&self) -> MutexGuard<'_, Store> {
        self.store.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes the next sign of life. Returns whether the store took it.
    fn show(&self) -> bool {
        let store = self.store();
        let text = {
            let mut sign = self.last();
            sign.beat += 1;
            serde_json::to_vec(&*sign).unwrap_or_default()
        };
        // Only a question is answered.
        store.set(&key(self.rank), &text).is_ok() && store.has(&key(self.rank)).is_ok()
    }
}

impl Peers {
    /// Begins to show that process `rank` is alive.
    pub fn new(rank: u32, size: u32, store: &Store, timeout: Duration) -> Result<Self, WorldError> {
        // Requests of the thread must not wait for those of the training.
        let store = Mutex::new(store.again()?);
        let own = Arc::new(Signs { rank, last: Mutex::new(Sign::default()), store });
        let beat = BEAT.min(timeout / 8);
        own.show();
        let signs = Arc::clone(&own);
        // The thread ends with the process, or with a store that has been gone for long.
        let thread = move || {
            let mut shown = Instant::now();
            while signs.last().ended.is_none() && shown.elapsed() < timeout {
                if signs.show() {
                    shown = Instant::now();
                }
                thread::sleep(beat);
            }
        };
        thread::Builder::new()
            .name("pixtok-alive".to_owned())
            .spawn(thread)
            .map_err(|error| WorldError::Torch(format!("cannot start a thread: {error}")))?;
        Ok(Self { rank, size, own, beat, blamed: AtomicBool::new(false) })
    }

    /// Notes where in its work this process is.
    pub fn at(&self, stage: String) {
        self.own.last().stage = stage;
    }

    /// Notes that this process has come to an exchange.
    pub fn enter(&self, what: &str) {
        let mut own = self.own.last();
        own.exchanges += 1;
        what.clone_into(&mut own.what);
    }

    /// Notes that this process ends. Returns whether the store took it.
    pub fn leave(&self, error: Option<&str>) -> bool {
        let ending = Ending { error: error.map(str::to_owned), of_others: self.has_blamed() };
        self.own.last().ended.get_or_insert(ending);
        self.own.show()
    }

    /// How long [`Peers::explain`] and a goodbye take together.
    pub fn time_to_explain(&self) -> Duration {
        8 * self.beat
    }

    /// The last sign of a process; `None` if it has shown none.
    fn sign(&self, rank: u32) -> Result<Option<Sign>, TorchError> {
        let store = self.own.store();
        // A key that isn't set would be waited for.
        if !store.has(&key(rank))? {
            return Ok(None);
        }
        Ok(serde_json::from_slice(&store.get(&key(rank), REQUEST)?).ok())
    }

    /// Whether process `rank` has shown a sign of life, as far as the store says.
    pub fn came(&self, rank: u32) -> bool {
        self.sign(rank).is_ok_and(|sign| sign.is_some())
    }

    /// The last signs of all other processes.
    fn signs(&self) -> Result<Vec<(u32, Option<Sign>)>, TorchError> {
        let others = (0..self.size).filter(|&rank| rank != self.rank);
        others.map(|rank| Ok((rank, self.sign(rank)?))).collect()
    }

    /// The signs of the others at two times. Those that wait for this process must see that it
    /// came, so it shows its own first.
    fn compared(&self) -> Option<Vec<(u32, [Option<Sign>; 2])>> {
        if !self.own.show() {
            return None;
        }
        let before = self.signs().ok()?;
        thread::sleep(2 * self.beat);
        let after = self.signs().ok()?;
        Some(before.into_iter().zip(after).map(|((rank, a), (_, b))| (rank, [a, b])).collect())
    }

    /// Begins to watch whether process `rank` is alive, which it is unless it is silent for `limit`.
    pub fn watch(&self, rank: u32, limit: Duration) -> Watch<'_> {
        Watch { peers: self, rank, limit, last: None, since: Instant::now() }
    }

    /// Finds out which processes are to blame for the failure of the exchange `what`, for which
    /// libtorch gives a `reason`.
    pub fn explain(&self, what: &str, reason: &str) -> WorldError {
        let Some(compared) = self.compared() else {
            return self.error(what, STORE_GONE.to_owned());
        };
        let own = self.own.last().exchanges;
        // Who ended because of others is named only if nobody else is found.
        let follows = |sign: &Option<Sign>| {
            sign.as_ref().and_then(|sign| sign.ended.as_ref()).is_some_and(|ending| ending.of_others)
        };
        let (followers, others): (Vec<_>, Vec<_>) =
            compared.into_iter().partition(|(_, [_, after])| follows(after));
        let blame_each = |signs: Vec<(u32, [Option<Sign>; 2])>| -> Vec<(u32, String)> {
            signs.into_iter().filter_map(|(rank, [a, b])| Some((rank, blame(a, b, own)?))).collect()
        };
        let mut blamed = blame_each(others);
        if blamed.is_empty() {
            blamed = blame_each(followers);
        }
        if blamed.is_empty() {
            // Gloo ends some of its messages with a farewell.
            let reason = reason.split(" GLHF").next().unwrap_or(reason);
            return self.error(what, reason.to_owned());
        }
        self.error_of(&blamed)
    }

    /// Whether this process has found others to blame for a failure.
    pub fn has_blamed(&self) -> bool {
        self.blamed.load(Ordering::Relaxed)
    }

    /// The error that names processes and what is wrong with each.
    fn error_of(&self, blamed: &[(u32, String)]) -> WorldError {
        let what = self.own.last().what.clone();
        let mut who = String::new();
        for (i, (rank, words)) in blamed.iter().take(NAMED).enumerate() {
            let _ = write!(who, "{}process {rank} {words}", if i > 0 { "; " } else { "" });
        }
        if blamed.len() > NAMED {
            let _ = write!(who, "; and {} more", blamed.len() - NAMED);
        }
        self.error(&what, who)
    }

    fn error(&self, what: &str, who: String) -> WorldError {
        self.blamed.store(true, Ordering::Relaxed);
        let stage = self.own.last().stage.clone();
        let what = if stage.is_empty() { what.to_owned() } else { format!("{what} of {stage}") };
        WorldError::Lost { rank: self.rank, what, who }
    }
}

/// A process that another one waits for.
pub(super) struct Watch<'a> {
    peers: &'a Peers,
    rank: u32,
    limit: Duration,
    last: Option<Sign>,
    /// When its last sign was first seen.
    since: Instant,
}

impl Watch<'_> {
    /// An error if the process has ended because of one, or at all, or has been silent for too long.
    /// To be asked several times in a while.
    pub fn lost(&mut self) -> Option<WorldError> {
        // If the store is gone, the wait itself fails.
        let sign = self.peers.sign(self.rank).ok().flatten();
        if let Some(Sign { ended: Some(ending), .. }) = &sign {
            return Some(self.peers.error_of(&[(self.rank, ending.words())]));
        }
        // One that has shown nothing yet may still come.
        if sign.is_none() || sign != self.last {
            (self.last, self.since) = (sign, Instant::now());
            return None;
        }
        let silent = self.since.elapsed() > self.limit;
        silent.then(|| self.peers.error_of(&[(self.rank, SILENT.to_owned())]))
    }
}

const SILENT: &str = "shows no sign of life: it was killed, or its host is gone or overloaded";

impl Ending {
    fn words(&self) -> String {
        self.error.as_ref().map_or_else(|| "has ended".to_owned(), |error| format!("ended with: {error}"))
    }
}

/// What is wrong with a process, from two of its signs and the number of exchanges that this
/// process has come to; `None` if nothing is.
fn blame(before: Option<Sign>, after: Option<Sign>, own: u64) -> Option<String> {
    let Some(after) = after else { return Some("never came".to_owned()) };
    if let Some(ending) = &after.ended {
        return Some(ending.words());
    }
    if before.is_some_and(|before| before.beat == after.beat) {
        return Some(SILENT.to_owned());
    }
    if after.exchanges >= own {
        return None;
    }
    let place = match (after.what.as_str(), after.stage.as_str()) {
        ("", _) => String::new(),
        (what, "") => format!("; it was last in {what}"),
        (what, stage) => format!("; it was last in {what} of {stage}"),
    };
    Some(format!("has not come in time{place}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_process_that_holds_others_up_is_named() {
        let sign = |beat, exchanges| Sign {
            beat,
            exchanges,
            what: "an all-reduce".to_owned(),
            stage: "step 3".to_owned(),
            ended: None,
        };
        let words = |before: Sign, after: Sign| blame(Some(before), Some(after), 7);
        assert_eq!(words(sign(4, 7), sign(6, 7)), None);
        assert_eq!(words(sign(4, 6), sign(4, 6)).unwrap(), SILENT);
        assert_eq!(
            words(sign(4, 6), sign(6, 6)).unwrap(),
            "has not come in time; it was last in an all-reduce of step 3"
        );
        let ended = Sign {
            ended: Some(Ending { error: Some("the disk is full".to_owned()), of_others: false }),
            ..sign(5, 6)
        };
        assert_eq!(words(sign(4, 6), ended).unwrap(), "ended with: the disk is full");
        assert_eq!(blame(None, None, 1).unwrap(), "never came");
        // The first sign came between the two looks.
        assert_eq!(
            blame(None, Some(sign(1, 0)), 1).unwrap().split(';').next().unwrap(),
            "has not come in time"
        );
    }
}
