use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::time::Duration;

use super::*;

/// Long enough on any machine.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn items_come_in_the_order_of_their_jobs() {
    for (workers, ahead) in [(1, 1), (3, 1), (4, 7), (2, 1000)] {
        let make = |job: u64| {
            thread::sleep(Duration::from_micros(job * 37 % 500));
            3 * job
        };
        let items = Pipeline::map(0..200_u64, workers, ahead, make).unwrap();
        assert!(items.map(Result::unwrap).eq((0..200).map(|job| 3 * job)), "{workers} {ahead}");
    }
    assert!(Pipeline::map(0..0, 2, 2, |job: u64| job).unwrap().next().is_none());
    assert!(threads(0) > 0 && threads(5) == 5);
}

#[test]
fn nothing_is_made_further_ahead_than_allowed() {
    let (begun, taken) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begun_by, taken_before) = (Arc::clone(&begun), Arc::clone(&taken));
    let make = move |job: usize| {
        let begun = begun_by.fetch_add(1, Ordering::SeqCst) + 1;
        // The consumer counts an item before it takes it.
        assert!(begun <= taken_before.load(Ordering::SeqCst) + 5, "{begun}");
        job
    };
    let mut items = Pipeline::map(0..60, 3, 5, make).unwrap();
    for job in 0..60 {
        taken.fetch_add(1, Ordering::SeqCst);
        assert_eq!(items.next(), Some(Ok(job)));
    }
    assert_eq!(items.next(), None);
    assert_eq!(begun.load(Ordering::SeqCst), 60);
}

#[test]
fn one_slow_job_holds_up_no_other() {
    let (release, slow) = channel::<()>();
    let (tell, made) = channel();
    let (slow, tell) = (Mutex::new(slow), Mutex::new(tell));
    let make = move |job: usize| {
        if job == 0 {
            slow.lock().unwrap().recv().unwrap();
        }
        tell.lock().unwrap().send(job).unwrap();
        job
    };
    let mut items = Pipeline::map(0..40, 2, 30, make).unwrap();
    // The other thread does everything that may be done ahead.
    for job in 1..30 {
        assert_eq!(made.recv_timeout(LONG), Ok(job));
    }
    release.send(()).unwrap();
    assert!(items.by_ref().map(Result::unwrap).eq(0..40));
}

#[test]
fn a_panic_ends_it_after_the_items_that_are_ready() {
    let make = |job: usize| {
        assert!(job != 3, "a test");
        job
    };
    for workers in [1, 3] {
        // The error does not wait for the items that will never come.
        let mut items = Pipeline::map(0..100, workers, 50, make).unwrap();
        let came: Vec<_> = items.by_ref().collect();
        assert_eq!(came.last(), Some(&Err(Panicked)), "{workers}");
        assert!(came[..came.len() - 1].iter().copied().eq((0..came.len() - 1).map(Ok)));
        // A single thread has made all items before the panic.
        assert!(workers > 1 || came.len() == 4, "{came:?}");
        assert_eq!(items.next(), None);
    }
    let error = DataError::from(Panicked).to_string();
    assert_eq!(error, "the image loader stopped: a thread that loads images panicked");
}

#[test]
fn dropping_it_waits_for_what_has_begun_and_begins_no_more() {
    let (begun, ended) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (begun_by, ended_by) = (Arc::clone(&begun), Arc::clone(&ended));
    let (tell, began) = channel();
    let tell = Mutex::new(tell);
    let make = move |_: usize| {
        begun_by.fetch_add(1, Ordering::SeqCst);
        tell.lock().unwrap().send(()).unwrap();
        thread::sleep(Duration::from_millis(20));
        ended_by.fetch_add(1, Ordering::SeqCst);
    };
    let items = Pipeline::map(0..1000, 3, 1000, make).unwrap();
    began.recv_timeout(LONG).unwrap();
    drop(items);
    let (begun, ended) = (begun.load(Ordering::SeqCst), ended.load(Ordering::SeqCst));
    assert!(begun == ended && begun < 1000, "{begun} {ended}");
}
