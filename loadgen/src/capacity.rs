//! placeholder
use crate::cli::CapacityArgs;
pub fn command(_: &CapacityArgs) -> Result<bool, String> {
    Err(String::new())
}
