//! `pixtok doctor`: what this machine offers, what is missing, and how to fix it.

use anyhow::Result;

use super::print;
use crate::cli::DoctorArgs;
use crate::doctor;

/// Prints the report. An error, when the device asked for is absent or cannot compute.
pub(super) fn run(args: &DoctorArgs) -> Result<()> {
    let (report, device) = doctor::examine(args.device);
    // Printed before an absent device becomes the error: the report explains it.
    print(&report.to_string())?;
    doctor::check(device?)
}
