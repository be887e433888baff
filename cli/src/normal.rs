//! Paths as they are shown and sent to the daemon: from the root, without `.` and `..`.

use std::{
    io,
    path::{Component, Path, PathBuf},
};

/// The path from the root. `..` goes to where it leads on the disk, also behind symbolic links; where there
/// is nothing yet it takes back the name before it. No other link is followed.
///
/// # Errors
/// When the path is empty, there is no current folder, or it begins with `~` and the shell has not put a home folder
/// there: nobody wants a folder of that name.
pub(crate) fn absolute(path: &Path) -> io::Result<PathBuf> {
    if let Some(home) = unknown_home(path) {
        let unknown = format!("the shell has put no home folder in the place of {home}");
        return Err(io::Error::new(io::ErrorKind::InvalidInput, unknown));
    }
    let absolute = std::path::absolute(path)?;
    let leads_back = |it: Component| it == Component::ParentDir;
    if path.file_name().is_none() && path.exists() {
        return path.canonicalize();
    }
    if !absolute.components().any(leads_back) {
        return Ok(absolute);
    }
    let mut normal = PathBuf::new();
    for component in absolute.components() {
        if leads_back(component) {
            normal = normal.canonicalize().unwrap_or(normal);
            normal.pop();
        } else {
            normal.push(component);
        }
    }
    Ok(normal)
}

/// `~` or `~user` with which a path begins, unless something has that name here.
fn unknown_home(path: &Path) -> Option<&str> {
    let first = path.components().next()?;
    let first = first.as_os_str().to_str()?;
    let is_there = || Path::new(first).symlink_metadata().is_ok();
    (first.starts_with('~') && !is_there()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_become_absolute_without_following_links() {
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("a b")).unwrap(), here.join("a b"));
        let resolved = here.canonicalize().unwrap();
        assert_eq!(absolute(Path::new(".")).unwrap(), resolved);
        assert_eq!(
            absolute(Path::new("..")).unwrap(),
            resolved.parent().unwrap()
        );
        assert!(absolute(Path::new("")).is_err());
    }

    #[test]
    fn what_should_have_been_a_home_folder_is_no_name() {
        for path in ["~nobody-of-that-name/x", "~/x", "~"] {
            let error = absolute(Path::new(path)).unwrap_err();
            assert!(error.to_string().contains('~'), "{error}");
        }
        let here = std::env::current_dir().unwrap();
        assert_eq!(absolute(Path::new("./~x/y")).unwrap(), here.join("~x/y"));
        assert_eq!(absolute(Path::new("x~/y")).unwrap(), here.join("x~/y"));
    }

    #[test]
    fn what_leads_back_is_gone_and_goes_where_the_disk_says() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().canonicalize().unwrap();
        std::fs::create_dir_all(root.join("far/away")).unwrap();
        std::os::unix::fs::symlink(root.join("far/away"), root.join("link")).unwrap();
        for (path, expected) in [
            ("run/../data", "data"),
            ("far/../data/x", "data/x"),
            ("link/../data", "far/data"),
            ("link/data", "link/data"),
        ] {
            assert_eq!(
                absolute(&root.join(path)).unwrap(),
                root.join(expected),
                "{path}"
            );
        }
    }
}
