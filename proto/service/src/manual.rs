//! Manual pages and shell completions, made of the command line.

use std::io::{self, Write};
use std::path::Path;

use clap::Command;
use clap::builder::Resettable;
use clap_complete::Shell;
use clap_mangen::Man;

/// Writes the manual pages of `command` and of its subcommands into `folder`, which is made where
/// it is missing; `more` is added to the first one. They are `NAME.1` and `NAME-SUBCOMMAND.1`.
///
/// # Errors
///
/// When the folder cannot be written to.
pub fn write_pages(command: Command, folder: &Path, more: &str) -> io::Result<()> {
    std::fs::create_dir_all(folder)?;
    let mut command = command.disable_help_subcommand(true);
    command.build();
    let name = command.get_name().to_owned();
    let subcommands: Vec<_> = command.get_subcommands().cloned().collect();
    write_page(command, folder, &format!("{name}.1"), more)?;
    for subcommand in subcommands {
        if subcommand.is_hide_set() {
            continue;
        }
        let file = format!("{name}-{}.1", subcommand.get_name());
        let title = format!("{name}-{}", subcommand.get_name());
        write_page(subcommand.display_name(title), folder, &file, "")?;
    }
    Ok(())
}

fn write_page(command: Command, folder: &Path, file: &str, more: &str) -> io::Result<()> {
    let mut page = Vec::new();
    let examples = command.get_before_help().map(ToString::to_string);
    let man = Man::new(command.before_help(Resettable::Reset));
    man.render(&mut page)?;
    if let Some(examples) = examples {
        section(&mut page, &examples)?;
    }
    page.write_all(more.as_bytes())?;
    std::fs::write(folder.join(file), page)
}

/// `Examples:` and lines of them.
fn section(page: &mut Vec<u8>, examples: &str) -> io::Result<()> {
    writeln!(page, ".SH EXAMPLES\n.nf")?;
    for line in examples.lines().skip(1) {
        writeln!(
            page,
            "{}",
            line.trim_start().replace('\\', "\\e").replace('-', "\\-")
        )?;
    }
    writeln!(page, ".fi")
}

/// The script that completes options and subcommands in `shell`.
pub fn completions(shell: Shell, mut command: Command) -> Vec<u8> {
    let name = command.get_name().to_owned();
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, name, &mut script);
    script
}
