//! Brings the processes of a launch together: the store at which they meet, and the groups that
//! exchange tensors.

use std::fs;
use std::net::{IpAddr, TcpListener, TcpStream, ToSocketAddrs, UdpSocket};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};
use tch::Device;

use super::peers::{Peers, STORE_GONE};
use super::{Groups, Meeting, WorldError};
use pixtok_torch::{Group, Reach, Store};

/// The variable that chooses Gloo's network interface, as in PyTorch.
const INTERFACE: &str = "GLOO_SOCKET_IFNAME";
/// How often a waiting process checks whether the other is alive.
const LOOK: Duration = Duration::from_millis(500);
/// The pause between two checks of something that changes soon.
const PAUSE: Duration = Duration::from_millis(20);
/// The first exchange of all processes, in words.
const MEETING: &str = "the meeting of all processes";
/// How long the process that serves the store waits for the others to end, but no longer than the
/// time-out: one that never came says no goodbye.
const GOODBYE: Duration = Duration::from_secs(60);

/// A process that has met the others.
#[derive(Debug)]
pub(super) struct Joined {
    rank: u32,
    size: u32,
    store: Store,
    /// Whether this process runs the store.
    serves: bool,
    pub(super) peers: Peers,
    pub(super) timeout: Duration,
    pub(super) on_these_processors: u32,
    reach: Reach,
    /// The number of exchanges through the store so far.
    exchanges: AtomicU64,
    /// Once the processes are connected.
    pub(super) groups: OnceLock<Groups>,
}

/// What a process tells the others about itself when they meet.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Card {
    /// What it was started to do: `train`, for instance.
    purpose: String,
    host: String,
    /// The processors that it may use, as Linux lists them.
    processors: String,
    /// The address of this process on the way to the meeting place.
    address: IpAddr,
    /// The address of the meeting place, as this process sees it.
    meeting: IpAddr,
}

impl Joined {
    pub fn new(purpose: &str, meeting: &Meeting, timeout: Duration) -> Result<Self, WorldError> {
        let (rank, size, port) = (meeting.rank, meeting.size, meeting.port);
        let serves = rank == 0 && !meeting.served;
        let store = Store::connect(&meeting.host, port, serves, timeout).map_err(|error| {
            let reason = error.to_string();
            if serves {
                // The system says it in fewer words than libtorch.
                return match TcpListener::bind(("0.0.0.0", port)) {
                    Err(refused) => WorldError::Port { port, reason: refused.to_string() },
                    Ok(_) => WorldError::OtherHost { host: meeting.host.clone(), port, reason },
                };
            }
            WorldError::NoStore {
                rank,
                size,
                host: meeting.host.clone(),
                port,
                seconds: timeout.as_secs(),
                reason,
            }
        })?;
        let (store, peers) = own_part(&store, meeting, timeout).map_err(|error| match error {
            // Nobody is known yet but who serves the store.
            WorldError::Torch(reason) => {
                let (what, who) = (MEETING.to_owned(), format!("{STORE_GONE} ({reason})"));
                WorldError::Lost { rank, what, who }
            }
            other => other,
        })?;
        let joined = Self {
            rank,
            size,
            store,
            serves,
            peers,
            timeout,
            on_these_processors: 1,
            reach: Reach::Address(String::new()),
            exchanges: AtomicU64::new(0),
            groups: OnceLock::new(),
        };
        let introduced = joined.introduced(purpose, meeting);
        if let Err(error) = &introduced {
            joined.leave(Some(&error.to_string()));
        }
        let (on_these_processors, reach) = introduced?;
        Ok(Self { on_these_processors, reach, ..joined })
    }

    /// Sends this process's card to all, and receives theirs.
    fn introduced(&self, purpose: &str, meeting: &Meeting) -> Result<(u32, Reach), WorldError> {
        let own = own_card(purpose, &meeting.host, meeting.port);
        let failed = |error: serde_json::Error| WorldError::Torch(error.to_string());
        let text = serde_json::to_string(&own).map_err(failed)?;
        let cards = self.exchange(MEETING, &text, self.limit())?;
        let cards = cards.iter().map(|card| serde_json::from_str(card));
        let cards = cards.collect::<Result<Vec<Card>, _>>().map_err(failed)?;
        let alike = |card: &&Card| (&card.host, &card.processors) == (&own.host, &own.processors);
        if let Some((rank, card)) = cards.iter().enumerate().find(|(_, card)| card.purpose != own.purpose) {
            return Err(WorldError::Differs(format!(
                "process {rank} was started to {}, and process {} to {}; give every process the same command",
                card.purpose, self.rank, own.purpose
            )));
        }
        let reach = match std::env::var(INTERFACE) {
            Ok(names) if !names.is_empty() => Reach::Interfaces(interfaces(&names)?),
            _ => Reach::Address(reachable(&own, &cards)?.to_string()),
        };
        Ok((cards.iter().filter(alike).count().max(1) as u32, reach))
    }

    /// How long a process waits for one that is silent. It must have time left to say why it ends
    /// before the time-out.
    fn limit(&self) -> Duration {
        self.timeout.saturating_sub(self.peers.time_to_explain()).max(self.timeout / 2)
    }

    /// Makes the groups: one for the CPU, and one for CUDA if `device` is such a device.
    pub fn connect(&self, device: Device) -> Result<(), WorldError> {
        let timeout = self.limit();
        let what = "the connection of all processes";
        self.peers.enter(what);
        let failed = |error: pixtok_torch::TorchError| self.peers.explain(what, &error.to_string());
        let host = self.store.part("host/")?;
        let host = Group::gloo(&host, self.rank, self.size, timeout, &self.reach).map_err(failed)?;
        let cuda = match device {
            Device::Cuda(number) => {
                let store = self.store.part("cuda/")?;
                Some(Group::nccl(&store, self.rank, self.size, timeout, number).map_err(failed)?)
            }
            _ => None,
        };
        // It is done once.
        let _ = self.groups.set(Groups { host, cuda, waited: AtomicU64::new(0) });
        Ok(())
    }

    /// The texts of all processes. Process 0 collects them, so the store has few requests to answer.
    pub fn exchange(&self, what: &str, own: &str, patience: Duration) -> Result<Vec<String>, WorldError> {
        let number = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let (each, all) = (|rank: u32| format!("own/{number}/{rank}"), format!("all/{number}"));
        self.peers.enter(what);
        let set = |key: &str, value: &[u8]| {
            self.store.set(key, value).map_err(|error| self.peers.explain(what, &error.to_string()))
        };
        let failed = |error: serde_json::Error| WorldError::Torch(error.to_string());
        let deadline = Instant::now() + patience;
        if self.rank > 0 {
            set(&each(self.rank), own.as_bytes())?;
            return serde_json::from_slice(&self.wait_for(what, 0, &all, deadline)?).map_err(failed);
        }
        let mut texts = vec![own.to_owned()];
        for rank in 1..self.size {
            let bytes = self.wait_for(what, rank, &each(rank), deadline)?;
            texts.push(String::from_utf8_lossy(&bytes).into_owned());
        }
        set(&all, &serde_json::to_vec(&texts).map_err(failed)?)?;
        Ok(texts)
    }

    /// Waits until process 0 comes here too.
    pub fn wait_for_the_first(&self, patience: Duration) -> Result<(), WorldError> {
        let number = self.exchanges.fetch_add(1, Ordering::Relaxed);
        let (what, key) = ("the wait for process 0", format!("first/{number}"));
        self.peers.enter(what);
        if self.rank == 0 {
            return self.store.set(&key, b"").map_err(|error| self.peers.explain(what, &error.to_string()));
        }
        self.wait_for(what, 0, &key, Instant::now() + patience).map(|_| ())
    }

    /// The value of a key that process `rank` sets.
    fn wait_for(&self, what: &str, rank: u32, key: &str, deadline: Instant) -> Result<Vec<u8>, WorldError> {
        let mut watch = self.peers.watch(rank, self.limit());
        loop {
            if let Ok(value) = self.store.get(key, LOOK) {
                return Ok(value);
            }
            let there = self.store.has(key);
            let lost = watch.lost();
            if there.is_err() || lost.is_some() || Instant::now() > deadline {
                let reason =
                    there.err().map_or_else(|| "it took too long".to_owned(), |error| error.to_string());
                return Err(lost.unwrap_or_else(|| self.peers.explain(what, &reason)));
            }
        }
    }

    /// Ends this process's part. The one that serves the store waits until all others have ended
    /// theirs, or are silent.
    pub fn leave(&self, error: Option<&str>) {
        let key = |rank: u32| format!("goodbye/{rank}");
        // A store that is gone needs no goodbye.
        let said = self.peers.leave(error) && self.store.set(&key(self.rank), b"").is_ok();
        // Others may be waiting in an exchange, and must look for the reason while the store is there.
        if let Some(groups) = self.groups.get().filter(|_| error.is_some() && !self.peers.has_blamed()) {
            groups.host.close();
        }
        if !self.serves || !said {
            return;
        }
        let deadline = Instant::now() + GOODBYE.min(self.timeout);
        for rank in 1..self.size {
            let mut watch = self.peers.watch(rank, self.peers.time_to_explain() / 3);
            while self.store.get(&key(rank), LOOK).is_err() && Instant::now() < deadline {
                if watch.lost().is_some() || !self.peers.came(rank) {
                    break;
                }
            }
        }
    }
}

/// The part of the store in which the processes of this start meet, and their signs of life.
fn own_part(store: &Store, meeting: &Meeting, timeout: Duration) -> Result<(Store, Peers), WorldError> {
    let (rank, size) = (meeting.rank, meeting.size);
    let store = store.part(&format!("pixtok/{}/", meeting.name))?;
    // A store that a launcher serves outlives a start, and still has its keys.
    let store = if meeting.served {
        this_start(&store, (rank, size), timeout)?
    } else {
        if store.count(&format!("claim/{rank}"))? > 1 {
            return Err(WorldError::Claimed { rank, host: meeting.host.clone(), port: meeting.port });
        }
        store
    };
    let peers = Peers::new(rank, size, &store, timeout)?;
    Ok((store, peers))
}

/// The part of a store that belongs to this start alone. Each process shows a new token; the first
/// lists all tokens until every process has confirmed the same list. A token that an earlier start
/// left behind is never confirmed. The keys begin with a hash of the list, which itself would be
/// kilobytes long for hundreds of processes.
fn this_start(store: &Store, (rank, size): (u32, u32), timeout: Duration) -> Result<Store, WorldError> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |time| time.as_nanos());
    let token = format!("{:x}-{now:x}", std::process::id());
    let value = |key: &str| -> Result<Option<String>, WorldError> {
        if !store.has(key)? {
            return Ok(None);
        }
        Ok(Some(String::from_utf8_lossy(&store.get(key, LOOK)?).into_owned()))
    };
    store.set(&format!("token/{rank}"), token.as_bytes())?;
    let deadline = Instant::now() + timeout;
    loop {
        let confirmed = if rank == 0 {
            let tokens = (0..size).map(|other| value(&format!("token/{other}")));
            let tokens: Option<Vec<String>> = tokens.collect::<Result<_, _>>()?;
            match tokens.map(|tokens| tokens.join(" ")) {
                Some(list) => {
                    store.set("list", list.as_bytes())?;
                    let seen =
                        (1..size).map(|other| Ok(value(&format!("seen/{other}"))? == Some(list.clone())));
                    let all = seen.collect::<Result<Vec<bool>, WorldError>>()?.into_iter().all(|seen| seen);
                    if all {
                        store.set("confirmed", list.as_bytes())?;
                    }
                    all.then_some(list)
                }
                None => None,
            }
        } else {
            let list = value("list")?.filter(|list| list.split(' ').nth(rank as usize) == Some(&token));
            if let Some(list) = &list {
                store.set(&format!("seen/{rank}"), list.as_bytes())?;
            }
            list.filter(|list| value("confirmed").is_ok_and(|confirmed| confirmed.as_ref() == Some(list)))
        };
        if let Some(list) = confirmed {
            return Ok(store.part(&format!("{}/", blake3::hash(list.as_bytes()).to_hex()))?);
        }
        if Instant::now() > deadline {
            let missing = (0..size).find(|other| !store.has(&format!("token/{other}")).unwrap_or(true));
            let who = missing.map_or_else(
                || "not all processes of this start came in time".to_owned(),
                |missing| format!("process {missing} never came"),
            );
            return Err(WorldError::Lost { rank, what: MEETING.to_owned(), who });
        }
        thread::sleep(PAUSE);
    }
}

fn own_card(purpose: &str, host: &str, port: u16) -> Card {
    let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let loopback = IpAddr::from([127, 0, 0, 1]);
    let found = route(host, port).unwrap_or((loopback, loopback));
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let processors = status.lines().find(|line| line.starts_with("Cpus_allowed_list")).unwrap_or_default();
    Card {
        purpose: purpose.to_owned(),
        host: name,
        processors: processors.to_owned(),
        address: found.0,
        meeting: found.1,
    }
}

/// The address of this host on the way to `host`, and that of `host`.
fn route(host: &str, port: u16) -> Option<(IpAddr, IpAddr)> {
    // The store listens there, so a connection finds the address family too.
    if let Ok(stream) = TcpStream::connect((host, port)) {
        return Some((stream.local_addr().ok()?.ip(), stream.peer_addr().ok()?.ip()));
    }
    let there = (host, port).to_socket_addrs().ok()?.next()?;
    let any = if there.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect(there).ok()?;
    Some((socket.local_addr().ok()?.ip(), there.ip()))
}

/// The network interfaces that the user names, with commas between them.
fn interfaces(names: &str) -> Result<Vec<String>, WorldError> {
    let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
    // Only Linux has this folder.
    let known = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    let mut known: Vec<String> =
        known.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    known.sort_unstable();
    match names.iter().find(|name| !known.is_empty() && !known.contains(name)) {
        Some(unknown) => Err(WorldError::Interface { name: unknown.clone(), known: known.join(", ") }),
        None => Ok(names),
    }
}

/// The address at which processes on other hosts reach this one. On the host of the meeting place
/// its name often means 127.0.1.1; the others know its real address.
fn reachable(own: &Card, cards: &[Card]) -> Result<IpAddr, WorldError> {
    let others = || cards.iter().filter(|card| card.host != own.host);
    if !own.address.is_loopback() || others().next().is_none() {
        return Ok(own.address);
    }
    others().map(|card| card.meeting).find(|meeting| !meeting.is_loopback()).ok_or_else(|| {
        WorldError::Differs(format!(
            "MASTER_ADDR resolves to a loopback address ({}), but the processes run on several hosts ({} and {}, for instance); \
             set it to an address of process 0's host that the others can reach",
            own.meeting,
            own.host,
            others().next().map_or("", |card| &card.host)
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn card(host: &str, address: [u8; 4], meeting: [u8; 4]) -> Card {
        let (purpose, host, processors) = ("train".to_owned(), host.to_owned(), String::new());
        Card { purpose, host, processors, address: address.into(), meeting: meeting.into() }
    }

    #[test]
    fn a_host_is_reached_at_an_address_that_others_know() {
        let (here, there) =
            (card("a", [127, 0, 0, 1], [127, 0, 1, 1]), card("b", [10, 0, 0, 2], [10, 0, 0, 1]));
        let address = |own: &Card, all: &[Card]| reachable(own, all).map(|address| address.to_string());
        let both = [here.clone(), there.clone()];
        assert_eq!(address(&here, &both), Ok("10.0.0.1".to_owned()));
        assert_eq!(address(&there, &both), Ok("10.0.0.2".to_owned()));
        assert_eq!(address(&here, &[here.clone(), here.clone()]), Ok("127.0.0.1".to_owned()));
        let lost = card("b", [127, 0, 0, 1], [127, 0, 0, 1]);
        let error = address(&here, &[here.clone(), lost]).unwrap_err().to_string();
        assert!(error.contains("(a and b, for instance); set it to an address"), "{error}");
    }

    #[test]
    fn the_way_to_this_host_is_its_loopback() {
        let loopback = IpAddr::from([127, 0, 0, 1]);
        assert_eq!(route("127.0.0.1", 1), Some((loopback, loopback)));
        assert_eq!(route("no.such.host.invalid", 1), None);
    }
}
