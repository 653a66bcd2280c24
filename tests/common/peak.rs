//! How much memory this process had at most; Linux alone tells.

/// The most memory that the process has had since [`forget_peak`], in bytes.
pub fn peak_bytes() -> i64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<i64>().unwrap() << 10
}

/// Begins anew, at what the process has now.
pub fn forget_peak() {
    std::fs::write("/proc/self/clear_refs", "5").unwrap();
}
