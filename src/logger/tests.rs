use std::fs;

use protobuf::Message;
use tensorboard_proto::event::{Event, SessionLog_SessionStatus};

use super::*;

const FRESH: LoggerOptions = LoggerOptions { total_steps: 10, start_step: 0, resumed: false, process: None };

fn one(name: &str, value: f64) -> Vec<(String, f64)> {
    vec![(name.to_owned(), value)]
}

/// The events of each event file of a folder, in the order in which TensorBoard reads them. A
/// record is its length (u64), the checksum of the length (u32), the message, and its checksum
/// (u32).
fn events_in(folder: &Path) -> Vec<Vec<Event>> {
    let names = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<_> = names.filter(|path| path.to_string_lossy().contains("tfevents")).collect();
    files.sort();
    files.iter().map(|file| records(&fs::read(file).unwrap())).collect()
}

fn records(mut bytes: &[u8]) -> Vec<Event> {
    let mut events = Vec::new();
    while !bytes.is_empty() {
        let length = u64::from_le_bytes(bytes[..8].try_into().unwrap()) as usize;
        events.push(Event::parse_from_bytes(&bytes[12..12 + length]).unwrap());
        bytes = &bytes[12 + length + 4..];
    }
    events
}

#[test]
fn a_value_reaches_both_files() {
    let run = tempfile::tempdir().unwrap();
    let mut logger = Logger::open(run.path(), FRESH).unwrap();
    logger.log(3, &one("loss/total", 0.25)).unwrap();
    let rows = fs::read_to_string(run.path().join(METRICS_FILE)).unwrap();
    assert_eq!(rows, "{\"step\":3,\"loss/total\":0.25}\n");
    let files = events_in(run.path());
    assert_eq!(files.len(), 1);
    assert_eq!(files[0][0].get_file_version(), "brain.Event:2");
    let value = &files[0][2].get_summary().get_value()[0];
    assert_eq!((files[0][2].get_step(), value.get_tag(), value.get_simple_value()), (3, "loss/total", 0.25));
}

#[test]
fn pictures_histograms_and_text_are_whole() {
    let run = tempfile::tempdir().unwrap();
    let mut logger = Logger::open(run.path(), FRESH).unwrap();
    logger.picture(4, "samples", 7, 5, b"png").unwrap();
    // Code i occurs i times, except for a gap at 5.
    let counts: Vec<(i64, i64)> = (1..1000).filter(|&code| code != 5).map(|code| (code, code)).collect();
    logger.histogram(4, "codes", 1000, &counts).unwrap();
    logger.text(0, "config", "a = 1\nb = \"*\"").unwrap();
    let events = &events_in(run.path())[0];
    let value = |i: usize| &events[i].get_summary().get_value()[0];
    let picture = value(2).get_image();
    assert_eq!((picture.get_width(), picture.get_height()), (7, 5));
    let histogram = value(3).get_histo();
    assert_eq!(histogram.get_bucket().len(), 250);
    assert_eq!(histogram.get_bucket()[1], 4.0 + 6.0 + 7.0);
    assert_eq!(histogram.get_bucket_limit()[249], 1000.0);
    assert_eq!(histogram.get_num(), (999.0 * 1000.0) / 2.0 - 5.0);
    assert_eq!(value(4).get_tensor().get_string_val()[0], b"    a = 1\n    b = \"*\"\n");
}

#[test]
fn resuming_drops_what_came_after_the_checkpoint() {
    let run = tempfile::tempdir().unwrap();
    let mut logger = Logger::open(run.path(), FRESH).unwrap();
    for step in 1..=4 {
        logger.log(step, &one("x", 0.0)).unwrap();
    }
    drop(logger);
    // Within the same second: the new event file must neither replace the old one nor sort before
    // it.
    for (start_step, first_step, kept) in [(2, 3, 2), (0, 0, 0)] {
        drop(Logger::open(run.path(), LoggerOptions { start_step, resumed: true, ..FRESH }).unwrap());
        let rows = fs::read_to_string(run.path().join(METRICS_FILE)).unwrap();
        assert_eq!(rows.lines().count(), kept);
        let files = events_in(run.path());
        assert_eq!(files[0].len(), 6, "the first file is as it was");
        let start = files.last().unwrap().last().unwrap();
        assert_eq!(start.get_session_log().get_status(), SessionLog_SessionStatus::START);
        assert_eq!(start.get_step(), first_step);
    }
    assert_eq!(events_in(run.path()).len(), 3);
}

#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_once_and_again_after_it_was_mended() {
    let run = tempfile::tempdir().unwrap();
    let metrics = run.path().join(METRICS_FILE);
    std::os::unix::fs::symlink("/dev/full", &metrics).unwrap();
    let mut logger = Logger::open(run.path(), FRESH).unwrap();
    let error = logger.log(1, &one("x", 0.0)).unwrap_err();
    assert!(error.to_string().contains("No space left on device"), "{error}");
    assert!(logger.log(2, &one("x", 0.0)).is_ok(), "told already");
    assert_eq!(events_in(run.path())[0].len(), 4, "the other sink goes on");

    fs::remove_file(&metrics).unwrap();
    logger.files.as_mut().unwrap().rows = Rows::open(&metrics).unwrap();
    logger.log(3, &one("x", 0.0)).unwrap();
    assert_eq!(fs::read_to_string(&metrics).unwrap(), "{\"step\":3,\"x\":0.0}\n");
    assert!(!logger.rows_failing);
}

#[test]
fn a_torn_record_is_taken_back() {
    use std::io::Write;

    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("log");
    let mut file = append::AppendFile::new(&path, fs::File::create(&path).unwrap()).unwrap();
    file.append(b"whole\n").unwrap();
    // The state after a write that failed midway and could not be undone at once.
    fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(b"torn").unwrap();
    file.append(b"another\n").unwrap();
    assert_eq!(fs::read(&path).unwrap(), b"whole\nanother\n");
}

#[test]
fn a_process_that_leaves_the_files_to_another_writes_only_its_own_rows() {
    let run = tempfile::tempdir().unwrap();
    let own = LoggerOptions { process: Some(3), ..FRESH };
    let mut logger = Logger::beside(run.path(), own).unwrap();
    logger.log_process(3, &one("speed/images_per_sec", 7.5)).unwrap();
    logger.log_process(4, &one("speed/images_per_sec", 7.0)).unwrap();
    logger.log(3, &one("loss/total", 0.25)).unwrap();
    logger.picture(4, "samples", 7, 5, b"png").unwrap();
    logger.histogram(4, "codes", 5, &[(1, 2)]).unwrap();
    logger.text(0, "config", "a = 1").unwrap();
    logger.progress(5, &[("loss", 0.25)]);
    logger.note("nothing");
    drop(logger);
    assert_eq!(fs::read_dir(run.path()).unwrap().count(), 1);
    let path = run.path().join("processes/3.jsonl");
    let (first, second) =
        ("{\"step\":3,\"speed/images_per_sec\":7.5}\n", "{\"step\":4,\"speed/images_per_sec\":7.0}\n");
    assert_eq!(fs::read_to_string(&path).unwrap(), format!("{first}{second}"));
    let resumed = LoggerOptions { start_step: 3, resumed: true, ..own };
    drop(Logger::beside(run.path(), resumed).unwrap());
    assert_eq!(fs::read_to_string(&path).unwrap(), first);
}
