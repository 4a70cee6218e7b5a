//! `etl audit`: whether the log of changes is whole.

use etl_admin::verify_audit;
use serde_json::json;

use crate::arguments::AuditVerifyOptions;
use crate::exit::Exit;
use crate::output::{self, counted};

/// Runs the command.
pub fn verify(options: &AuditVerifyOptions) -> Result<(), Exit> {
    let folder = options.folder.admin_dir.join("audit");
    match (
        verify_audit(&folder, options.noted.as_deref()),
        options.json,
    ) {
        (Ok(verified), true) => output::print_json(&json!({
            "whole": true, "lines": verified.lines, "head": verified.head,
        })),
        (Ok(verified), false) => output::print(&format!(
            "{}: {}, whole, up to {}\n",
            folder.display(),
            counted(verified.lines, "line"),
            verified.head
        )),
        (Err(finding), json) => {
            if json {
                let mut value = finding.to_json();
                value["whole"] = false.into();
                output::print_json(&value)?;
            }
            Err(Exit::failed(format_args!("{finding}")))
        }
    }
}
