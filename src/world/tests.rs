//! Several processes, each in a thread of its own.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use tch::{Device, Kind, Tensor};

use super::*;
use pixtok_base::{Class, Classified};
use pixtok_torch::catching;

const PATIENCE: Duration = Duration::from_secs(30);

/// Runs `body` as each of `size` processes.
fn together<T: Send>(size: u32, timeout: Duration, body: impl Fn(&World) -> T + Sync) -> Vec<T> {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let one = |rank: u32| {
        let meeting = Meeting {
            launcher: "a test",
            rank,
            size,
            local_rank: rank,
            host: "127.0.0.1".to_owned(),
            port,
            served: false,
            restarts: 0,
            name: "test".to_owned(),
        };
        let world = World::join("test", &meeting, timeout).unwrap();
        world.connect(Device::Cpu).unwrap();
        let result = body(&world);
        world.leave(None);
        result
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..size).map(|rank| scope.spawn(move || one(rank))).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    })
}

#[test]
fn a_single_process_keeps_its_sums() {
    let world = World::single();
    let tensor = Tensor::from_slice(&[1.5f32, -2.0, 7.0]);
    assert_eq!((world.rank(), world.size(), world.writes()), (0, 1, true));
    assert_eq!(world.sum(&tensor).unwrap(), tensor);
    assert_eq!(world.mean(&tensor).unwrap(), tensor);
    assert_eq!(world.sum_of(-7), Ok(-7));
    assert_eq!(world.sum_each([0.1, f64::MIN_POSITIVE, -3.0]), Ok([0.1, f64::MIN_POSITIVE, -3.0]));
    assert_eq!(world.gather(&tensor).unwrap(), tensor);
    assert_eq!([world.any(true), world.any(false)], [Ok(true), Ok(false)]);
    assert_eq!(world.exchange("a test", "own").unwrap(), ["own"]);
    assert!(world.gradients(&[tensor], false).unwrap().is_none() && world.fault().is_none());
}

#[test]
fn slices_of_all_processes_make_the_whole_batch() {
    let alone = World::single();
    let at = |rank| World { rank, size: 3, ..alone.clone() };
    let places: Vec<u64> = (0..3).flat_map(|rank| (0..4).map(move |own| at(rank).place(own, 4))).collect();
    assert_eq!(places, (0..12).collect::<Vec<u64>>());
    assert_eq!(alone.place(5, 8), 5);
}

#[test]
fn processes_exchange_numbers_rows_and_bytes() {
    let found = together(3, PATIENCE, |world| {
        let rank = i64::from(world.rank());
        let rows = Tensor::full([rank, 2], rank, (Kind::Int64, Device::Cpu));
        let floats = Tensor::full([5], rank as f64, (Kind::Double, Device::Cpu));
        let shared =
            [2.0, 7.0].map(|value| Tensor::full([3], value * rank as f64, (Kind::Float, Device::Cpu)));
        let owners: Vec<(Tensor, u32)> =
            (1..).zip(&shared).map(|(owner, own)| (own.shallow_clone(), owner)).collect();
        world.broadcast_each(&owners).unwrap();
        (
            world.sum_of(rank).unwrap(),
            [world.any(rank == 2).unwrap(), world.any(false).unwrap()],
            world.gather(&rows).unwrap(),
            world.mean(&floats).unwrap().double_value(&[4]),
            shared.map(|own| own.double_value(&[2])),
            world.gather_bytes(&vec![b'x'; rank as usize]).unwrap(),
            world.exchange("names", &format!("p{rank}")).unwrap(),
            world.on_these_processors(),
        )
    });
    for (sum, flags, rows, mean, shared, bytes, names, here) in found {
        assert_eq!((sum, flags, mean, shared), (3, [true, false], 1.0, [2.0, 14.0]));
        assert_eq!(rows, Tensor::from_slice(&[1i64, 1, 2, 2, 2, 2]).view([3, 2]));
        assert_eq!(bytes, [b"".to_vec(), b"x".to_vec(), b"xx".to_vec()]);
        assert_eq!(names, ["p0", "p1", "p2"]);
        assert_eq!(here, 3);
    }
}

#[test]
fn a_process_that_ends_or_stays_away_is_named() {
    let timeout = Duration::from_secs(4);
    let found = together(2, timeout, |world| {
        if world.rank() == 1 {
            world.leave(Some("the disk is full"));
            return None;
        }
        Some(world.exchange("the wait", "").unwrap_err().to_string())
    });
    let words = found[0].as_deref().unwrap();
    assert_eq!(words, "process 0 stopped in the wait: process 1 ended with: the disk is full");

    let found = together(2, timeout, |world| {
        world.at(|| format!("step {}", 7 - world.rank()));
        if world.rank() == 1 {
            // Alive, but busy with other things.
            thread::sleep(timeout + timeout / 2);
            return None;
        }
        let inside = catching(|| world.all_reduce(&Tensor::from(1f32))).is_err();
        inside.then(|| world.fault().unwrap().to_string())
    });
    let words = found[0].as_deref().unwrap();
    assert!(words.contains("of step 7") && words.contains("process 1 has not come in time"), "{words}");
}

#[test]
fn nobody_at_the_meeting_place_is_an_error_with_its_name() {
    let meeting = Meeting {
        launcher: "a test",
        rank: 1,
        size: 2,
        local_rank: 1,
        host: "127.0.0.1".to_owned(),
        port: 1,
        served: false,
        restarts: 0,
        name: "test".to_owned(),
    };
    let error = World::join("test", &meeting, Duration::from_secs(1)).unwrap_err();
    assert!(error.to_string().contains("process 1 of 2 found no store at 127.0.0.1:1 within 1 s"), "{error}");
    let taken = TcpListener::bind("[::]:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error =
        World::join("test", &Meeting { rank: 0, port, ..meeting }, Duration::from_secs(1)).unwrap_err();
    assert_eq!(error.class(), Class::Misuse);
    assert!(error.to_string().contains(&format!("port {port}")), "{error}");
}
