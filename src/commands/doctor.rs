//! `pixtok doctor`: reports what this machine offers, what is missing, and how to fix it.

use anyhow::Result;

use super::print;
use crate::cli::DoctorArgs;
use crate::doctor;

/// Prints the report. An error if the requested device does not exist or cannot compute.
pub(super) fn run(args: &DoctorArgs) -> Result<()> {
    let (report, device) = doctor::examine(args.device);
    // Printed before the error about a missing device, because the report explains it.
    print(&report.to_string())?;
    doctor::check(device?)
}
