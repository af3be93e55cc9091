//! What a run found, for people and for programs.

pub mod markdown;
pub mod plot;

use std::fs;
use std::path::Path;

use super::figures::Figures;
use super::system::System;

/// Writes `compare.json`, `compare.md` and the plots into a folder; answers the text of the second.
///
/// # Errors
/// A file can't be written.
pub fn write(figures: &Figures, systems: &[System], folder: &Path) -> Result<String, String> {
    let cannot = |error| format!("can't write to {}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(cannot)?;
    let json =
        serde_json::to_string_pretty(figures).map_err(|error| format!("no JSON: {error}"))?;
    fs::write(folder.join("compare.json"), json).map_err(cannot)?;
    let mut plots = Vec::new();
    for (name, title, svg) in plot::all(figures) {
        fs::write(folder.join(&name), svg).map_err(cannot)?;
        plots.push((name, title));
    }
    let text = markdown::page(figures, systems, &plots);
    fs::write(folder.join("compare.md"), &text).map_err(cannot)?;
    Ok(text)
}
